#!/usr/bin/env bash
# The forward pass of DebertaModel or DebertaV2Model against those of PyTorch, ONNX Runtime (on torch.onnx.export's graph and on
# ours), rten (on ours) and, for version 2 and 3, candle: one process at a time, in turn, two threads each.
#
#   DEBERTA_INTEROP_PT=PYTHON tests/bench/peers.sh [base|v3-base|CONFIG [ROUNDS [RUNS]]]
#
# PYTHON has the packages of tests/interop/onnx/README.md. Prints a table: median milliseconds of ROUNDS rounds of RUNS runs, and in
# brackets the median of the rounds' ratios, ours to the peer's. Needs 4 GB in $TMPDIR and a machine on which nothing else runs.
set -euo pipefail
cd "$(dirname "$0")/../.."
size=${1:-base}
rounds=${2:-5}
runs=${3:-5}
python=${DEBERTA_INTEROP_PT:?a Python interpreter with torch, transformers, onnx and onnxruntime}
case $size in
    base) config=tests/bench/base.json ;;
    v3-base) config=converters/src/recipe/sizes/v3-base.json ;;
    *) config=$size ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

programs=${CARGO_TARGET_DIR:-target}/release
cargo build --quiet --release -p deberta-converters -p deberta-golden --bins
cargo run --quiet --release -p deberta-tests --example make_checkpoint -- "$config" "$work"
candle=
if grep -q deberta-v2 "$config"; then
    cargo build --quiet --release --manifest-path tests/bench/candle/Cargo.toml --target-dir "$programs/candle"
    candle=$programs/candle/release/candle-peer
fi
"$python" tests/bench/peers.py export "$work" >/dev/null 2>&1
"$programs/deberta-convert" st2onnx "$work/model.safetensors" --drop-head -o "$work/ours.onnx" >/dev/null
"$python" tests/bench/peers.py table "$work" "$programs/deberta-verify" "$rounds" "$runs" "$candle"
