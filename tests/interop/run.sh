#!/usr/bin/env bash
# Checks the tokenizers in transformers, the cache of hub models in huggingface_hub, deberta-verify with libtorch, then
# deberta-convert in PyTorch and TensorFlow; see README.md. Arguments go to interop.py (--keep FOLDER).
#
# DEBERTA_INTEROP_PT, DEBERTA_INTEROP_TF   Python interpreters to use instead of new virtual environments
# DEBERTA_CONVERT                          program to check instead of a release build
set -euo pipefail
shopt -s inherit_errexit
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)

environment() { # environment NAME: the interpreter of .venv/NAME, which holds requirements-NAME.txt
    local place=$here/.venv/$1 requirements=$here/../fixtures/generate/requirements-$1.txt
    if ! cmp --silent "$requirements" "$place/installed.txt"; then
        python3 -m venv --clear "$place" >&2
        "$place/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements" >&2
        cp "$requirements" "$place/installed.txt"
    fi
    echo "$place/bin/python"
}
pt=${DEBERTA_INTEROP_PT:-}
if [[ -z $pt ]]; then pt=$(environment pt); fi
tf=${DEBERTA_INTEROP_TF:-}
if [[ -z $tf ]]; then tf=$(environment tf); fi

if [[ -z ${DEBERTA_CONVERT:-} ]]; then
    cargo build --quiet --release --manifest-path "$repository/Cargo.toml" --package deberta-converters --bin deberta-convert
    DEBERTA_CONVERT=${CARGO_TARGET_DIR:-$repository/target}/release/deberta-convert
fi
DEBERTA_INTEROP_PT=$pt "$here/tokenizer/run.sh"
DEBERTA_INTEROP_PT=$pt DEBERTA_CONVERT=$DEBERTA_CONVERT "$here/hub/run.sh"
DEBERTA_TCH_PYTHON=$pt DEBERTA_TCH_REQUIRED=1 "$here/../tch/run.sh"
exec python3 "$here/interop.py" --convert "$DEBERTA_CONVERT" --pt "$pt" --tf "$tf" "$@"
