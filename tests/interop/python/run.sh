#!/usr/bin/env bash
# Checks the wheel of golden/python as a user gets it: pip builds and installs it in a new virtual environment, in so many
# seconds and of such a size; an archive of its sources builds, too; its programs do what the native ones do; its models compute
# what PyTorch does.
#
# DEBERTA_INTEROP_PT             a Python interpreter with torch and transformers, to compare with
# DEBERTA_VERIFY, DEBERTA_CONVERT   programs to compare with instead of release builds
set -euo pipefail
shopt -s inherit_errexit
root=$(cd "$(dirname "$0")/../../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 HF_HUB_OFFLINE=1

if [[ -z ${DEBERTA_VERIFY:-} || -z ${DEBERTA_CONVERT:-} ]]; then
    cargo build --quiet --release --locked --manifest-path "$root/Cargo.toml"
    programs=${CARGO_TARGET_DIR:-$root/target}/release
    DEBERTA_VERIFY=$programs/deberta-verify DEBERTA_CONVERT=$programs/deberta-convert
fi
export DEBERTA_VERIFY DEBERTA_CONVERT

echo '== the wheel'
python3 -m venv "$scratch/v"
started=$SECONDS
"$scratch/v/bin/pip" wheel --quiet --no-deps --wheel-dir "$scratch/dist" "$root/golden/python"
echo "built in $((SECONDS - started)) s, $(stat -c %s "$scratch"/dist/*.whl) bytes"
"$scratch/v/bin/pip" install --quiet "$scratch"/dist/*.whl pytest mypy tqdm
for program in "$DEBERTA_CONVERT" "$scratch/v/bin/deberta-convert"; do
    "$program" --version > /dev/null
    python3 - "$program" << 'TIME'
import subprocess, sys, time
started = time.perf_counter()
for _ in range(20):
    subprocess.run([sys.argv[1], "--version"], stdout=subprocess.DEVNULL, check=True)
print(f"{sys.argv[1]} --version: {(time.perf_counter() - started) * 50:.1f} ms")
TIME
done

echo '== its tests'
cd "$scratch"
"$scratch/v/bin/python" -m pytest -q -p no:cacheprovider "$root/golden/python/tests" \
    --ignore "$root/golden/python/tests/"test_{callback,record,traps}.py

echo '== the native programs'
for folder in "$root"/golden/trained/*/ "$root"/golden/data/*/; do
    if [[ ! -f $folder/model.safetensors ]]; then continue; fi
    for program in convert verify; do
        if [[ $program == convert ]]; then arguments=(digest "$folder"); else arguments=(--model "$folder"); fi
        native=DEBERTA_${program^^}
        status=0; "${!native}" "${arguments[@]}" > native.txt 2>&1 || status=$?
        ours=0; "$scratch/v/bin/deberta-$program" "${arguments[@]}" > ours.txt 2>&1 || ours=$?
        if [[ $status != "$ours" ]] || ! cmp -s native.txt ours.txt; then
            echo "$folder: deberta-$program ends with $ours, the native one with $status"; diff native.txt ours.txt; exit 1
        fi
    done
done

if [[ -n ${DEBERTA_INTEROP_PT:-} ]]; then
    echo '== PyTorch'
    "$DEBERTA_INTEROP_PT" -m venv --system-site-packages "$scratch/pt"
    # The packages of the interpreter that was given, which may be those of an environment itself.
    "$DEBERTA_INTEROP_PT" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$(echo "$scratch"/pt/lib/python*/site-packages)/given.pth"
    "$scratch/pt/bin/pip" install --quiet --no-deps "$scratch"/dist/*.whl
    "$scratch/pt/bin/python" "$root/tests/interop/python/torch_logits.py" "$root"
fi

echo '== an archive of the sources'
"$scratch/v/bin/pip" install --quiet 'maturin>=1.9,<2'
(cd "$root/golden/python" && "$scratch/v/bin/maturin" sdist --out "$scratch/sources" > /dev/null 2>&1)
tar tzf "$scratch"/sources/*.tar.gz > files.txt
for name in LICENSE README.md pyproject.toml; do grep -q "^deberta_verify-[^/]*/$name\$" files.txt; done
# What it holds is what cargo needs, at the versions that were tested.
tar xzf "$scratch"/sources/*.tar.gz -C "$scratch/sources"
(cd "$scratch"/sources/deberta_verify-*/ && cargo metadata --quiet --offline --format-version 1 > /dev/null)
echo "$(wc -l < files.txt) files, $(stat -c %s "$scratch"/sources/*.tar.gz) bytes"
