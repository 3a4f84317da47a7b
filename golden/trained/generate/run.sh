#!/usr/bin/env bash
# Makes the trained models, their goldens and the sample data anew: about 40 minutes on two cores. Makes two virtual
# environments of the pinned requirements, unless DEBERTA_GOLDEN_PT and DEBERTA_GOLDEN_TF name Python interpreters that
# have them. DEBERTA_CONVERT names the program that is built otherwise.
#
#     golden/trained/generate/run.sh FOLDER
set -euo pipefail
shopt -s inherit_errexit
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../../..
models=${1:?a folder to write to}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PYTHONDONTWRITEBYTECODE=1

environment() { # environment NAME REQUIREMENTS: the interpreter of a new virtual environment
    python3 -m venv "$scratch/$1" >&2
    "$scratch/$1/bin/pip" install --quiet --disable-pip-version-check --requirement "$2" >&2
    echo "$scratch/$1/bin/python"
}
pt=${DEBERTA_GOLDEN_PT:-}
if [[ -z $pt ]]; then pt=$(environment pt "$here/requirements.txt"); fi
tf=${DEBERTA_GOLDEN_TF:-}
if [[ -z $tf ]]; then tf=$(environment tf "$root/golden/generate/requirements-tf.txt"); fi
if [[ -z ${DEBERTA_CONVERT:-} ]]; then
    cargo build --quiet --locked --manifest-path "$root/Cargo.toml" --package deberta-converters
    target=$(cargo metadata --format-version 1 --no-deps --manifest-path "$root/Cargo.toml" |
        "$pt" -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
    DEBERTA_CONVERT=$target/debug/deberta-convert
fi
export DEBERTA_CONVERT

mkdir -p "$models"
[[ -n ${DEBERTA_TRAINED_KEEP:-} ]] || "$pt" "$here/train.py" "$models"
"$pt" "$here/data.py" "$models/data"
"$pt" "$here/record.py" inputs "$models"
"$pt" "$here/record.py" pytorch "$models"
"$tf" "$here/record.py" tensorflow "$models"
"$pt" "$here/record.py" cases "$models"
for pair in st2pt st2tf st2onnx; do
    "$DEBERTA_CONVERT" "$pair" "$models/nli" -o "$models/nli/" --force
done
for pair in st2pt st2tf; do
    "$DEBERTA_CONVERT" "$pair" "$models/v3-nli" -o "$models/v3-nli/" --force
done
rm -rf "$models/work"
