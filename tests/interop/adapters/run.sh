#!/usr/bin/env bash
# Checks that `convert --merge-adapter` makes the weights that peft makes, and refuses what it does not merge.
#
# DEBERTA_ADAPTERS_PYTHON   Python interpreter with requirements.txt to use instead of a new virtual environment
# DEBERTA_CONVERT           program to check instead of a release build
set -euo pipefail
shopt -s inherit_errexit
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error CUDA_VISIBLE_DEVICES=

if [[ -z ${DEBERTA_ADAPTERS_PYTHON:-} ]]; then
    python3 -m venv "$scratch/venv"
    "$scratch/venv/bin/pip" install --quiet --requirement "$here/requirements.txt"
    DEBERTA_ADAPTERS_PYTHON=$scratch/venv/bin/python
fi
if [[ -z ${DEBERTA_CONVERT:-} ]]; then
    cargo build --quiet --release --manifest-path "$repository/Cargo.toml" --package deberta-converters --bin deberta-convert
    DEBERTA_CONVERT=${CARGO_TARGET_DIR:-$repository/target}/release/deberta-convert
fi
"$DEBERTA_ADAPTERS_PYTHON" "$here/check.py" "$DEBERTA_CONVERT"
