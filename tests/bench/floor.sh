#!/usr/bin/env bash
# The noise floor at the published sizes: how far the reference implementation is from PyTorch on the same weights, layer by
# layer, at every number of every point.
#
#   DEBERTA_INTEROP_PT=PYTHON tests/bench/floor.sh [CASE …]
#
# PYTHON has golden/generate/requirements-pt.txt. CASE is a folder of golden/sizes; base, large and xlarge when not given.
# Records whole traces of 16, 128 and padded tokens, and prints for each model and group of layers, counted from 1, the
# largest error as a share of the largest number of its tensor; as shares of the tolerance, the largest error of modules, and
# that of attention probabilities and contexts; and the root mean square of the errors of a tensor. Takes minutes; xlarge
# 5 GB of disk and 6 GB of memory.
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

printf '| case | layers | of the largest number | modules | probabilities, contexts | rms |\n|---|---|---|---|---|---|\n'
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
# By layer (-1: embeddings, HEAD: what follows the layers): largest error by the largest number, by the tolerance, of
# probabilities and contexts by the tolerance, root mean square of the errors by the tolerance.
HEAD = 10**6
worst = defaultdict(lambda: [0.0] * 4)
for run in report["files"][0]["runs"]:
    with safe_open(Path(scratch) / "golden" / run["trace"], "numpy") as golden:
        for point in run["points"]:
            name, real, tolerance = point["name"], point["real"], point["tolerance"]
            found = re.search(r"layer\.(\d+)|attentions\.(\d+)|hidden_states\.(\d+)", name)
            if not found:
                # The convolution follows the first layer.
                before = "embeddings" in name or name.endswith("encoder.LayerNorm")
                layer = 0 if "encoder.conv" in name else -1 if before else HEAD
            else:
                layer = int(found[3]) - 1 if found[3] else int(found[1] or found[2])
            values = golden.get_tensor(name)
            largest, rms = float(abs(values).max()), math.sqrt(float((values.astype("f8") ** 2).mean()))
            one = tolerance["atol"] + tolerance["rtol"] * rms + tolerance["scale"] * largest
            sqnr = float(real["sqnr_db"].replace("Infinity", "inf") if isinstance(real["sqnr_db"], str) else real["sqnr_db"])
            softmax = bool(re.search(r"attentions\.\d+$|\.probs$|attention\.self$", name))
            entry = worst[layer]
            entry[0] = max(entry[0], real["max_abs"] / largest)
            entry[2 if softmax else 1] = max(entry[2 if softmax else 1], float(real["share"]))
            entry[3] = max(entry[3], rms * 10 ** (-sqnr / 20) / one)
layers = max(layer for layer in worst if layer < HEAD) + 1
step = max(layers // 6, 1)
groups = [("embeddings", [-1])]
groups += [(f"{a + 1} to {a + step}", range(a, a + step)) for a in range(0, layers, step)]
groups += [("head, outputs", [HEAD])]
for label, members in groups:
    found = [worst[layer] for layer in members if layer in worst]
    if found:
        largest, modules, softmax, rms = (max(entry[column] for entry in found) for column in range(4))
        print(f"| {case} | {label} | {largest:.1e} | {modules:.2f} | {softmax:.2f} | {rms:.3f} |")
print(f"{case}: {report['outcome']}", file=sys.stderr)
PYTHON
    rm -rf "${scratch:?}"/*
done
