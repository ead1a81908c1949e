#!/usr/bin/env bash
# Brings up a one-node Kubernetes cluster on this machine, without a container engine,
# and prints the environment to use it with:
#
#   eval "$(e2e/cluster/up.sh)" && kubectl get nodes
#
# Each start is a fresh cluster; if it runs already, that is said and nothing happens.
# Pods and Services are reached from this machine by their addresses. Pods can resolve
# and reach each other and this machine (10.250.0.1), and nothing beyond.
#
# WARP_CLUSTER_NAME   another name gives a second cluster beside the default one, `warp`
# WARP_CLUSTER_DIR    its files (default: /var/lib/warp-cluster/NAME)
# WARP_CACHE_DIR      what is kept between runs (default: ~/.cache/warp)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/env.sh"

say() { printf 'up: %4d s  %s\n' "$SECONDS" "$*" >&2; }

# Ends the run at a failed step: what failed, what its log says, what to do about it.
fail() { # STEP LOG-FILE ADVICE
    say "FAILED: $1"
    if [ -s "$2" ]; then
        printf -- '--- the end of %s\n' "$2" >&2
        tail -n 20 "$2" >&2
        printf -- '---\n' >&2
    fi
    echo "up: $3" >&2
    exit 1
}

advice_to_look="more is in $dir/var/log. What runs is left for a look
    (export KUBECONFIG=$kubeconfig); down.sh removes it, up.sh starts afresh."

# Waits until a command succeeds, as long as the node lives.
await() { # STEP LOG-NAME SECONDS COMMAND...
    local step=$1 log=$dir/var/log/$2.log deadline=$((SECONDS + $3))
    shift 3
    until "$@" >"$dir/last-check.log" 2>&1; do
        node_pid >/dev/null || fail "$step: the node has ended" "$dir/var/log/node.log" "$advice_to_look"
        if ((SECONDS >= deadline)); then
            tail -n 30 "$dir/last-check.log" >&2
            fail "$step" "$log" "$advice_to_look"
        fi
        sleep 0.3
    done
    say "$step"
}

apply_manifest() { render "$here/manifests/$1.yaml" | kubectl apply -f -; }
api_ready() { kubectl get --raw /readyz; }
node_ready() { kubectl wait --for=condition=Ready "node/$node_name" --timeout=5s; }
deployment_ready() { # NAMESPACE NAME
    kubectl -n "$1" rollout status "deployment/$2" --timeout=5s || explain_pods "$1"
}
check_passed() {
    kubectl -n warp-cluster-check wait --for=jsonpath='{.status.phase}'=Succeeded pod/check --timeout=5s ||
        explain_pods warp-cluster-check
}

# Says why the pods of a namespace are not what they should be. Fails, as what called it did.
explain_pods() { # NAMESPACE
    kubectl -n "$1" get pods
    kubectl -n "$1" events --types=Warning
    kubectl -n "$1" logs --selector='!none' --prefix --tail=10
    return 1
}

healthy() {
    api_ready && node_ready && deployment_ready kube-system coredns &&
        deployment_ready local-path-storage local-path-provisioner
}

print_environment() {
    echo "export KUBECONFIG=$kubeconfig KUBECACHEDIR=$KUBECACHEDIR"
    echo "export PATH=$(readlink "$dir/bin"):\$PATH"
}

render() { # FILE: fills in the @NAMES@
    sed -e "s|@POD_CIDR@|$pod_cidr|g" -e "s|@DNS_IP@|$dns_ip|g" \
        -e "s|@NODE_NAME@|$node_name|g" -e "s|@CGROUP@|$cgroup|g" "$1"
}

check_machine() {
    local lacking
    lacking=$(for command in containerd runc etcd iptables conntrack socat openssl curl busybox; do
        command -v "$command" || echo "$command is missing" >&2
    done 2>&1 >/dev/null)
    [ -z "$lacking" ] || fail "$lacking" /dev/null "run e2e/cluster/install-packages.sh"
    if ip -4 address show | grep -q "inet $host_ip/"; then
        fail "this machine uses $host_ip for something else" /dev/null "choose another WARP_CLUSTER_NAME"
    fi
}

