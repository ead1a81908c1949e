#!/usr/bin/env bash
# From nothing to two applications that share a cache: what they need on this machine, the
# programs, a cluster with the images, and then ./shop.sh on that cluster.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/step.sh"
cd "$here/../.."

step "packages that this machine lacks" \
    "run as root on Debian, or install by hand what e2e/apt-packages.txt names" \
    e2e/cluster/install-packages.sh
step "Warp's programs (minutes when nothing is compiled yet)" \
    "see the compiler's message above; the Rust version is in rust-toolchain.toml" \
    cargo build --workspace
step "Kubernetes' programs (10 minutes the first time, kept in ~/.cache/warp)" \
    "see the message above; Go must be on the PATH and its modules within reach" \
    e2e/tools/build.sh
say "the cluster and the images"
exec e2e/with-cluster.sh "$here/shop.sh"
