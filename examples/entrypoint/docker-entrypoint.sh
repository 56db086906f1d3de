#!/bin/bash
# Options go to the server; anything else is a command of its own.
set -Eeo pipefail
for script in /docker-entrypoint.d/*.sh; do
    source "$script"
done
if [ "${1:0:1}" = '-' ]; then
    set -- licensed "$@"
fi
exec "$@"
