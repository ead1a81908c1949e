#!/usr/bin/env bash
# The first process of the node: sets up what it sees of the machine, then runs etcd, the
# control plane, containerd, the kubelet and kube-proxy. Usage: node.sh FOLDER_OF_BINARIES
#
# up.sh starts it as pid 1 of its own net, mount, pid, ipc and uts namespaces. No mount,
# iptables rule or process of the cluster is seen outside, and all end with this process.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/env.sh"
bin=$1
etc=/var/lib/kubernetes # where up.sh put configuration and certificates

# /var is the cluster's own folder, so every component can use its default paths.
own_files() {
    mount -t tmpfs tmpfs /run
    mkdir -p /run/warp/bin /run/netns
    mount --bind "$bin" /run/warp/bin
    mount --bind "$dir/var" /var
    mount -t tmpfs -o mode=1777 tmpfs /tmp
    mount --make-rshared / # for pods that ask for mount propagation
    export PATH=/run/warp/bin:$PATH
    cd /
}

# The kubelet sets these for the whole machine, unless it finds them so already. It gets
# to see what it wants; the machine keeps its own.
own_kernel_settings() {
    local setting file
    for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
        kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
        file=/run/warp/sysctl/${setting%=*}
        mkdir -p "$(dirname "$file")"
        echo "${setting#*=}" >"$file"
        mount --bind "$file" "/proc/sys/${setting%=*}"
    done
}

# up.sh moves the veth's end in here as eth0, once this process is there.
own_network() {
    ip link set lo up
    until ip link show eth0 >/dev/null 2>&1; do sleep 0.1; done
    ip address add "$node_ip/24" dev eth0
    ip link set eth0 up
    ip route add default via "$host_ip"
    sysctl -q -w net.ipv4.ip_forward=1
}

own_cgroup() {
    local folder root=/sys/fs/cgroup controller
    # In cgroup v2 a folder only has those controllers which its parent hands down.
    if [ -f $root/cgroup.subtree_control ]; then
        for controller in $(<$root/cgroup.controllers); do
            echo "+$controller" >$root/cgroup.subtree_control || true
        done
    fi
    for folder in $(cgroup_folders); do
        mkdir -p "$folder"
    done
}

keep_running() { # NAME COMMAND...
    local name=$1 status
    shift
    while :; do
        status=0
        "$@" >>"/var/log/$name.log" 2>&1 || status=$?
        echo "$name ended with status $status; it is started again"
        sleep 1
    done &
}

run_etcd() {
    keep_running etcd etcd --data-dir /var/lib/etcd --unsafe-no-fsync \
        --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
        --listen-peer-urls http://127.0.0.1:2380
}

run_control_plane() {
    local pki=$etc/pki
    keep_running kube-apiserver kube-apiserver \
        --etcd-servers=http://127.0.0.1:2379 \
        --advertise-address="$node_ip" \
        --service-cluster-ip-range="$service_cidr" \
        --authorization-mode=Node,RBAC \
        --enable-admission-plugins=NodeRestriction \
        --allow-privileged=true \
        --client-ca-file=$pki/ca.crt \
        --tls-cert-file=$pki/apiserver.crt \
        --tls-private-key-file=$pki/apiserver.key \
        --kubelet-client-certificate=$pki/apiserver-kubelet-client.crt \
        --kubelet-client-key=$pki/apiserver-kubelet-client.key \
        --kubelet-preferred-address-types=InternalIP \
        --service-account-issuer=https://kubernetes.default.svc.cluster.local \
        --service-account-key-file=$pki/service-account.key \
        --service-account-signing-key-file=$pki/service-account.key
    until curl -sf --cacert $pki/ca.crt https://127.0.0.1:6443/readyz >/dev/null; do sleep 0.2; done
    keep_running kube-controller-manager kube-controller-manager \
        --kubeconfig=$etc/kube-controller-manager.kubeconfig \
        --leader-elect=false \
        --use-service-account-credentials \
        --service-account-private-key-file=$pki/service-account.key \
        --root-ca-file=$pki/ca.crt \
        --cluster-signing-cert-file=$pki/ca.crt \
        --cluster-signing-key-file=$pki/ca.key
    keep_running kube-scheduler kube-scheduler \
        --kubeconfig=$etc/kube-scheduler.kubeconfig \
        --leader-elect=false
}

run_node_agents() {
    keep_running kubelet kubelet \
        --config=$etc/kubelet.yaml \
        --kubeconfig=$etc/kubelet.kubeconfig \
        --hostname-override="$node_name" \
        --node-ip="$node_ip"
    keep_running kube-proxy kube-proxy --config=$etc/kube-proxy.yaml
}

own_files
own_kernel_settings
own_network
own_cgroup
hostname "$node_name"

run_etcd
keep_running containerd containerd --config $etc/containerd.toml
run_control_plane
run_node_agents
wait
