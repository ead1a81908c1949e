# What the scripts of this folder share: the cluster's names, addresses and folders, all
# derived from $WARP_CLUSTER_NAME, and how its node's process is found. To be sourced.
# shellcheck shell=bash disable=SC2034

name=${WARP_CLUSTER_NAME:-warp}
[[ $name =~ ^[a-z][a-z0-9-]{0,30}$ ]] || {
    echo "WARP_CLUSTER_NAME='$name': use up to 31 lower-case letters, digits and dashes" >&2
    exit 2
}

# All that a cluster leaves on the machine's disk, and nothing else is in it.
dir=${WARP_CLUSTER_DIR:-/var/lib/warp-cluster/$name}
kubeconfig=$dir/kubeconfig

# The third octet sets the networks of clusters on one machine apart: 0 is the default one's.
octet=0
[ "$name" = warp ] || octet=$(($(cksum <<<"$name" | cut -d' ' -f1) % 254 + 1))
host_ip=10.250.$octet.1
node_ip=10.250.$octet.2
pod_cidr=10.244.$octet.0/24
service_cidr=10.96.$octet.0/24
api_ip=10.96.$octet.1
dns_ip=10.96.$octet.10

node_name=$name-node
link=wnode$octet          # the host's end of the veth pair
cgroup=warp-cluster-$name # the pods' parent in each cgroup hierarchy

# Always our own kubectl on this cluster; what it caches goes with the cluster.
export KUBECACHEDIR=$dir/kubectl-cache
kubectl() { "$dir/bin/kubectl" --kubeconfig "$kubeconfig" "$@"; }

# The pid of the node's first process, on which all of the cluster hangs; fails if it is
# gone. Its start time is kept with it, lest a later process with the same number is taken
# for it.
node_pid() {
    local pid started
    { read -r pid started <"$dir/node.pid"; } 2>/dev/null || return 1
    [ "$(start_time_of "$pid")" = "$started" ] && echo "$pid"
}

start_time_of() { # PID
    { sed 's/.*) //' "/proc/$1/stat" | cut -d' ' -f20; } 2>/dev/null
}

cgroup_folders() {
    findmnt --noheadings --raw --types cgroup,cgroup2 --output TARGET | sed "s|\$|/$cgroup|"
}
