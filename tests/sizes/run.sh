#!/usr/bin/env bash
# The published sizes in full: the weights of the recipe by numpy and by Rust, and deberta-verify selftest --size.
#
#   tests/sizes/run.sh [SIZE …]
#
# SIZE is base, v3-base, …: a folder of golden/sizes with a model without a head; all of them when not given. Each needs three times
# the disk that its weights do, base 2 GB, v2-xlarge 11 GB; memory is in docs/performance.md. With
# DEBERTA_INTEROP_PT=PYTHON, an interpreter with golden/generate/requirements-pt.txt, numpy computes its digests again, and
# they are compared with those in golden/sizes; without it, a line says that this was left out. Prints the reports.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
sizes=("$@")
cargo build --release --quiet -p deberta-golden
verify=${CARGO_TARGET_DIR:-target}/release/deberta-verify
if [[ ${#sizes[@]} == 0 ]]; then
    for case in golden/sizes/*/case.yaml; do
        name=$(basename "$(dirname "$case")")
        if grep -q "config: $name, head: base" "$case"; then sizes+=("$name"); fi
    done
fi

failed=0
for size in "${sizes[@]}"; do
    committed=$(sed -n 's/^digest: "\(.*\)"/\1/p' "golden/sizes/$size/case.yaml")
    if [[ -n ${DEBERTA_INTEROP_PT:-} ]]; then
        numpy=$("$DEBERTA_INTEROP_PT" golden/generate/recipe.py digest "$size" base 1)
        if [[ $numpy == "$committed" ]]; then
            echo "$size: numpy's digest is the committed one"
        else
            echo "$size: numpy's digest is $numpy, the committed one $committed"
            failed=1
        fi
    else
        echo "$size: numpy's digest is not computed again: DEBERTA_INTEROP_PT names no Python"
    fi
    "$verify" selftest --size "$size" || failed=1
    echo
done
exit "$failed"
