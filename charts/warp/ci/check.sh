#!/usr/bin/env bash
# Lints and renders the chart with every values file here, and sees that wrong values are refused.
# Needs helm on the PATH.
set -euo pipefail

chart=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

quietly() { # COMMAND...: shows its output only if it fails
    local output
    output=$("$@" 2>&1) || {
        printf '%s\n' "$output" >&2
        echo "chart: FAILED: $*" >&2
        exit 1
    }
}

for values in "$chart"/ci/*-values.yaml; do
    quietly helm lint --strict --values "$values" "$chart"
    quietly helm template warp "$chart" --namespace warp-system --values "$values"
    echo "chart: $(basename "$values") is well"
done

for wrong in replcas=3 replicas=0 webhook.port=8080 webhook.failurePolicy=Maybe certs.mode=other \
    certs.mode=provided certs.certLifetime=30d serviceAccount.create=false crds.keep=perhaps; do
    if helm template warp "$chart" --set "$wrong" >/dev/null 2>&1; then
        echo "chart: FAILED: $wrong is accepted" >&2
        exit 1
    fi
done
echo "chart: wrong values are refused"

crds=$(helm template warp "$chart" 2>/dev/null | grep -c '^kind: CustomResourceDefinition$')
[ "$crds" -eq "$(find -L "$chart/files/crds" -name '*.yaml' | wc -l)" ] || {
    echo "chart: FAILED: it renders $crds CustomResourceDefinitions" >&2
    exit 1
}
echo "chart: all CustomResourceDefinitions are in it"

rendered() { helm template warp "$chart" --namespace warp-system "$@" 2>/dev/null; }

# Whatever deletes users' objects is in the chart only if their definitions go with the release.
for kept in crds.keep=true crds.install=false cleanup.enabled=false; do
    if rendered --set "$kept" | grep -q -- '-cleanup'; then
        echo "chart: FAILED: with $kept the release's end still deletes all WarpClusters" >&2
        exit 1
    fi
done
rendered | grep -q '^kind: Job$' || {
    echo "chart: FAILED: nothing cleans up at the release's end" >&2
    exit 1
}
echo "chart: what outlives the release is let alone at its end"

# What the operator may do all the time: no Secret is listed, no user's object deleted.
operators=$(rendered --show-only templates/rbac.yaml | awk '/^kind: ClusterRole$/,/^---$/')
rights() { # RESOURCE: the verbs of the rule that names it
    awk -v of="[ [,]$1[],]" '$1 == "resources:" { named = $0 ~ of } $1 == "verbs:" && named' <<<"$operators"
}
for right in secrets:list secrets:watch warpclusters:delete persistentvolumeclaims:delete pods:create; do
    if rights "${right%:*}" | grep -qw "${right#*:}"; then
        echo "chart: FAILED: the operator may ${right#*:} all ${right%:*}" >&2
        exit 1
    fi
done
[ -n "$(rights secrets)" ] || {
    echo "chart: FAILED: the operator's rules can't be read" >&2
    exit 1
}
echo "chart: the operator's rights are narrow"

rendered --set 'webhook.excludedNamespaces={infra}' --show-only templates/deployment.yaml |
    grep -q -- '--excluded-namespace=infra' || {
    echo "chart: FAILED: the operator isn't told of webhook.excludedNamespaces" >&2
    exit 1
}
echo "chart: webhook and operator exclude the same namespaces"