write_files() { # FOLDER-OF-BINARIES
    local etc=$dir/var/lib/kubernetes file
    mkdir -p "$dir"/var/{log,cache,tmp,lib} "$etc/cni"
    chmod 755 "$dir" "$dir/var"
    ln -s "$1" "$dir/bin"
    for file in containerd.toml kubelet.yaml kube-proxy.yaml; do
        render "$here/config/$file" >"$etc/$file"
    done
    render "$here/config/cni.conflist" >"$etc/cni/10-warp.conflist"
    : >"$etc/resolv.conf"
    "$here/pki.sh" "$etc"
    install -m 600 "$etc/admin.kubeconfig" "$kubeconfig"
}

start_node() { # FOLDER-OF-BINARIES
    local launcher pid
    setsid unshare --net --mount --pid --ipc --uts --mount-proc --fork --kill-child \
        "$here/node.sh" "$1" </dev/null >"$dir/var/log/node.log" 2>&1 &
    launcher=$!
    until pid=$(pgrep --parent "$launcher"); do
        kill -0 "$launcher" || fail "starting the node" "$dir/var/log/node.log" "$advice_to_look"
        sleep 0.1
    done
    echo "$pid $(start_time_of "$pid")" >"$dir/node.pid"

    ip link add "$link" type veth peer name eth0 netns "$pid"
    ip address add "$host_ip/24" dev "$link"
    ip link set "$link" up
    ip route add "$pod_cidr" via "$node_ip"
    ip route add "$service_cidr" via "$node_ip"
}

[ "$(id -u)" -eq 0 ] || fail "this makes namespaces and mounts" /dev/null "run it as root"

# Two runs at once would tread on each other. (The lock is on the folder; it makes no file.)
exec {lock}<"$here"
flock "$lock"

if node_pid >/dev/null && [ -e "$dir/ready" ]; then
    healthy >/dev/null 2>&1 ||
        fail "cluster '$name' runs, but is not well" "$dir/var/log/node.log" "try again soon, or start afresh: down.sh, then up.sh"
    say "cluster '$name' is up already"
    print_environment
    exit 0
fi

"$here/down.sh" 2>/dev/null # what an unfinished run left
check_machine
bin=$("$here/../tools/build.sh" kubernetes) || fail "the Kubernetes programs" /dev/null "see the messages above"
"$here/../images/build.sh" pause busybox coredns local-path-provisioner >/dev/null ||
    fail "the cluster's own images" /dev/null "see the messages above"
say "programs and images are built"

write_files "$bin"
start_node "$bin" {lock}<&-
await "containerd answers" containerd 30 "$here/node-exec.sh" ctr version
"$here/../images/load.sh" pause busybox coredns local-path-provisioner >"$dir/last-check.log" 2>&1 ||
    fail "loading images" "$dir/last-check.log" "$advice_to_look"
say "images are loaded"
await "the API server is ready" kube-apiserver 120 api_ready
await "the node is ready" kubelet 120 node_ready
await "CoreDNS is deployed" kube-apiserver 10 apply_manifest coredns
await "the StorageClass is deployed" kube-apiserver 10 apply_manifest storage
await "CoreDNS is ready" kubelet 120 deployment_ready kube-system coredns
await "the volume provisioner is ready" kubelet 120 deployment_ready local-path-storage local-path-provisioner
await "the check is deployed" kube-apiserver 10 apply_manifest check
await "a pod resolved a name, reached a Service and wrote to a volume" kubelet 120 check_passed
kubectl delete namespace warp-cluster-check --wait=false >/dev/null
touch "$dir/ready"
say "cluster '$name' is up"
print_environment
