#!/usr/bin/env bash
# Runs the smoke tests. Usage: run.sh PREPARED_FOLDER PORT STORAGE
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
php "$here/phpredis.php" "$2" "$3"
# Predis of Debian 12 is older than PHP 8.2, which calls some of its style deprecated.
php -d error_reporting=E_ALL^E_DEPRECATED "$here/predis.php" "$2" "$3"
