#!/usr/bin/env bash
# Checks deberta-convert's ONNX in onnx, ONNX Runtime and PyTorch's exporters; see README.md. Arguments go to check.py.
#
# DEBERTA_INTEROP_PT   Python interpreter with ../../fixtures/generate/requirements-pt.txt and requirements.txt
# DEBERTA_CONVERT      program to check instead of a release build
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../../.." && pwd)
: "${DEBERTA_INTEROP_PT:?names a Python interpreter with torch, transformers, onnx and onnxruntime}"

if [[ -z ${DEBERTA_CONVERT:-} ]]; then
    cargo build --quiet --release --manifest-path "$repository/Cargo.toml" --package deberta-converters --bin deberta-convert
    DEBERTA_CONVERT=${CARGO_TARGET_DIR:-$repository/target}/release/deberta-convert
fi
exec "$DEBERTA_INTEROP_PT" "$here/check.py" --convert "$DEBERTA_CONVERT" "$@"
