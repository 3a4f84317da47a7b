#!/usr/bin/env bash
# Checks the tasks against the scripts that they come from: scikit-learn, scipy, seqeval, and transformers' port of the
# official evaluation of SQuAD; on random predictions, and on what PyTorch computes with the trained models.
# DEBERTA_TASKS_PT names a Python interpreter with golden/generate/requirements-pt.txt and requirements.txt, else a virtual
# environment is made in .venv/; DEBERTA_VERIFY and DEBERTA_TASK_METRICS name programs that are built otherwise.
#
#     tests/interop/tasks/run.sh
set -euo pipefail
shopt -s inherit_errexit
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../../..
export PYTHONDONTWRITEBYTECODE=1
pt=${DEBERTA_TASKS_PT:-}
if [[ -z $pt ]]; then
    venv=$root/.venv/tasks
    if [[ ! -x $venv/bin/python ]]; then
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check \
            --requirement "$root/golden/generate/requirements-pt.txt" --requirement "$here/requirements.txt"
    fi
    pt=$venv/bin/python
fi
if [[ -z ${DEBERTA_VERIFY:-} || -z ${DEBERTA_TASK_METRICS:-} ]]; then
    cargo build --quiet --release --locked --manifest-path "$root/Cargo.toml" --package deberta-golden \
        --bin deberta-verify --example task_metrics
    target=$(cargo metadata --format-version 1 --no-deps --manifest-path "$root/Cargo.toml" |
        "$pt" -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
    DEBERTA_VERIFY=${DEBERTA_VERIFY:-$target/release/deberta-verify}
    DEBERTA_TASK_METRICS=${DEBERTA_TASK_METRICS:-$target/release/examples/task_metrics}
fi
export DEBERTA_VERIFY DEBERTA_TASK_METRICS
exec "$pt" "$here/check.py" "$root/golden/trained"
