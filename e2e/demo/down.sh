#!/usr/bin/env bash
# Removes what the demo made: the local cluster, or Warp and the demo from the cluster of KUBECONFIG.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

if [ -z "${KUBECONFIG:-}" ]; then
    exec "$here/../cluster/down.sh"
fi
PATH=$("$here/../tools/build.sh" kubernetes helm):$PATH
kubectl delete namespace warp-demo --ignore-not-found --wait --timeout=3m
helm --namespace warp-system uninstall warp --ignore-not-found --wait --timeout 3m
kubectl delete namespace warp-system --ignore-not-found
