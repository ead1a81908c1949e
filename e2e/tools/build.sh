#!/usr/bin/env bash
# Builds the Go programs that the end-to-end tests run and prints the folder they are in.
#
#   e2e/tools/build.sh              every group
#   e2e/tools/build.sh nats helm    only these
#
# A group is a folder here with a go.mod: its `tool` lines name the programs, its
# `require` lines pin their versions. Builds are kept in the cache, keyed by a hash
# of what they are made from, so a second call takes no time and a changed version
# is built anew. The key of the printed folder covers all groups, and each call
# adds to it the groups that it was asked for.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${WARP_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/warp}

version_of() { # GROUP MODULE
    awk -v module="$2" '$1 == "require" { $0 = $2 " " $3 } $1 == module { print $2; exit }' "$here/$1/go.mod"
}

# Release builds carry their version by linker flags; helm and API discovery read it.
linker_flags() { # GROUP
    local version stamp=
    case $1 in
    kubernetes)
        version=$(version_of kubernetes k8s.io/kubernetes)
        stamp=$(printf -- ' -X k8s.io/component-base/version.git%s' \
            "Version=$version" "Major=1" "Minor=$(cut -d. -f2 <<<"$version")")
        ;;
    helm)
        stamp=" -X helm.sh/helm/v4/internal/version.version=$(version_of helm helm.sh/helm/v4)"
        ;;
    esac
    echo "-s -w$stamp"
}

key_of() { # GROUP
    { cat "$here/$1/go.mod" "$here/$1/go.sum"; linker_flags "$1"; } | sha256sum | cut -c1-16
}

build() { # GROUP OUTPUT
    command -v go >/dev/null || {
        echo "tools: 'go' is not on the PATH; $1 needs Go $(sed -n 's/^go //p' "$here/$1/go.mod") or newer" >&2
        return 1
    }
    local started=$SECONDS
    echo "tools: building $1 (the first time takes minutes)" >&2
    rm -rf "$2.partial"
    mkdir -p "$2.partial"
    (cd "$here/$1" && GOFLAGS=-mod=readonly GOWORK=off CGO_ENABLED=0 \
        go build -trimpath -ldflags "$(linker_flags "$1")" -o "$2.partial/" tool) || {
        echo "tools: building $1 failed, see above" >&2
        return 1
    }
    mv "$2.partial" "$2" # only a finished build gets the name
    echo "tools: built $1 in $((SECONDS - started)) s" >&2
}

mapfile -t all < <(cd "$here" && dirname -- */go.mod)
groups=("$@")
[ ${#groups[@]} -gt 0 ] || groups=("${all[@]}")
for group in "${groups[@]}"; do
    [ -f "$here/$group/go.mod" ] || {
        echo "tools: there is no group '$group'; there are: ${all[*]}" >&2
        exit 2
    }
done

bin=$cache/bin/$(for group in "${all[@]}"; do key_of "$group"; done | sha256sum | cut -c1-16)
mkdir -p "$cache/tools" "$bin"
for group in "${groups[@]}"; do
    built=$cache/tools/$group-$(key_of "$group")
    exec {lock}>"$cache/tools/$group.lock"
    flock "$lock"
    [ -d "$built" ] || build "$group" "$built"
    for program in "$built"/*; do
        # Hard links: the folder can be mounted elsewhere on its own.
        link=$bin/${program##*/}
        [ "$link" -ef "$program" ] || ln -f "$program" "$link"
    done
    exec {lock}>&-
done
echo "$bin"
