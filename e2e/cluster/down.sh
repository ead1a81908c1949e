#!/usr/bin/env bash
# Ends the cluster and removes all that is left of it: processes, mounts and network go
# with the node's first process; this waits for that, then removes cgroups and files.
#
#   e2e/cluster/down.sh [--keep]     --keep leaves the files (logs: $dir/var/log)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/env.sh"

until_true() { # SECONDS COMMAND...
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}

process_gone() { ! node_pid >/dev/null; }
link_gone() { ! ip link show "$link" >/dev/null 2>&1; }
cgroups_gone() {
    local folder left=0
    for folder in $(cgroup_folders); do
        [ ! -d "$folder" ] || find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null || left=1
    done
    return "$left"
}

if pid=$(node_pid); then
    kill -KILL "$pid"
    until_true 30 process_gone || {
        echo "down: process $pid of cluster '$name' does not end; see /proc/$pid/stack" >&2
        exit 1
    }
    echo "down: cluster '$name' ended" >&2
else
    echo "down: cluster '$name' was not running" >&2
fi

until_true 10 link_gone || ip link delete "$link" || true
until_true 10 cgroups_gone || {
    echo "down: some cgroups /$cgroup under /sys/fs/cgroup are still in use" >&2
    exit 1
}
rm -f "$dir/node.pid" "$dir/ready"
if [ "${1:-}" != --keep ] && [ -d "$dir" ]; then
    rm -rf --one-file-system "$dir"
    rmdir --ignore-fail-on-non-empty "$(dirname "$dir")"
fi
