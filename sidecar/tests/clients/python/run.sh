#!/usr/bin/env bash
# Runs the smoke test. Usage: run.sh PREPARED_FOLDER PORT STORAGE
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PYTHONPATH=$1 PYTHONDONTWRITEBYTECODE=1 exec python3 "$here/smoke.py" "$2" "$3"
