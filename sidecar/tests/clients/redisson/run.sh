#!/usr/bin/env bash
# Runs the smoke test. Usage: run.sh PREPARED_FOLDER PORT STORAGE
set -euo pipefail
exec java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$1/classes:$1/jars/*" WithRedisson "$2" "$3"
