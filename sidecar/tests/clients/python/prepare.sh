#!/usr/bin/env bash
# Fetches the pinned Redis client, and what applications put on it. Usage: prepare.sh OUTPUT_FOLDER
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python3 -m pip install --quiet --root-user-action=ignore --no-deps --require-hashes \
    --disable-pip-version-check --requirement "$here/requirements.txt" --target "$1"
