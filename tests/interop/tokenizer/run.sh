#!/usr/bin/env bash
# Checks the four classes of tokenizers against transformers; see README.md. Arguments go to check.py.
#
# DEBERTA_INTEROP_PT   Python interpreter with ../../fixtures/generate/requirements-pt.txt
# DEBERTA_TOKENIZE     program to check instead of a release build of the example `tokenize`
# DEBERTA_VERIFY       program to check instead of a release build of deberta-verify
# DEBERTA_SHARED       folder with tokenizer/vocab.json and tokenizer/merges.txt of DeBERTa
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../../.." && pwd)
: "${DEBERTA_INTEROP_PT:?names a Python interpreter with transformers}"

if [[ -z ${DEBERTA_TOKENIZE:-} ]]; then
    cargo build --quiet --release --manifest-path "$repository/Cargo.toml" --package deberta-reference --example tokenize
    DEBERTA_TOKENIZE=${CARGO_TARGET_DIR:-$repository/target}/release/examples/tokenize
fi
if [[ -z ${DEBERTA_VERIFY:-} ]]; then
    cargo build --quiet --release --manifest-path "$repository/Cargo.toml" --bin deberta-verify
    DEBERTA_VERIFY=${CARGO_TARGET_DIR:-$repository/target}/release/deberta-verify
fi
exec "$DEBERTA_INTEROP_PT" "$here/check.py" --tokenize "$DEBERTA_TOKENIZE" --verify "$DEBERTA_VERIFY" \
    --vocabulary "${DEBERTA_SHARED:-$repository/../shared}/tokenizer" "$@"
