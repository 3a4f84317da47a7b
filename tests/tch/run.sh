#!/usr/bin/env bash
# Builds deberta-verify with libtorch and checks it; see README.md. Says so, and exits 0, when libtorch is not there.
#
# DEBERTA_TCH_PYTHON     Python interpreter that has torch, and transformers for TorchScript; python3 when not given
# DEBERTA_TCH_REQUIRED   1 makes the absence of torch or transformers an error
set -euo pipefail
shopt -s inherit_errexit
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
version=2.13.0

absent() { # absent WHAT: what cannot be checked, and why
    if [[ ${DEBERTA_TCH_REQUIRED:-} == 1 ]]; then
        echo "error: $1" >&2
        exit 1
    fi
    echo "skipped: $1"
    exit 0
}

python=${DEBERTA_TCH_PYTHON:-python3}
python=$(command -v "$python") || absent "libtorch was not checked: there is no Python interpreter $python"
found=$("$python" -c 'import torch; print(torch.__version__.split("+")[0])' 2>/dev/null) ||
    absent "libtorch was not checked: $python has no torch (pip install torch==$version)"
[[ $found == "$version" ]] || absent "libtorch was not checked: $python has torch $found, the tch crate needs $version"

# torch-sys asks the first python3, or in a virtual environment the first python.
unset VIRTUAL_ENV
PATH=$(dirname "$python"):$PATH
LD_LIBRARY_PATH=$("$python" -c 'import os, torch; print(os.path.join(os.path.dirname(torch.__file__), "lib"))')${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export PATH LD_LIBRARY_PATH LIBTORCH_USE_PYTORCH=1
# Apart from the programs without libtorch, which have the same names.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$repository/target}/tch

step() { printf '\n== %s\n' "$*"; "$@"; }
cd "$repository"
step cargo clippy --package deberta-golden --features tch --all-targets --locked -- -D warnings
step cargo test --package deberta-golden --features tch --lib --test tch --locked -- --nocapture

"$python" -c 'import transformers' 2>/dev/null ||
    absent "TorchScript was not checked: $python has no transformers (tests/fixtures/generate/requirements-pt.txt)"
step "$python" "$here/torchscript.py" --verify "$CARGO_TARGET_DIR/debug/deberta-verify"
