#!/usr/bin/env bash
# Makes image tars from files of this machine and prints their paths.
#
#   e2e/images/build.sh                 every image (Warp's own if its binaries are built)
#   e2e/images/build.sh nats redis      only these
#   e2e/images/build.sh warp            Warp's operator and sidecar, from $WARP_TARGET_DIR
#                                       (default: target/debug of this repository)
#
# An image is a folder here with an image.toml, which ./mkimage reads. If the folder has
# a prepare.sh, it is run first and what it makes is kept in the cache; if ../tools has
# a group of the image's name, that is built first. What hasn't changed isn't made again.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${WARP_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/warp}/images
target=${WARP_TARGET_DIR:-$here/../../target/debug}

all_images() {
    local image
    for image in "$here"/*/image.toml; do
        image=$(basename "$(dirname "$image")")
        case $image in
        warp-*) [ -x "$target/$image" ] || {
            echo "images: no $image, $target has no such binary" >&2
            continue
        } ;;
        esac
        echo "$image"
    done
}

# The folder with what prepare.sh made, keyed by the files which it works from.
prepared() { # IMAGE
    local folder key
    key=$(cd "$here/$1" && find . -type f ! -name image.toml ! -name 'app.*' -print0 |
        sort -z | xargs -0 sha256sum | sha256sum | cut -c1-16)
    folder=$cache/prepared/$1-$key
    if [ ! -d "$folder" ]; then
        rm -rf "$folder.partial"
        mkdir -p "$folder.partial"
        "$here/$1/prepare.sh" "$folder.partial" >&2
        mv "$folder.partial" "$folder"
    fi
    echo "$folder"
}

build() { # IMAGE
    local variables=("here=$here/$1" "target=$target") folder
    if [ -f "$here/../tools/$1/go.mod" ]; then
        folder=$("$here/../tools/build.sh" "$1")
        variables+=("tools=$folder")
    fi
    if [ -f "$here/$1/prepare.sh" ]; then
        folder=$(prepared "$1")
        variables+=("prepared=$folder")
    fi
    "$here/mkimage" "$here/$1/image.toml" "$cache/$1.tar" "${variables[@]}"
    echo "$cache/$1.tar"
}

images=()
for image in "$@"; do
    case $image in
    warp) images+=(warp-operator warp-sidecar) ;;
    *) images+=("$image") ;;
    esac
done
[ $# -gt 0 ] || mapfile -t images < <(all_images)

mkdir -p "$cache"
for image in "${images[@]}"; do
    [ -f "$here/$image/image.toml" ] || {
        echo "images: there is no folder $here/$image with an image.toml" >&2
        exit 2
    }
    exec {lock}>"$cache/$image.lock"
    flock "$lock"
    build "$image"
    exec {lock}>&-
done
