#!/usr/bin/env bash
# Fetches the pinned Redis clients and compiles the smoke test. Usage: prepare.sh OUTPUT_FOLDER
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# What Maven has in its cache is not fetched again.
mvn --batch-mode --quiet --file "$here/pom.xml" \
    dependency:copy-dependencies "-DoutputDirectory=$1/jars"
javac -Xlint:all,-processing,-try -d "$1/classes" -cp "$1/jars/*" "$here"/*.java
