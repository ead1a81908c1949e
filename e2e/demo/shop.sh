#!/usr/bin/env bash
# The demo itself, on the cluster of KUBECONFIG: installs Warp, brings up PostgreSQL and Redis
# and two applications that know nothing of Warp, annotates them, and shows that they share a
# cache. Every step can be copied; running it again does no harm.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
source "$here/step.sh"
namespace=warp-demo
look="kubectl -n $namespace get pods,warpclusters; kubectl -n $namespace events --types=Warning; kubectl -n warp-system logs -l app.kubernetes.io/name=warp"

run() { # shows a command, then runs it
    printf '$ %s\n' "$*"
    "$@"
}

from_prefix() { sed "s|warp\.local|${IMAGE_PREFIX:-warp.local}|" "$root/e2e/manifests/$1"; }

apply() { # MANIFEST...
    local manifest
    for manifest in "$@"; do
        printf '$ kubectl -n %s apply -f e2e/manifests/%s\n' "$namespace" "$manifest"
        from_prefix "$manifest" | kubectl -n "$namespace" apply -f - || return
    done
}

install_warp() {
    run helm upgrade --install warp "$root/charts/warp" --namespace warp-system --create-namespace \
        --values <(from_prefix values.yaml) --wait --timeout 3m
}

annotate() {
    run kubectl -n "$namespace" annotate --overwrite deployment demo-python demo-node \
        warpcache.dev/inject=enabled
}

# The operator puts the label on the pod templates, which rolls the pods; then all are waited for.
pods_are_back() {
    run kubectl -n "$namespace" wait deployment/demo-python deployment/demo-node --timeout=1m \
        --for='jsonpath={.spec.template.metadata.labels.warpcache\.dev/inject}=enabled' &&
        run kubectl -n "$namespace" rollout status deployment/demo-python --timeout=3m &&
        run kubectl -n "$namespace" rollout status deployment/demo-node --timeout=3m &&
        run kubectl -n "$namespace" wait warpcluster/shop --for=condition=Ready --timeout=2m
}

ask() { # METHOD POD PATH
    local ip
    ip=$(kubectl -n "$namespace" get pod "$2" -o 'jsonpath={.status.podIP}')
    printf '%-30s %-4s %-42s ' "$2" "$1" "$3"
    curl --silent --show-error --fail --max-time 20 --noproxy '*' --request "$1" "http://$ip:8000$3"
    echo
}

pods_of() { # DEPLOYMENT: only those that stay
    kubectl -n "$namespace" get pods -l "app=$1" --field-selector=status.phase=Running \
        -o 'go-template={{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}}{{"\n"}}{{end}}{{end}}'
}

conversation() {
    local python node
    mapfile -t python < <(pods_of demo-python)
    mapfile -t node < <(pods_of demo-node)
    ask POST "${python[0]}" '/set?key=product:1&value=teapot' &&
        ask GET "${python[1]}" '/get?key=product:1' &&
        ask GET "${node[0]}" '/get?key=product:1' &&
        ask GET "${node[1]}" '/get?key=product:1' &&
        ask POST "${node[1]}" '/set?key=product:1&value=samovar' &&
        ask GET "${python[0]}" '/poll?key=product:1&value=samovar' &&
        ask GET "${python[1]}" '/poll?key=product:1&value=samovar' &&
        ask GET "${node[0]}" '/poll?key=product:1&value=samovar'
}

rows() {
    run kubectl -n "$namespace" exec postgres-0 -- psql -c \
        "SELECT convert_from(key, 'UTF8') AS key, convert_from(value, 'UTF8') AS value, version, expires_at FROM warp_cache"
}

step "Warp is installed" \
    "helm -n warp-system status warp; kubectl -n warp-system get pods,events" install_warp
kubectl create namespace "$namespace" --dry-run=client -o yaml | kubectl apply -f - >/dev/null
step "PostgreSQL, and a Redis for later" "$look" apply postgres.yaml redis.yaml
step "two applications with stock Redis clients, two pods each" "$look" apply apps.yaml
step "a WarpCluster with its own NATS, and policies" "$look" apply cluster-postgres.yaml policy.yaml
step "the one thing that is asked of the applications" "$look" annotate
step "their pods come back, each with its sidecar" "$look" pods_are_back
run kubectl -n "$namespace" get pods
step "what one pod writes, the others read" "$look" conversation
step "and PostgreSQL holds it" "$look" rows
step "what the operator says" "$look" run kubectl -n "$namespace" get warpclusters,warppolicies

cat <<END

The demo stays up. To go on:

  export KUBECONFIG=$KUBECONFIG PATH=$(dirname "$(command -v kubectl)"):\$PATH
  kubectl -n $namespace describe warpcluster shop
  kubectl -n $namespace patch warppolicy products --type=merge -p '{"spec":{"ttl":"30s"}}'
  kubectl -n $namespace get warppolicies --watch
  make demo-down        removes it all
END
