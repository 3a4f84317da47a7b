#!/usr/bin/env bash
# How far the reference implementation is from PyTorch on models that agree: what the default tolerances are derived from.
#
#   DEBERTA_INTEROP_PT=PYTHON tests/bench/noise.sh [1|2 …]
#
# 1 are models of version 1, 2 those of versions 2 and 3, with a convolution from 24 layers on; both when not given. PYTHON
# has torch and transformers as golden/generate/requirements-pt.txt pins them. For each model, stored as f32, f16 and bf16,
# prints the largest error as a share of the largest number of its tensor, and as a share of what the default tolerance
# allows. Takes some minutes and 2 GB.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
python=${DEBERTA_INTEROP_PT:?a Python interpreter with torch and transformers}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PYTHONDONTWRITEBYTECODE=1

cd "$here/../.."
cargo build --release --quiet -p deberta-golden
verify=${CARGO_TARGET_DIR:-target}/release/deberta-verify

versions=("$@")
if [[ ${#versions[@]} == 0 ]]; then versions=(1 2); fi
printf '| version | layers x width | weights | stored as | of the largest number | of the tolerance | outcome |\n|---|---|---|---|---|---|---|\n'
for version in "${versions[@]}"; do
    for size in '12 768 12' '24 512 8' '48 384 6'; do
        for weights in initial large outliers; do
            # shellcheck disable=SC2086
            "$python" "$here/noise.py" "$version" $size "$weights" "$scratch"
            for dtype in f32 f16 bf16; do
                "$verify" --model "$scratch/$dtype" --golden "$scratch/golden" --no-diagnosis --json >"$scratch/report.json" || true
                "$python" - "$version" "$size" "$weights" "$dtype" "$scratch" <<'PYTHON'
import json, sys
from pathlib import Path
from safetensors.numpy import load_file
version, size, weights, dtype, scratch = sys.argv[1:]
layers, width, _ = size.split()
report = json.loads((Path(scratch) / "report.json").read_text())
shares, errors = [0.0], [0.0]
for run in report["files"][0]["runs"]:
    golden = load_file(Path(scratch) / "golden" / run["trace"])
    for point in run["points"]:
        real = point["real"]
        shares.append(float(real["share"]))
        errors.append(real["max_abs"] / float(abs(golden[point["name"]]).max()))
print(f"| {version} | {layers} x {width} | {weights} | {dtype} | {max(errors):.1e} | {max(shares):.2f} | {report['outcome']} |")
PYTHON
            done
            rm -rf "${scratch:?}"/*
        done
    done
done
