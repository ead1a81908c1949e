#!/usr/bin/env bash
# Runs a command with a Kubernetes cluster to work on, kubectl and helm on its PATH, and
# Warp's images (of the programs in target/debug) and those of the tests in the cluster.
#
#   e2e/with-cluster.sh kubectl get pods -A
#
# If KUBECONFIG is set, that cluster is used: its nodes must be able to pull the images, by
# the names of e2e/images with IMAGE_PREFIX in place of `warp.local`, and this machine must
# reach pods by their addresses. Otherwise the local cluster is used, and brought up if need be.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

bin=$("$here/tools/build.sh" kubernetes helm)
if [ -n "${KUBECONFIG:-}" ]; then
    export PATH=$bin:$PATH
    kubectl get --raw /readyz >/dev/null || {
        echo "with-cluster: the cluster of KUBECONFIG=$KUBECONFIG does not answer; unset KUBECONFIG to use a local one" >&2
        exit 1
    }
else
    environment=$("$here/cluster/up.sh")
    eval "$environment"
    export PATH=$bin:$PATH
    imported=$("$here/images/load.sh" warp nats redis postgres busybox demo-python demo-node) || {
        echo "$imported" >&2
        echo "with-cluster: the images could not be loaded, see above; e2e/cluster/down.sh, then try again" >&2
        exit 1
    }
fi
exec "$@"
