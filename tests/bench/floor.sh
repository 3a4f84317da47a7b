#!/usr/bin/env bash
# The noise floor at the published sizes: how far the reference implementation is from PyTorch on the same weights, layer by
# layer, at every number of every point.
#
#   DEBERTA_INTEROP_PT=PYTHON tests/bench/floor.sh [CASE …]
#
# PYTHON has golden/generate/requirements-pt.txt. CASE is a folder of golden/sizes; base, large and xlarge when not given.
# Records whole traces of 16, 128 and padded tokens, and prints for each model and group of layers the largest error as a
# share of the largest number of its tensor, the root mean square of the errors as a share of the tolerance, and the largest
# error as a share of the tolerance. Takes minutes; xlarge 4 GB of disk and 6 GB of memory.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
python=${DEBERTA_INTEROP_PT:?a Python interpreter with torch and transformers}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PYTHONDONTWRITEBYTECODE=1

cd "$here/../.."
cases=("$@")
if [[ ${#cases[@]} == 0 ]]; then cases=(base large xlarge); fi
cargo build --release --quiet -p deberta-converters -p deberta-golden
bin=${CARGO_TARGET_DIR:-target}/release

printf '| case | layers | of the largest number | rms of the tolerance | of the tolerance |\n|---|---|---|---|---|\n'
for case in "${cases[@]}"; do
    DEBERTA_INPUTS="n16 n128 padded" "$python" golden/generate/record_sizes.py --whole "$scratch" "$case" >&2
    read -r config head < <(sed -n 's/^model: {recipe: [^,]*, config: \([^,]*\), head: \([^,]*\),.*/\1 \2/p' "$scratch/$case/case.yaml")
    mkdir "$scratch/model" "$scratch/golden"
    "$bin/deberta-convert" init --config "$config" --head "$head" -o "$scratch/model/" >&2
    mv "$scratch/$case"/*.safetensors "$scratch/golden/"
    "$bin/deberta-verify" --model "$scratch/model" --golden "$scratch/golden" --backend reference --no-diagnosis --json >"$scratch/report.json" || true
    "$python" - "$case" "$scratch" <<'PYTHON'
import json, math, re, sys
from collections import defaultdict
from pathlib import Path
from safetensors import safe_open
case, scratch = sys.argv[1:]
report = json.loads((Path(scratch) / "report.json").read_text())
worst = defaultdict(lambda: [0.0, 0.0, 0.0, ""])
layers = 0
for run in report["files"][0]["runs"]:
    with safe_open(Path(scratch) / "golden" / run["trace"], "numpy") as golden:
        for point in run["points"]:
            name, real = point["name"], point["real"]
            found = re.search(r"layer\.(\d+)|attentions\.(\d+)|hidden_states\.(\d+)", name)
            layer = -1
            if found:
                layer = int(found[1] or found[2] or 0) if not found[3] else int(found[3]) - 1
            if "layer." not in name and "hidden_states" not in name and "attentions" not in name:
                layer = -1 if "embeddings" in name else 10**6
            if 0 <= layer < 10**6:
                layers = max(layers, layer + 1)
            values = golden.get_tensor(name)
            largest = float(abs(values).max())
            tolerance = point["tolerance"]
            rms = math.sqrt(float((values.astype("f8") ** 2).mean()))
            one = tolerance["atol"] + tolerance["rtol"] * rms + tolerance["scale"] * largest
            error = rms / 10 ** (float(real["sqnr_db"]) / 20) if real["sqnr_db"] != "Infinity" else 0.0
            entry = worst[layer]
            entry[0] = max(entry[0], real["max_abs"] / largest)
            entry[1] = max(entry[1], error / one)
            if float(real["share"]) > entry[2]:
                entry[2], entry[3] = float(real["share"]), f"{name} of {run['trace']}"
step = max(layers // 6, 1)
groups = [("embeddings", [-1])]
groups += [(f"{a} to {a + step - 1}" if step > 1 else str(a), list(range(a, a + step))) for a in range(0, layers, step)]
groups += [("head, outputs", [10**6])]
for label, members in groups:
    found = [worst[layer] for layer in members if layer in worst]
    if found:
        columns = [max(entry[column] for entry in found) for column in range(3)]
        print(f"| {case} | {label} | {columns[0]:.1e} | {columns[1]:.3f} | {columns[2]:.2f} |")
last = max(worst.values(), key=lambda entry: entry[2])
print(f"{case}: {report['outcome']}; the largest share is at {last[3]}", file=sys.stderr)
PYTHON
    rm -rf "${scratch:?}"/*
done
