#!/bin/sh
# Print the path of a Python that can make our virtual environment: 3.11 or newer, with venv and ensurepip.
#
# $PYTHON, if set, is the only candidate. The distribution's Python comes before those in PATH: when root prepares a
# virtual environment that an unprivileged user runs, an interpreter below root's home directory would be out of that
# user's reach. So, as root, a candidate must also run as a user who owns nothing.
set -eu

works() {
    check='import sys, venv, ensurepip; raise SystemExit(sys.version_info < (3, 11))'
    if [ "$(id -u)" = 0 ]; then
        # By a shell, because setpriv itself still has root's reach when it looks up what it executes.
        set -- setpriv --reuid 65534 --regid 65534 --clear-groups sh -c 'exec "$0" "$@"' "$@"
    fi
    "$@" -I -c "$check" 2>/dev/null
}

cd /
for name in ${PYTHON:-/usr/bin/python3 /usr/bin/python3.14 /usr/bin/python3.13 /usr/bin/python3.12 /usr/bin/python3.11 \
                      python3 python3.14 python3.13 python3.12 python3.11}; do
    if found=$(command -v "$name") && works "$found"; then
        echo "$found"
        exit
    fi
done
if [ -n "${PYTHON:-}" ]; then
    echo "not usable: PYTHON=$PYTHON; needed is Python 3.11 or newer with venv, which every user can execute" >&2
else
    echo "no Python 3.11 or newer with venv found; on Debian: apt-get install python3-venv" >&2
fi
exit 1
