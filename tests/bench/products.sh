#!/usr/bin/env bash
# The product of linear layers of deberta-base's size against MKL's, two threads each: GFLOP/s, and the ratio of three rounds.
#
#   DEBERTA_INTEROP_PT=PYTHON tests/bench/products.sh
#
# PYTHON has torch. For MKL without AVX-512: MKL_ENABLE_INSTRUCTIONS=AVX2 before the command.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${DEBERTA_INTEROP_PT:?a Python interpreter with torch}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for round in 1 2 3; do
    RAYON_NUM_THREADS=2 cargo bench --quiet --package deberta-reference --bench products >"$work/ours.$round"
    "$python" tests/bench/products.py >"$work/mkl.$round"
done
"$python" - "$work" <<'PYTHON'
import statistics, sys
from pathlib import Path

def read(name):
    lines = Path(sys.argv[1], name).read_text().splitlines()
    return {tuple(map(int, line.split()[:3])): float(line.split()[3]) for line in lines}

ours, mkl = ([read(f"{name}.{round}") for round in (1, 2, 3)] for name in ("ours", "mkl"))
print("| tokens | in | out | ours | MKL | ratio |\n|---|---|---|---|---|---|")
for shape in ours[0]:
    one, other = ([known[shape] for known in rounds] for rounds in (ours, mkl))
    ratio = statistics.median(a / b for a, b in zip(one, other))
    print(f"| {' | '.join(map(str, shape))} | {statistics.median(one):.0f} | {statistics.median(other):.0f} | {ratio:.2f} |")
PYTHON
