#!/usr/bin/env bash
# Fetches the sources of Debian's Redis with its test suite, by apt and from wherever apt is set up to
# fetch packages, once for each version; prints the folder they are in. Installs nothing.
set -euo pipefail

cache=${WARP_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/warp}/suites
missing=()
for program in apt-get:apt dpkg-source:dpkg-dev tclsh:tcl; do
    command -v "${program%:*}" >/dev/null || missing+=("${program#*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "suites: ${missing[*]} missing: apt-get install ${missing[*]}" >&2
    exit 1
fi

version=$(apt-cache policy redis-server | sed -n 's/^ *Candidate: //p')
if [ -z "$version" ] || [ "$version" = '(none)' ]; then
    apt-get update -qq
    version=$(apt-cache policy redis-server | sed -n 's/^ *Candidate: //p')
fi
folder=$cache/redis-${version//[:~]/-}
mkdir -p "$cache"
exec {lock}>"$cache/redis.lock"
flock "$lock"
if [ ! -d "$folder" ]; then
    made=$(mktemp -d "$cache/partial.XXXXXX")
    trap 'rm -rf "$made"' EXIT
    mkdir -p "$made"/{sources,lists/partial,archives/partial}
    # The lists of packages that are in use, said as lists of sources.
    for list in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
        if [ -f "$list" ]; then
            sed -E 's/^deb(-src)? /deb-src /; s/^Types:.*/Types: deb-src/' "$list" >"$made/sources/${list##*/}"
        fi
    done
    apt=(apt-get -qq -o Dir::Etc::SourceList=- "-o" "Dir::Etc::SourceParts=$made/sources"
        -o "Dir::State::Lists=$made/lists" -o "Dir::Cache=$made" -o APT::Sandbox::User=root)
    # One of the lists may have no sources; then it is the next step that fails.
    "${apt[@]}" update >&2 || true
    (cd "$made" && "${apt[@]}" source "redis=$version" >&2)
    mv "$made"/redis-*/ "$folder"
fi
echo "$folder"
