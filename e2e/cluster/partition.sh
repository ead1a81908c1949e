#!/usr/bin/env bash
# Cuts the network between a pod and its peers, silently and in both directions, as a
# broken network would: packets vanish, open connections hang. Heals it again.
#
#   partition.sh cut  NAMESPACE POD PEER...
#   partition.sh heal NAMESPACE POD [PEER...]     without peers: all of the pod's cuts
#   partition.sh list
#
# A PEER is another pod as NAMESPACE/POD, or an address or network: a pod's, the node's
# (10.250.0.2, where the API server is), 10.244.0.0/16 for all pods, 0.0.0.0/0 for all but
# the node. A Service's address is of no use, as packets bear that of the pod behind it.
#
# A cut holds for the addresses which the pods had at the time; the kubelet's probes pass.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/env.sh"
chain=WARP-PARTITION

usage() {
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
    exit 2
}

# The mangle table comes before filter, so kube-proxy's rules can't accept a packet first,
# and its FORWARD chain after NAT, so addresses are those of pods.
mangle() { "$here/node-exec.sh" iptables --wait --table mangle "$@"; }

ensure_chain() {
    mangle --new-chain $chain 2>/dev/null || return 0 # it is there
    mangle --append FORWARD --jump $chain
    mangle --append INPUT --destination "$node_ip" --jump $chain
}

pod_ip() { # NAMESPACE POD
    local ip
    ip=$(kubectl -n "$1" get pod "$2" -o jsonpath='{.status.podIP}')
    [ -n "$ip" ] || {
        echo "partition: pod $1/$2 has no address yet" >&2
        return 1
    }
    echo "$ip"
}

address_of() { # PEER
    case $1 in
    "${service_cidr%.*}".*)
        echo "partition: $1 is a Service's address; name the pods behind it" >&2
        return 1
        ;;
    [0-9]*.*.*.*) echo "$1" ;;
    */*) pod_ip "${1%/*}" "${1#*/}" ;;
    *)
        echo "partition: '$1' is neither an address nor NAMESPACE/POD" >&2
        return 1
        ;;
    esac
}

cut_from() { # NAMESPACE POD PEER: rules carry a comment by which heal finds them
    local pod peer
    pod=$(pod_ip "$1" "$2")
    peer=$(address_of "$3")
    mangle --append $chain --source "$pod" --destination "$peer" --match comment --comment "$1/$2 from $3" --jump DROP
    mangle --append $chain --source "$peer" --destination "$pod" --match comment --comment "$1/$2 from $3" --jump DROP
}

rules() { mangle --list-rules $chain 2>/dev/null | grep -- '^-A' || true; }

heal_from() { # NAMESPACE POD [PEER]
    local rule
    rules | { grep -F -- "--comment \"$1/$2 from ${3:+$3\"}" || true; } | while read -r rule; do
        xargs "$here/node-exec.sh" iptables --wait --table mangle <<<"-D${rule#-A}"
    done
}

verb=${1:-}
case $verb in
cut | heal)
    [ $# -ge 3 ] || usage
    namespace=$2 pod=$3
    shift 3
    ;;
esac

case $verb in
list) rules ;;
cut)
    [ $# -gt 0 ] || usage
    ensure_chain
    for peer in "$@"; do cut_from "$namespace" "$pod" "$peer"; done
    ;;
heal)
    [ $# -gt 0 ] || set -- ""
    for peer in "$@"; do heal_from "$namespace" "$pod" "$peer"; done
    ;;
*) usage ;;
esac
