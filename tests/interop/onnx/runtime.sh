#!/usr/bin/env bash
# Runs the tests of graphs by ONNX Runtime: tests/onnx_backend.rs with its library.
#
# ORT_DYLIB_PATH       ONNX Runtime's library, 1.24 or later; or
# DEBERTA_INTEROP_PT   Python interpreter with pip's onnxruntime, which comes with the library
set -euo pipefail
repository=$(cd "$(dirname "$0")/../../.." && pwd)
if [[ -z ${ORT_DYLIB_PATH:-} ]]; then
    ORT_DYLIB_PATH=$("${DEBERTA_INTEROP_PT:-python3}" "$repository/tests/interop/onnx/runtime.py")
fi
if [[ -z $ORT_DYLIB_PATH ]]; then
    echo "skipped: deberta-verify --backend onnxruntime: neither ORT_DYLIB_PATH nor ${DEBERTA_INTEROP_PT:-python3} has ONNX Runtime"
    exit 0
fi
export ORT_DYLIB_PATH
cargo test --manifest-path "$repository/Cargo.toml" --package deberta-tests --test all onnx_backend::
