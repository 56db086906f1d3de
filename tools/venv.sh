#!/bin/sh
# Make .venv in this checkout, or leave it alone when it is up to date.
#
#     tools/venv.sh [run|dev]      run: what users get (default); dev: also the tools for working on chimage
#
# The stamp in it names what was installed from which pyproject.toml and constraints.txt; "dev" serves as "run" too.
# All versions come from constraints.txt, those of the build back end too: it is installed first and used without
# build isolation, which would ignore the constraints.
set -eu
umask 022

here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
venv=$here/.venv
kind=${1:-run}

inputs=$(cat "$here/pyproject.toml" "$here/constraints.txt" | sha256sum | cut -d' ' -f1)
is_fresh() {
    [ -x "$venv/bin/python" ] && "$venv/bin/python" -c pass 2>/dev/null || return 1
    stamp=$(cat "$venv/installed" 2>/dev/null) || return 1
    [ "$stamp" = "dev $here $inputs" ] || [ "$stamp" = "$kind $here $inputs" ]
}

is_fresh && exit 0
# Who has the tools keeps them: a demonstration must not take them away.
case $(cat "$venv/installed" 2>/dev/null) in dev*) kind=dev ;; esac
if [ ! -w "$here" ] || { [ -e "$venv" ] && [ ! -w "$venv" ]; }; then
    echo "cannot make $venv: you ($(id -un)) may not write there." >&2
    echo "Use a checkout of your own (git clone), or ask its owner to run 'make venv' there." >&2
    exit 1
fi

exec 9>"$here/.venv.lock"
flock 9                                  # two makes at the same time: the second finds it done
is_fresh && exit 0
python=$("$here/tools/find_python.sh")
echo "making .venv with $python ($kind)" >&2
log=$here/.venv.log
install() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c "$here/constraints.txt" "$@" >>"$log" 2>&1
}
: >"$log"
if ! {
    "$python" -m venv --clear "$venv" >>"$log" 2>&1 &&
    install hatchling editables &&
    case $kind in
        dev) install --no-build-isolation -e "$here[dev,zstd]" ;;
        run) install --no-build-isolation -e "$here[zstd]" ;;
        *)   echo "unknown kind of environment: $kind" >&2; exit 2 ;;
    esac
}; then
    cat "$log" >&2
    echo "making .venv failed; the log above is also in $log" >&2
    exit 1
fi
echo "$kind $here $inputs" >"$venv/installed"
