#!/usr/bin/env bash
# Looks whether the client is there; Debian has it as a package. Usage: prepare.sh OUTPUT_FOLDER
set -euo pipefail
ruby -e 'require "redis"' || {
    echo "the Redis client of Ruby is missing: apt-get install ruby-redis" >&2
    exit 1
}
