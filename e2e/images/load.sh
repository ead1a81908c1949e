#!/usr/bin/env bash
# Brings images into the running cluster, building first what isn't up to date.
# The arguments are those of build.sh; without any, every image is loaded.
# Pods made from then on use the new image; running ones keep theirs.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

tars=$("$here/build.sh" "$@")
while read -r tar; do
    "$here/../cluster/node-exec.sh" ctr images import - <"$tar"
done <<<"$tars"
