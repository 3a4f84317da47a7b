#!/usr/bin/env bash
# Follows docs/tutorial.md to the letter, with its model of version 3 and with one of version 1, and runs docs/notebook.ipynb.
#
# DEBERTA_TUTORIAL_PYTHON           interpreter of a virtual environment with the packages of the tutorial, and perhaps
#                                   deberta-verify, instead of a new one
# DEBERTA_VERIFY, DEBERTA_CONVERT   programs to use instead of those of the package
set -euo pipefail
shopt -s inherit_errexit
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

python=${DEBERTA_TUTORIAL_PYTHON:-}
if [[ -z $python ]]; then
    python3 -m venv "$scratch/venv"
    python=$scratch/venv/bin/python
    "$python" -m pip install --quiet --disable-pip-version-check accelerate \
        --requirement "$root/golden/generate/requirements-pt.txt" "$root/golden/python"
fi
mkdir "$scratch/bin"
program() { # program NAME FILE: makes it the program of this name, if there is such a file
    if [[ -n $2 ]]; then ln -s "$2" "$scratch/bin/$1"; fi
}
program deberta-verify "${DEBERTA_VERIFY:-}"
program deberta-convert "${DEBERTA_CONVERT:-}"
PATH=$scratch/bin:$(dirname "$python"):$PATH
if ! command -v deberta-record > /dev/null; then
    # From the sources.
    printf '#!%s\nimport sys\nfrom deberta_verify.recorder.command import main\nsys.exit(main())\n' "$python" > "$scratch/bin/deberta-record"
    chmod +x "$scratch/bin/deberta-record"
    export PYTHONPATH=$root/golden/python/python
fi
export PATH HF_HUB_OFFLINE=1 PYTHONDONTWRITEBYTECODE=1 TRANSFORMERS_VERBOSITY=error

follow() { # follow NAME [CHANGE …]
    echo "== $1"
    mkdir "$scratch/$1"
    "$python" "$here/follow.py" "$scratch/$1" "${@:2}"
}
follow version-3
follow version-1 trained/v3-nli=trained/nli

echo '== the notebook'
if "$python" -c 'from deberta_verify import verify' 2> /dev/null; then
    "$python" "$here/notebook.py"
else
    echo 'not run: the package is not installed'
fi
