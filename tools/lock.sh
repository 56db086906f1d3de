#!/bin/sh
# Write constraints.txt anew: the newest versions that pyproject.toml allows, with all they depend on.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
python=$("$here/tools/find_python.sh")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet hatchling editables
"$work/venv/bin/pip" install --quiet --no-build-isolation -e "$here[dev,zstd]"
{
    # shellcheck disable=SC2016 -- the backquotes are text
    echo '# Exact versions of everything that `make venv` installs, so that two installs are equal (pip install -c).'
    # shellcheck disable=SC2016
    echo '# Made anew by `make lock`.'
    "$work/venv/bin/pip" freeze --exclude-editable | grep -v '^#'
} >"$work/constraints.txt"
mv "$work/constraints.txt" "$here/constraints.txt"
