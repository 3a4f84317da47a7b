#!/usr/bin/env bash
# Checks the recorder of golden/python: that golden/generate records by it what is committed; that goldens of all committed
# models are judged right, from PyTorch and from TensorFlow; its own tests, with damaged models; and other versions of
# transformers, whose interpreters DEBERTA_RECORDER_OTHERS names, with a space between them.
#
# DEBERTA_GOLDEN_PT, DEBERTA_GOLDEN_TF   Python interpreters to use instead of new virtual environments
# DEBERTA_VERIFY, DEBERTA_CONVERT        programs to judge by instead of release builds
set -euo pipefail
shopt -s inherit_errexit
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$root/golden/python/python HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error

environment() { # environment NAME [PACKAGE …]: the interpreter of a new virtual environment of requirements-NAME.txt
    python3 -m venv "$scratch/$1" >&2
    "$scratch/$1/bin/pip" install --quiet --disable-pip-version-check \
        --requirement "$root/golden/generate/requirements-$1.txt" "${@:2}" >&2
    echo "$scratch/$1/bin/python"
}
pt=${DEBERTA_GOLDEN_PT:-}
if [[ -z $pt ]]; then pt=$(environment pt pytest accelerate sentencepiece protobuf); fi
tf=${DEBERTA_GOLDEN_TF:-}
if [[ -z $tf ]]; then tf=$(environment tf); fi
if [[ -z ${DEBERTA_VERIFY:-} || -z ${DEBERTA_CONVERT:-} ]]; then
    cargo build --quiet --release --locked --manifest-path "$root/Cargo.toml"
    programs=${CARGO_TARGET_DIR:-$root/target}/release
    DEBERTA_VERIFY=$programs/deberta-verify DEBERTA_CONVERT=$programs/deberta-convert
fi
export DEBERTA_VERIFY DEBERTA_CONVERT

echo '== golden/generate'
mkdir "$scratch/data"
DEBERTA_GOLDEN_DATA=$scratch/data DEBERTA_GOLDEN_PT=$pt DEBERTA_GOLDEN_TF=$tf "$root/golden/generate/run.sh" > "$scratch/log" 2>&1 ||
    { cat "$scratch/log"; exit 1; }
"$pt" "$here/same.py" "$scratch/data" "$root/golden/data"

echo '== the tests of golden/python'
"$pt" -m pytest -q -p no:cacheprovider "$root/golden/python/tests"

echo '== every committed model'
"$pt" "$here/check.py" pytorch "$scratch/goldens"
USE_TORCH=0 TF_USE_LEGACY_KERAS=1 TF_CPP_MIN_LOG_LEVEL=3 "$tf" "$here/check.py" tensorflow "$scratch/goldens"

for python in ${DEBERTA_RECORDER_OTHERS:-}; do
    echo "== $("$python" -c 'import transformers; print("transformers", transformers.__version__)')"
    "$python" "$here/check.py" pytorch "$scratch/goldens" masked-lm model-token-types question-answering sequence-classification \
        token-classification v2-masked-lm v2-model-conv v2-model-separate v2-multiple-choice v2-sequence-single-label
done
