#!/usr/bin/env bash
# Runs the smoke test. Usage: run.sh PREPARED_FOLDER PORT STORAGE
set -euo pipefail
exec "$1/smoke" "$2" "$3"
