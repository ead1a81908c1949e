#!/usr/bin/env bash
# Makes the cluster's certificates and kubeconfigs. Usage: pki.sh OUTPUT_FOLDER
# Each component has an identity of its own, as in a cluster that kubeadm made, so that
# what RBAC forbids elsewhere is forbidden here too.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/env.sh"

out=$1
pki=$out/pki
mkdir -p "$pki"
chmod 700 "$pki"

request() { # NAME SUBJECT [OPENSSL OPTION...]
    local file=$pki/$1 subject=$2
    shift 2
    openssl req -x509 -noenc -newkey ec -pkeyopt ec_paramgen_curve:P-256 -days 3650 \
        -keyout "$file.key" -out "$file.crt" -subj "$subject" "$@" 2>/dev/null
}

certificate() { # NAME USER GROUP [ALTERNATIVE NAMES]
    request "$1" "/O=$3/CN=$2" -CA "$pki/ca.crt" -CAkey "$pki/ca.key" \
        -addext basicConstraints=critical,CA:FALSE \
        -addext extendedKeyUsage=serverAuth,clientAuth ${4:+-addext "subjectAltName=$4"}
}

kubeconfig() { # FILE CERTIFICATE NAME
    cat >"$1" <<KUBECONFIG
apiVersion: v1
kind: Config
clusters:
- name: $name
  cluster:
    server: https://$node_ip:6443
    certificate-authority-data: $(base64 -w0 "$pki/ca.crt")
users:
- name: $2
  user:
    client-certificate-data: $(base64 -w0 "$pki/$2.crt")
    client-key-data: $(base64 -w0 "$pki/$2.key")
contexts:
- name: $name
  context: {cluster: $name, user: $2}
current-context: $name
KUBECONFIG
}

component() { # NAME USER [GROUP]
    certificate "$1" "$2" "${3:-$name}"
    kubeconfig "$out/$1.kubeconfig" "$1"
}

request ca /CN=warp-cluster-ca -addext keyUsage=critical,keyCertSign,cRLSign
openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$pki/service-account.key"

certificate apiserver kube-apiserver "$name" "IP:127.0.0.1,IP:$node_ip,IP:$api_ip,DNS:localhost,\
DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
certificate apiserver-kubelet-client kube-apiserver-kubelet-client system:masters
component kube-controller-manager system:kube-controller-manager
component kube-scheduler system:kube-scheduler
component kube-proxy system:kube-proxy
component kubelet "system:node:$node_name" system:nodes
component admin admin system:masters
