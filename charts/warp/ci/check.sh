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
