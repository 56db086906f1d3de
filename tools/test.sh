#!/bin/bash
# Install what the tests need and run every check: ruff, mypy, import-linter, codespell, pytest.
#
#     tools/test.sh [--all]        --all: the slow tests too
#
# As an ordinary user it runs everything as that user; programs that are missing are named, and their tests are skipped.
#
# As root it installs missing programs by apt-get (on Debian), and runs the suite as the unprivileged user chimage-test,
# because chimage is for people without privilege; only tests marked `root` run as root. That user may be unable to
# reach a checkout (below /root, say), so then everything runs in a readable copy of it.
#
# All parts run even if one fails; the exit status is 1 if any part failed. The line of totals of the main suite comes
# last.
set -u -o pipefail
umask 022

here=$(cd -- "$(dirname -- "$0")/.." && pwd -P)
user=chimage-test
home=/var/lib/chimage-test
trees=/var/cache/chimage-test
failed=()

# Debian package of each program that tests start, and of headers that they compare with.
packages=(
    busybox:busybox-static mmdebstrap:mmdebstrap fakechroot:fakechroot fakeroot:fakeroot ch-run:charliecloud-runtime
    ch-image:charliecloud-builders bwrap:bubblewrap rsync:rsync git:git zstd:zstd xz:xz-utils bzip2:bzip2
    docker-registry:docker-registry openssl:openssl
    skopeo:skopeo umoci:umoci mksquashfs:squashfs-tools ch-convert:charliecloud-builders
    dot:graphviz mkfs.btrfs:btrfs-progs mkfs.xfs:xfsprogs setfattr:attr setfacl:acl unshare:util-linux strace:strace
    /usr/include/asm-generic/unistd.h:linux-libc-dev
    /usr/arm-linux-gnueabihf/include/asm/unistd-eabi.h:linux-libc-dev-armhf-cross
    /usr/powerpc64le-linux-gnu/include/asm/unistd_64.h:linux-libc-dev-ppc64el-cross
    /usr/s390x-linux-gnu/include/asm/unistd_64.h:linux-libc-dev-s390x-cross
)

