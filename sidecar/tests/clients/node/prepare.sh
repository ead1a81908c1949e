#!/usr/bin/env bash
# Fetches the pinned Redis clients. Usage: prepare.sh OUTPUT_FOLDER
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cp "$here/package.json" "$here/package-lock.json" "$1"
npm ci --prefix "$1" --silent --omit=dev --ignore-scripts --no-audit --no-fund
