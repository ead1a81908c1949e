#!/usr/bin/env bash
# Runs the smoke test. Usage: run.sh PREPARED_FOLDER PORT STORAGE
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec ruby "$here/smoke.rb" "$2" "$3"
