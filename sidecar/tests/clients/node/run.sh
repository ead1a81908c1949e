#!/usr/bin/env bash
# Runs the smoke test. Usage: run.sh PREPARED_FOLDER PORT STORAGE
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Modules are looked for beside the script.
cp "$here/smoke.js" "$1/smoke.js"
exec node "$1/smoke.js" "$2" "$3"
