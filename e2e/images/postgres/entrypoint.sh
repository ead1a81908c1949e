#!/bin/sh
# Creates the database in $PGDATA on the first start, then runs the server.
# Reads POSTGRES_PASSWORD (needed), POSTGRES_USER and POSTGRES_DB (default: postgres).
set -eu

user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-postgres}

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    # Made aside, so that a container killed meanwhile leaves nothing half-made in $PGDATA.
    new=$PGDATA.new
    rm -rf "$new"
    echo "${POSTGRES_PASSWORD:?must be set for the first start}" >/tmp/password
    initdb --pgdata="$new" --username="$user" --pwfile=/tmp/password \
        --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
    rm /tmp/password
    echo "host all all all scram-sha-256" >>"$new/pg_hba.conf"
    if [ "$database" != postgres ]; then
        echo "CREATE DATABASE \"$database\"" | postgres --single -D "$new" postgres
    fi
    mv "$new" "$PGDATA"
fi

exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/tmp "$@"
