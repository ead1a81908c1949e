#!/usr/bin/env bash
# Builds the smoke test with the pinned Redis client. Usage: prepare.sh OUTPUT_FOLDER
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cargo build --quiet --locked --manifest-path "$here/Cargo.toml" --target-dir "$1/target"
mv "$1/target/debug/client-smoke" "$1/smoke"
rm -r "$1/target"
