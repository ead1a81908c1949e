#!/usr/bin/env bash
# Looks whether the clients are there; Debian has them as packages. Usage: prepare.sh OUTPUT_FOLDER
set -euo pipefail
php -r 'exit(extension_loaded("redis") && stream_resolve_include_path("Predis/Autoloader.php") ? 0 : 1);' || {
    echo "the Redis clients of PHP are missing: apt-get install php-redis php-predis" >&2
    exit 1
}
