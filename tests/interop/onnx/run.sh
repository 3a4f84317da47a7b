#!/usr/bin/env bash
# Checks the ONNX that deberta-convert writes in ONNX Runtime, and what it reads of others' exports; with --large also a model
# of more than 2 GB; and the tests of deberta-verify's backend onnxruntime with the library that comes with pip's package.
#
# DEBERTA_INTEROP_PT   Python interpreter with ../../fixtures/generate/requirements-pt.txt, requirements.txt and, for files of
#                      Optimum, requirements-optimum.txt
# DEBERTA_CONVERT, DEBERTA_VERIFY, DEBERTA_EVALUATE   programs to check instead of release builds: the last is the example
#                      `evaluate` of deberta-golden
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../../.." && pwd)
: "${DEBERTA_INTEROP_PT:?names a Python interpreter with torch, transformers, onnx and onnxruntime}"

if [[ -z ${DEBERTA_CONVERT:-} || -z ${DEBERTA_VERIFY:-} ]]; then
    cargo build --quiet --release --manifest-path "$repository/Cargo.toml" \
        --package deberta-converters --bin deberta-convert --package deberta-golden --bin deberta-verify
    built=${CARGO_TARGET_DIR:-$repository/target}/release
    DEBERTA_CONVERT=${DEBERTA_CONVERT:-$built/deberta-convert} DEBERTA_VERIFY=${DEBERTA_VERIFY:-$built/deberta-verify}
fi
status=0
"$DEBERTA_INTEROP_PT" "$here/check.py" --convert "$DEBERTA_CONVERT" --verify "$DEBERTA_VERIFY" "$@" || status=1
if [[ -z ${DEBERTA_EVALUATE:-} ]]; then
    cargo build --quiet --release --manifest-path "$repository/Cargo.toml" --package deberta-golden --example evaluate
    DEBERTA_EVALUATE=${CARGO_TARGET_DIR:-$repository/target}/release/examples/evaluate
fi
"$DEBERTA_INTEROP_PT" "$here/operators.py" "$DEBERTA_EVALUATE" || status=1
"$DEBERTA_INTEROP_PT" "$here/variants.py" "$DEBERTA_CONVERT" "$DEBERTA_VERIFY" || status=1
"$DEBERTA_INTEROP_PT" "$here/outliers.py" "$DEBERTA_VERIFY" || status=1
"$DEBERTA_INTEROP_PT" "$here/quantize.py" "$DEBERTA_CONVERT" "$DEBERTA_VERIFY" || status=1
"$here/runtime.sh" || status=1
exit "$status"
