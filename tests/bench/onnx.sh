#!/usr/bin/env bash
# The exported DebertaModel of deberta-base's size in ONNX Runtime against what torch.onnx.export makes of the same weights, in
# turn, two threads each; and the time of the export against copying the weights and syncing the copy.
#
#   DEBERTA_INTEROP_PT=PYTHON tests/bench/onnx.sh [RUNS]
#
# PYTHON has the packages of tests/interop/onnx/README.md. Needs 3 GB in $TMPDIR.
set -euo pipefail
cd "$(dirname "$0")/../.."
runs=${1:-20}
python=${DEBERTA_INTEROP_PT:?a Python interpreter with torch, transformers, onnx and onnxruntime}
cargo build --quiet --release -p deberta-converters --bin deberta-convert
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bench() { "$python" tests/bench/onnx_graph.py "$@"; }
bench make "$work"
bench export "$work" "${CARGO_TARGET_DIR:-target}/release/deberta-convert"
for tokens in 16 128 512; do bench run "$work" "$tokens" "$runs"; done
