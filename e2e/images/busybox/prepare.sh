#!/usr/bin/env bash
# Busybox with a link for each of its applets. Usage: prepare.sh OUTPUT_FOLDER
set -euo pipefail
busybox=$(command -v busybox)
cp "$busybox" "$1/busybox"
"$busybox" --list | while read -r applet; do
    [ "$applet" = busybox ] || ln -s busybox "$1/$applet"
done
