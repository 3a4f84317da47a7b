#!/usr/bin/env bash
# Takes pictures of the HTML report of a passing and of a failing model, wide and as narrow as a phone, light and dark:
#   tests/browser/screenshots.sh FOLDER
# Needs Chromium and Python. Look at the pictures: nothing is compared.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:?which folder?}
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A sequence of three tokens, two of padding, recorded by PyTorch; and the same model with one weight changed.
cp -r golden/data/model "$work/passing"
cp -r golden/data/model "$work/failing"
python3 - "$work/failing/model.safetensors" <<'PYTHON'
import json, struct, sys
data = bytearray(open(sys.argv[1], "rb").read())
start = 8 + struct.unpack("<Q", data[:8])[0]
header = json.loads(data[8:start])
at = start + header["encoder.layer.1.attention.self.in_proj.weight"]["data_offsets"][0] + 40
data[at : at + 4] = struct.pack("<f", struct.unpack("<f", data[at : at + 4])[0] + 0.01)
open(sys.argv[1], "wb").write(data)
PYTHON

cargo build --quiet --bin deberta-verify
program=${CARGO_TARGET_DIR:-target}/debug/deberta-verify
for model in passing failing; do
    "$program" --model "$work/$model" --report "$out/$model.html" >"$out/$model.txt" || true
    # A narrower window than 500 is not given: a frame of the width of a phone is.
    page=$(cd "$out" && pwd)/$model.html
    printf '<body style="margin:0"><iframe src="file://%s" style="width:390px;height:1800px;border:0"></iframe>' "$page" >"$work/$model-phone.html"
    for scheme in light dark; do
        # 0 is dark, 1 is light.
        options=(--headless --no-sandbox --disable-gpu --hide-scrollbars --allow-file-access-from-files
            "--blink-settings=preferredColorScheme=$([ $scheme = light ] && echo 1 || echo 0)")
        chromium "${options[@]}" --window-size=1280,1800 --screenshot="$out/$model-$scheme.png" "file://$page" 2>/dev/null
        chromium "${options[@]}" --window-size=500,1800 --screenshot="$out/$model-$scheme-phone.png" "file://$work/$model-phone.html" 2>/dev/null
    done
done
ls "$out"
