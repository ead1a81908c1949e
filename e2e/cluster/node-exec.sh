#!/usr/bin/env bash
# Runs a command inside the cluster's node: its processes, files and network.
#
#   node-exec.sh ps ax                   what runs there
#   node-exec.sh ctr containers list     the containers, in Kubernetes' namespace
#   node-exec.sh iptables -t nat -S      kube-proxy's rules
#   node-exec.sh bash                    a shell
#
# Pods are joined by routes (CNI plugin ptp), not by a bridge, so all traffic between two
# pods passes the node's FORWARD chain. partition.sh cuts pods apart there; kill9.sh kills
# a container's process.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/env.sh"

pid=$(node_pid) || {
    echo "cluster '$name' is not running; start it with $here/up.sh" >&2
    exit 1
}
exec nsenter --target "$pid" --net --mount --pid --ipc --uts -- \
    env PATH="/run/warp/bin:$PATH" CONTAINERD_NAMESPACE=k8s.io "$@"
