#!/usr/bin/env bash
# Kills the programs while they write, lets disks run full and runs collide; see README.md. Takes the options of check.py.
#
# DEBERTA_CONVERT, DEBERTA_VERIFY   programs to check instead of release builds
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../../.." && pwd)
built=${CARGO_TARGET_DIR:-$repository/target}/release

if [[ -z ${DEBERTA_CONVERT:-} || -z ${DEBERTA_VERIFY:-} ]]; then
    cargo build --quiet --release --manifest-path "$repository/Cargo.toml" --bin deberta-convert --bin deberta-verify
fi
exec python3 "$here/check.py" --convert "${DEBERTA_CONVERT:-$built/deberta-convert}" \
    --verify "${DEBERTA_VERIFY:-$built/deberta-verify}" "$@"
