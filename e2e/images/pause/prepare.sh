#!/usr/bin/env bash
# Compiles the pause program. Usage: prepare.sh OUTPUT_FOLDER
set -euo pipefail
cc -static -Os -s -o "$1/pause" "$(dirname "${BASH_SOURCE[0]}")/pause.c"
