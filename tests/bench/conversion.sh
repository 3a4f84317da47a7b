#!/usr/bin/env bash
# Times every conversion of a base-size masked LM against copying its input and syncing the copy, in turn, and prints the
# median of the ratios and the peak of anonymous memory.
#
#   tests/bench/conversion.sh [RUNS]        default 5; needs 3 GB in $TMPDIR and Python 3 for the arithmetic
set -euo pipefail
cd "$(dirname "$0")/../.."
runs=${1:-5}
cargo build --quiet --release --bin deberta-convert
target=${CARGO_TARGET_DIR:-target}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cargo run --quiet --release -p deberta-tests --example make_checkpoint -- tests/bench/base.json "$work/st"
"$target/release/deberta-convert" st2pt "$work/st" -o "$work/pt/" >/dev/null
"$target/release/deberta-convert" st2tf "$work/st" -o "$work/tf/" >/dev/null
python3 - "$target/release/deberta-convert" "$work" "$runs" <<'PY'
import os, shutil, statistics, subprocess, sys, time

program, work, runs = sys.argv[1], sys.argv[2], int(sys.argv[3])
inputs = {"pt": "pt/pytorch_model.bin", "tf": "tf/tf_model.h5", "st": "st/model.safetensors"}
out = os.path.join(work, "out")


def timed(command):
    shutil.rmtree(out, ignore_errors=True)
    os.mkdir(out)
    subprocess.run(["sync", "-f", out], check=True)
    start, anonymous = time.perf_counter(), 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            with open(f"/proc/{process.pid}/status") as status:
                sizes = [int(line.split()[1]) for line in status if line.startswith("RssAnon")]
            anonymous = max([anonymous, *sizes])
        except FileNotFoundError:
            pass
        time.sleep(0.005)
    if process.returncode:
        sys.exit(f"{command} failed")
    return time.perf_counter() - start, anonymous


print(f"{'':6} {'copy s':>8} {'convert s':>10} {'ratio':>6} {'anonymous MB':>13}")
for source in inputs:
    for target in (name for name in inputs if name != source):
        path = os.path.join(work, inputs[source])
        copies, conversions, ratios, peak = [], [], [], 0
        for _ in range(runs + 1):
            copy, _ = timed(["sh", "-c", f"cat '{path}' > '{out}/copy' && sync -f '{out}/copy'"])
            conversion, anonymous = timed([program, f"{source}2{target}", path, "-o", out + "/"])
            copies.append(copy)
            conversions.append(conversion)
            ratios.append(conversion / copy)
            peak = max(peak, anonymous)
        # The first pair warms the cache and does not count.
        median = [statistics.median(values[1:]) for values in (copies, conversions, ratios)]
        print(f"{source}2{target}  {median[0]:8.2f} {median[1]:10.2f} {median[2]:6.2f} {peak / 1024:13.1f}")
PY
