#!/usr/bin/env bash
# Runs the smoke test. Usage: run.sh PREPARED_FOLDER PORT STORAGE
set -euo pipefail
for client in WithJedis WithLettuce; do
    java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$1/classes:$1/jars/*" "$client" "$2" "$3"
done
