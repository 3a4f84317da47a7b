#!/usr/bin/env bash
# Writes golden/data anew: all cases, or those named. Makes two virtual environments of the pinned requirements, unless
# DEBERTA_GOLDEN_PT and DEBERTA_GOLDEN_TF name Python interpreters that have them. Another folder than golden/data:
# DEBERTA_GOLDEN_DATA.
#
#     golden/generate/run.sh [CASE …]
set -euo pipefail
shopt -s inherit_errexit
here=$(cd "$(dirname "$0")" && pwd)
data=${DEBERTA_GOLDEN_DATA:-$here/../data}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PYTHONDONTWRITEBYTECODE=1

environment() { # environment NAME: the interpreter of a new virtual environment of requirements-NAME.txt
    python3 -m venv "$scratch/$1" >&2
    "$scratch/$1/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements-$1.txt" >&2
    echo "$scratch/$1/bin/python"
}
pt=${DEBERTA_GOLDEN_PT:-}
if [[ -z $pt ]]; then pt=$(environment pt); fi
tf=${DEBERTA_GOLDEN_TF:-}
if [[ -z $tf ]]; then tf=$(environment tf); fi
"$pt" "$here/record_pytorch.py" "$data" "$@"
"$tf" "$here/record_tensorflow.py" "$data" "$@"
"$pt" "$here/write_cases.py" "$data" "$@"
