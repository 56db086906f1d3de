#!/bin/bash
# Show what chimage does, from a fresh checkout, without network (but for the virtual environment) and without root.
#
# Everything it makes is in .demo below the checkout, or in $CHIMAGE_DEMO; where the checkout is read-only, below $TMPDIR.
set -eu -o pipefail
umask 022

here=$(cd -- "$(dirname -- "$0")/.." && pwd -P)
cd "$here"
if [ ! -x .venv/bin/chimage ] || [ -w . ]; then
    tools/venv.sh run
fi

demo=${CHIMAGE_DEMO:-$here/.demo}
if [ ! -w "$here" ] && [ -z "${CHIMAGE_DEMO:-}" ]; then
    demo=$(mktemp -d "${TMPDIR:-/tmp}/chimage-demo.XXXXXX")
fi
if [ -d "$demo" ]; then         # an earlier demonstration; image directories may be read-only
    chmod -R u+rwX "$demo"
    rm -rf "$demo"
fi
mkdir -p "$demo"
unset "${!CH_IMAGE_@}" CH_XATTRS
export CH_IMAGE_STORAGE=$demo/storage       # never the user's own
PATH=$here/.venv/bin:$PATH
TIMEFORMAT='   (%R seconds)'

say()  { printf '\n=== %s\n' "$*"; }
show() { printf '\n$ %s\n' "$*"; time "$@"; }

say "A base image from this host's own programs"
tools/host_base.py "$demo/base.tar"
ls -lh "$demo/base.tar" | awk '{ print $NF ": " $5 }'

say "Import it"
show chimage import "$demo/base.tar" host-base

say "Build examples/hello/Dockerfile: every instruction is carried out (.)"
show chimage build -t hello examples/hello

say "Build it again: every instruction comes from the cache (*)"
show chimage build -t hello examples/hello

say "The images, and the tree of the build cache"
show chimage list
show chimage build-cache --tree

run="ch-run -s $CH_IMAGE_STORAGE --set-env hello -- cat /usr/share/hello/hello.txt"
if command -v ch-run >/dev/null; then
    say "Run the image, with Charliecloud's ch-run"
    export USER=${USER:-$(id -un)}          # ch-run insists on it
    # shellcheck disable=SC2086 -- words
    show $run
    how="To run the image:"
else
    how="To run the image, with Charliecloud's ch-run (Debian: charliecloud-runtime):"
fi

say "Going on"
cat <<END
Everything is in $demo; remove it when you like. To go on with it:
    export CH_IMAGE_STORAGE=$CH_IMAGE_STORAGE PATH=$here/.venv/bin:\$PATH
Change a line of examples/hello/Dockerfile and build again: only what follows it is carried out anew.
$how
    $run
END
