#!/usr/bin/env bash
# How long deberta-verify takes for a masked LM of deberta-base's size and a golden of 128 tokens with every point.
#
#   tests/bench/verify.sh [RUNS]
#
# Prints a line a run: seconds of the whole process and its peak memory, mapped weights included. The files are in the page
# cache; the golden is deberta-verify's own recording. Then the same for a model whose kernel in the sixth layer is
# transposed: with the diagnosis.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
runs=${1:-5}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

cd "$here/../.."
cargo build --release --quiet -p deberta-golden
cargo run --release --quiet -p deberta-tests --example make_checkpoint -- "$here/base.json" "$scratch/model"
verify=${CARGO_TARGET_DIR:-target}/release/deberta-verify

mkdir "$scratch/golden"
python3 - "$here" "$scratch" <<'PYTHON'
import json, struct, sys
from pathlib import Path
here, scratch = map(Path, sys.argv[1:])
vocabulary, tokens = json.loads((here / "base.json").read_text())["vocab_size"], 128
ids = struct.pack(f"<{tokens}q", *((7919 * i + 11) % vocabulary for i in range(tokens)))
header = json.dumps({"inputs.input_ids": {"dtype": "I64", "shape": [1, tokens], "data_offsets": [0, len(ids)]}}).encode()
(scratch / "inputs.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + ids)

# The same weights with one square kernel transposed.
name = "deberta.encoder.layer.5.attention.output.dense.weight"
data = bytearray((scratch / "model/model.safetensors").read_bytes())
length = struct.unpack("<Q", data[:8])[0]
entry = json.loads(data[8:8 + length])[name]
(rows, columns), (start, end) = entry["shape"], entry["data_offsets"]
start += 8 + length
values = struct.unpack_from(f"<{rows * columns}f", data, start)
struct.pack_into(f"<{rows * columns}f", data, start, *(values[c * columns + r] for r in range(rows) for c in range(columns)))
(scratch / "transposed").mkdir()
(scratch / "transposed/model.safetensors").write_bytes(data)
(scratch / "transposed/config.json").write_bytes((scratch / "model/config.json").read_bytes())
PYTHON
"$verify" record --model "$scratch/model" --inputs "$scratch/inputs.safetensors" -o "$scratch/golden/all.safetensors"

for model in model transposed; do
    for ((run = 0; run < runs; run++)); do
        python3 - "$verify" --model "$scratch/$model" --golden "$scratch/golden" <<'PYTHON'
import os, subprocess, sys, time
start = time.monotonic()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)
last = process.stdout.read().decode().splitlines()[-1]
_, status, used = os.wait4(process.pid, 0)
seconds = time.monotonic() - start
print(f"{seconds:.2f} s, {used.ru_maxrss * 1024 / 1e6:.0f} MB, exit {os.waitstatus_to_exitcode(status)}: {last}")
PYTHON
    done
done
