#!/usr/bin/env bash
# The forward pass of the base model at deberta-base's size, or of another configuration, against PyTorch's and against ONNX
# Runtime's of what torch.onnx.export makes of it, in turn, two threads each.
#
#   DEBERTA_INTEROP_PT=PYTHON tests/bench/forward.sh [RUNS [CONFIG]]
#
# PYTHON has torch and transformers as tests/fixtures/generate/requirements-pt.txt pins them, onnx and onnxruntime. Prints a
# table: median milliseconds, the ratios, and the memory of deberta-verify, mapped weights included.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
runs=${1:-8}
config=$(realpath "${2:-$here/base.json}")
python=${DEBERTA_INTEROP_PT:?a Python interpreter with torch, transformers, onnx and onnxruntime}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

cd "$here/../.."
cargo build --release --quiet -p deberta-golden
cargo run --release --quiet -p deberta-tests --example make_checkpoint -- "$config" "$scratch"
verify=${CARGO_TARGET_DIR:-target}/release/deberta-verify
"$python" "$here/forward.py" export "$scratch" >/dev/null 2>&1

printf '| batch x tokens | PyTorch ms | ONNX Runtime ms | ours ms | to PyTorch | to ONNX Runtime | load ms | memory MB |\n'
printf '|---|---|---|---|---|---|---|---|\n'
for size in '1 16' '1 128' '1 512' '8 128' '32 64' '32 64 8:64'; do
    read -r batch tokens lengths <<<"$size"
    pytorch=$("$python" "$here/forward.py" pytorch "$scratch" "$batch" "$tokens" "$runs" ${lengths:+"$lengths"} 2>/dev/null)
    onnxruntime=$("$python" "$here/forward.py" onnxruntime "$scratch" "$batch" "$tokens" "$runs" ${lengths:+"$lengths"})
    ours=$("$verify" bench --model "$scratch/model.safetensors" --batch "$batch" --seq "$tokens" --runs "$runs" --threads 2 --format json ${lengths:+--lengths "$lengths"} 2>/dev/null)
    "$python" - "$batch" "$tokens${lengths:+ ($lengths)}" "$pytorch" "$onnxruntime" "$ours" <<'PYTHON'
import json, sys
batch, tokens, pytorch, onnxruntime, ours = sys.argv[1:]
pytorch, onnxruntime, ours = float(pytorch), float(onnxruntime), json.loads(ours)
median = ours["median_ms"]
print(f"| {batch} x {tokens} | {pytorch:.0f} | {onnxruntime:.0f} | {median:.0f} | {median / pytorch:.2f} "
      f"| {median / onnxruntime:.2f} | {ours['load_ms']:.0f} | {ours['peak_memory_bytes'] / 1e6:.0f} |")
PYTHON
done
