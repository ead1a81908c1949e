#!/usr/bin/env bash
# Installs those packages of ../apt-packages.txt which this machine lacks.
#
# Some of them would start a service on installation (redis, postgres, etcd):
# a policy-rc.d forbids that while apt runs, and what was there before returns.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
policy=/usr/sbin/policy-rc.d

is_present() { # COMMAND-OR-FILE
    case $1 in
    /*) [ -e "$1" ] ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

forbid_services() {
    if [ -e "$policy" ]; then
        mv "$policy" "$policy.warp-saved"
    fi
    trap restore_services EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}

restore_services() {
    rm -f "$policy"
    if [ -e "$policy.warp-saved" ]; then
        mv "$policy.warp-saved" "$policy"
    fi
}

missing=()
while read -r package witness _; do
    case $package in '' | '#'*) continue ;; esac
    is_present "$witness" || missing+=("$package")
done <"$here/../apt-packages.txt"

if [ ${#missing[@]} -eq 0 ]; then
    echo "packages: nothing is missing"
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "packages: ${missing[*]} missing; run this as root to install them" >&2
    exit 1
fi

echo "packages: installing ${missing[*]}"
forbid_services
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