main() {
    local and_quick=' and not slow'
    case ${1:-} in
        '')    ;;
        --all) and_quick= ;;
        *)     echo "usage: tools/test.sh [--all]" >&2; exit 2 ;;
    esac
    if [ "$(id -u)" = 0 ]; then
        install_missing
        make_user
        enter_readable_tree
        tools/venv.sh dev || exit 1
        compile
        checks as_user "$home/.cache"
        part "tests that need root" root_tests "root$and_quick"
        part "tests" suite as_user "not root$and_quick"
    else
        cd "$here" || exit 1
        report_missing
        tools/venv.sh dev || exit 1
        compile
        checks as_myself "${XDG_CACHE_HOME:-$HOME/.cache}"
        # Tests that need root are collected, so that they are counted as skipped.
        part "tests" suite as_myself "(root or not root)$and_quick"
    fi
    if [ ${#failed[@]} != 0 ]; then
        printf 'FAILED: %s\n' "${failed[@]}" >&2
        exit 1
    fi
}

compile() {     # every command that a test starts would compile all modules anew, as it may not write into the tree
    .venv/bin/python -m compileall -q chimage_core chimage_tui
}

checks() {      # checks RUNNER CACHE: everything but pytest by RUNNER COMMAND, then what the tests need prepared
    part "ruff check"    "$1" .venv/bin/ruff check --quiet
    part "ruff format"   "$1" .venv/bin/ruff format --check --quiet
    part "mypy"          "$1" .venv/bin/mypy --cache-dir="$2/chimage-dev/mypy"
    part "import-linter" "$1" .venv/bin/lint-imports --no-cache
    part "codespell"     "$1" .venv/bin/codespell
    say "preparing a Debian root file system and packages (once)"
    "$1" .venv/bin/python -m tests.support.prepare || say "not prepared: tests that need it are skipped"
}

part() {        # part NAME COMMAND...: run it, remember whether it failed
    say "$1"
    "${@:2}" || failed+=("$1")
}

suite() {       # suite RUNNER SELECTION: pytest on both of two cores
    run_pytest "$1" -n 2 -m "$2"
}

root_tests() {  # pytest's status 5 says that it selected no test: not a failure here
    run_pytest as_myself -m "$1" || [ $? = 5 ]
}

run_pytest() {  # run_pytest RUNNER OPTION...: in a temporary directory that is gone afterwards, images and all
    local status=0 scratch
    scratch=$("$1" mktemp -d) || return 1
    "$1" .venv/bin/python -m pytest -q -p no:cacheprovider --basetemp="$scratch/t" "${@:2}" || status=$?
    "$1" chmod -R u+rwX "$scratch" 2>/dev/null
    "$1" rm -rf "$scratch" 2>/dev/null
    return "$status"
}

say() { echo "== $*"; }

as_user() {     # run a command as the unprivileged user, in an environment of its own; write nothing in the tree
    runuser -u "$user" -- env -i HOME="$home" USER="$user" LOGNAME="$user" LANG=C.UTF-8 TERM="${TERM:-dumb}" \
        PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin ${CI:+CI="$CI"} PYTHONDONTWRITEBYTECODE=1 RUFF_NO_CACHE=true \
        HYPOTHESIS_STORAGE_DIRECTORY="$home/.cache/chimage-dev/hypothesis" "$@"
}

as_myself() {   # the same as the user who runs this
    env PYTHONDONTWRITEBYTECODE=1 RUFF_NO_CACHE=true \
        HYPOTHESIS_STORAGE_DIRECTORY="${XDG_CACHE_HOME:-$HOME/.cache}/chimage-dev/hypothesis" "$@"
}

make_user() {
    id "$user" >/dev/null 2>&1 ||
        useradd --system --user-group --create-home --home-dir "$home" --shell /usr/sbin/nologin "$user" || exit 1
}

enter_readable_tree() {     # change to the checkout if the user can read all of it, else to a copy
    cd "$here" || exit 1
    if as_user find . -name .git -prune -o -name .venv -prune -o ! -readable -print 2>&1 | grep -q . ||
            ! as_user test -r "$here/Makefile"; then
        local copy
        copy=$trees/$(echo "$here" | sha256sum | cut -c1-12)
        say "$user cannot read $here: running from a copy, $copy"
        mkdir -p "$copy"
        find "$copy" -mindepth 1 -maxdepth 1 ! -name '.venv*' -exec rm -rf {} +
        tar -C "$here" --exclude='./.git' --exclude='./.venv*' --exclude='./.*_cache' --exclude='__pycache__' \
            --exclude='./.demo' --mode='u+rwX,go+rX' -cf - . | tar -C "$copy" --no-same-owner -xf - || exit 1
        cd "$copy" || exit 1
    fi
}

missing() {     # print `program:package` of each program or file that is not there
    local entry
    for entry in "${packages[@]}"; do
        [ -f "${entry%%:*}" ] || PATH=$PATH:/usr/sbin:/sbin command -v "${entry%%:*}" >/dev/null || echo "$entry"
    done
}

report_missing() {
    local entries
    entries=$(missing)
    [ -z "$entries" ] || say "not installed, so the tests that need them are skipped: $(names "$entries")" \
        "(on Debian: apt-get install $(packages_of "$entries"))"
}

install_missing() {
    local entries wanted
    entries=$(missing)
    wanted=$(packages_of "$entries")
    "$here/tools/find_python.sh" >/dev/null 2>&1 || wanted="$wanted python3-venv"
    if ! command -v apt-get >/dev/null; then
        report_missing
        return
    fi
    # Preparing the Debian root file system needs package lists, installing needs new ones.
    if [ -n "${wanted// /}" ] || [ -z "$(apt-get indextargets 'Created-By: Packages' 2>/dev/null)" ]; then
        say "apt-get install $wanted"
        export DEBIAN_FRONTEND=noninteractive
        apt-get -q=2 update || say "apt-get update failed; going on with the package lists that are here"
        # One by one when all together fail: a missing one costs only its own tests.
        apt_install $wanted || for package in $wanted; do
            apt_install "$package" || say "could not install $package"
        done
        report_missing
    fi
}

apt_install() {
    [ $# = 0 ] || apt-get -q=2 -y --no-install-recommends -o Dpkg::Use-Pty=0 install "$@" >/dev/null </dev/null
}

names()       { local entry; for entry in $1; do printf '%s ' "${entry%%:*}"; done | sed 's/ $//'; }
packages_of() { local entry; for entry in $1; do printf '%s ' "${entry##*:}"; done | sed 's/ $//'; }

main "$@"
