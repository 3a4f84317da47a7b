#!/usr/bin/env bash
# The forward pass of DebertaModel at deberta-base's size against PyTorch's, in turn, two threads each.
#
#   DEBERTA_INTEROP_PT=PYTHON tests/bench/forward.sh [RUNS]
#
# PYTHON has torch and transformers as tests/fixtures/generate/requirements-pt.txt pins them. Prints a table: median
# milliseconds of both, the ratio, and the memory of deberta-verify, mapped weights included.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
runs=${1:-8}
python=${DEBERTA_INTEROP_PT:?a Python interpreter with torch and transformers}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

cd "$here/../.."
cargo build --release --quiet -p deberta-golden
cargo run --release --quiet -p deberta-tests --example make_checkpoint -- "$here/base.json" "$scratch"
verify=${CARGO_TARGET_DIR:-target}/release/deberta-verify

printf '| batch x tokens | PyTorch ms | ours ms | ratio | load ms | memory MB |\n|---|---|---|---|---|---|\n'
for size in '1 16' '1 128' '1 512' '8 128'; do
    read -r batch tokens <<<"$size"
    pytorch=$("$python" "$here/forward.py" "$scratch" "$batch" "$tokens" "$runs")
    ours=$("$verify" bench --model "$scratch" --batch "$batch" --seq "$tokens" --runs "$runs" --threads 2 --format json 2>/dev/null)
    "$python" - "$batch" "$tokens" "$pytorch" "$ours" <<'PYTHON'
import json, sys
batch, tokens, pytorch, ours = sys.argv[1:]
pytorch, ours = float(pytorch), json.loads(ours)
print(f"| {batch} x {tokens} | {pytorch:.0f} | {ours['median_ms']:.0f} | {ours['median_ms'] / pytorch:.2f} "
      f"| {ours['load_ms']:.0f} | {ours['peak_memory_bytes'] / 1e6:.0f} |")
PYTHON
done
