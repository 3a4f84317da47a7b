#!/usr/bin/env bash
# Writes golden/sizes anew: all cases, or those named. PYTHON is an interpreter with requirements-pt.txt, or else a virtual
# environment of it is made.
#
#     DEBERTA_GOLDEN_PT=PYTHON golden/generate/sizes.sh [CASE …]
#
# Takes a quarter of an hour on two cores, and 7 GB of memory for v2-xlarge.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PYTHONDONTWRITEBYTECODE=1

python=${DEBERTA_GOLDEN_PT:-}
if [[ -z $python ]]; then
    python3 -m venv "$scratch/pt"
    "$scratch/pt/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements-pt.txt"
    python=$scratch/pt/bin/python
fi
"$python" "$here/record_sizes.py" "$here/../sizes" "$@"
