#!/usr/bin/env bash
# The exported base model of deberta-base's or deberta-v3-base's size in ONNX Runtime against what torch.onnx.export makes of the
# same weights, in turn, five times RUNS runs in a process with two threads; and the time of the export against copying the
# weights and syncing the copy.
#
#   DEBERTA_INTEROP_PT=PYTHON tests/bench/onnx.sh [base|v3-base [RUNS]]
#
# PYTHON has the packages of tests/interop/onnx/README.md. Needs 3 GB in $TMPDIR.
set -euo pipefail
cd "$(dirname "$0")/../.."
size=${1:-base}
runs=${2:-10}
python=${DEBERTA_INTEROP_PT:?a Python interpreter with torch, transformers, onnx and onnxruntime}
cargo build --quiet --release -p deberta-converters --bin deberta-convert
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bench() { "$python" tests/bench/onnx_graph.py "$@"; }
bench make "$work" "$size"
bench export "$work" "${CARGO_TARGET_DIR:-target}/release/deberta-convert"
for shape in '1 16' '1 128' '1 512' '8 128' '32 64'; do
    # shellcheck disable=SC2086 # two numbers
    bench run "$work" $shape "$runs"
done
