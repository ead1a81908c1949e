#!/usr/bin/env bash
# Builds the smoke test with the pinned Redis client. Usage: prepare.sh OUTPUT_FOLDER
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
go build -o "$1/smoke" .
