#!/usr/bin/env bash
# Kills the main process of a container with SIGKILL, from the outside: no warning, no
# preStop hook, no grace period. The kubelet restarts it as the pod's restartPolicy says.
#
#   kill9.sh NAMESPACE POD CONTAINER     init containers (native sidecars) too
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/env.sh"

[ $# -eq 3 ] || {
    echo "usage: $0 NAMESPACE POD CONTAINER" >&2
    exit 2
}
id=$(kubectl -n "$1" get pod "$2" -o \
    jsonpath="{.status['containerStatuses','initContainerStatuses'][?(@.name=='$3')].containerID}")
[ -n "$id" ] || {
    echo "kill9: pod $1/$2 has no container '$3' that was started" >&2
    exit 1
}
exec "$here/node-exec.sh" ctr tasks kill --signal SIGKILL "${id#containerd://}"
