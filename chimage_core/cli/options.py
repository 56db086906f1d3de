"""The command line's grammar: every option of the manual, before or after the subcommand.

argparse alone knows the options; what they mean together with environment variables is `settings`' business. Options
that were not given are absent from the namespace, so that a variable or default can take their place.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from chimage_core import __version__
from chimage_core.errors import UsageError
from chimage_core.text import quoted

FORCE_MODES = ("seccomp", "fakeroot", "none")
"""What `--force` accepts."""


class _Parser(argparse.ArgumentParser):
    """Reports wrong use as the rest of the program reports errors, and without ten lines of usage in front."""

    def __init__(self, **keywords: Any) -> None:
        # Abbreviations would turn every option that is added later into a possible break of somebody's script.
        super().__init__(allow_abbrev=False, argument_default=argparse.SUPPRESS, **keywords)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, with every `--force` in a form that argparse cannot misunderstand."""
        return super().parse_known_args(list(_force_made_explicit(args)), namespace)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the whole command line. Raises UsageError."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            command = getattr(options, "command", None)
            program = f"{self.prog} {command}" if command else self.prog
            raise _misused(program, f"unknown: {quoted(unknown)}{self._near(unknown[0], command)}")
        return options

    def _near(self, unknown: str, command: str | None) -> str:
        """Return which option may have been meant; nothing if none is alike."""
        import difflib

        known = list(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction) and command:
                known += action.choices[command]._option_string_actions
        near = difflib.get_close_matches(unknown.partition("=")[0], known, n=1, cutoff=0.75)
        return f"; did you mean {near[0]}?" if near and unknown.startswith("--") else ""

    def error(self, message: str) -> NoReturn:
        """Report wrong use. Raises UsageError."""
        raise _misused(self.prog, message)


def _misused(program: str, message: str) -> UsageError:
    return UsageError(message, hint=f"“{program} --help” tells what there is")


def _force_made_explicit(arguments: Sequence[str]) -> Iterator[str]:
    """Give a bare `--force` its default mode: argparse would take the word behind it, perhaps the context, for one."""
    for word, following in itertools.zip_longest(arguments, arguments[1:]):
        yield "--force=seccomp" if word == "--force" and following not in FORCE_MODES else word


def parser(program: str, arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser for a command line; `program` is `chimage` or `ch-image`.

    Only subcommands that `arguments` name get their options, because making all of them takes longer than to parse.
    """
    common = _common_options()
    top = _Parser(
        prog=program,
        description="Build and manage container images; completely unprivileged.",
        parents=[common],
        epilog=f"“{program} SUBCOMMAND --help” tells more of each subcommand.",
    )
    top.add_argument("--version", action="version", version=__version__, help="print the version and exit")
    top.add_argument("--dependencies", action="store_true", help="report missing dependencies, if any, and exit")
    commands = top.add_subparsers(dest="command", metavar="SUBCOMMAND", prog=program, parser_class=_Parser)
    for name, (summary, add_options) in _COMMANDS.items():
        if name in arguments:
            description = summary[0].upper() + summary[1:] + "."
            add_options(commands.add_parser(name, help=summary, description=description, parents=[common]))
        else:
            commands.add_parser(name, help=summary, add_help=False)
    return top


def _common_options() -> _Parser:
    common = _Parser(add_help=False)
    group = common.add_argument_group("options of all subcommands (also before the subcommand)")
    group.add_argument("-a", "--arch", metavar="ARCH", help="architecture: yolo, host (default) or a name")
    group.add_argument("--always-download", action="store_true", help="download also what was downloaded before")
    group.add_argument("--auth", action="store_true", help="authenticate with registries (default: anonymous)")
    cache = group.add_mutually_exclusive_group()
    for name, text in (
        ("cache", "use the build cache (default)"),
        ("no-cache", "don’t use the build cache at all"),
        ("rebuild", "execute all instructions but FROM again, and remember the new results"),
    ):
        mode = {"cache": "enabled", "no-cache": "disabled", "rebuild": "rebuild"}[name]
        cache.add_argument(f"--{name}", dest="cache", action="store_const", const=mode, help=text)
    group.add_argument(
        "--cache-large",
        metavar="SIZE",
        type=_mebibytes,
        help="know files of SIZE MiB and more by path, mode, size and time, without reading them (default: 0, none)",
    )
    group.add_argument(
        "--cache-shared",
        metavar="DIR[:DIR...]",
        help="use what is in the build cache of these storage directories, too, read-only",
    )
    group.add_argument("--cacert", metavar="PATH", help="trust these certificates, not the usual ones")
    group.add_argument("--debug", action="store_true", help="add a stack trace to errors")
    group.add_argument("--json", action="store_true", help="print events and results as JSON lines on stdout")
    group.add_argument(
        "--lock-timeout",
        metavar="SECONDS",
        type=_seconds,
        help="wait this long for a lock (default: no limit; 0: fail)",
    )
    group.add_argument("--no-lock", action="store_true", help="don’t lock anything (risks corruption)")
    group.add_argument("--no-tui", action="store_true", help="never open the app")
    group.add_argument(
        "--no-login-files",
        dest="login_files",
        action="store_false",
        help="don’t use what podman login, skopeo login or docker login have kept",
    )
    group.add_argument(
        "--password-many",
        "--password-once",
        dest="password_many",
        action="store_true",
        help="ask for the password each time, as for one-time passwords",
    )
    group.add_argument("--plain-http", action="store_true", help="speak with registries without TLS (risky)")
    xattrs = group.add_mutually_exclusive_group()
    xattrs.add_argument("--xattrs", dest="xattrs", action="store_true", help="keep xattrs and ACLs (default)")
    xattrs.add_argument("--no-xattrs", dest="xattrs", action="store_false", help="ignore xattrs and ACLs")
    group.add_argument("-s", "--storage", metavar="DIR", help="storage directory (default: /var/tmp/$USER.ch)")
    group.add_argument("--tls-no-verify", action="store_true", help="don’t verify TLS certificates (risky)")
    loudness = group.add_mutually_exclusive_group()
    loudness.add_argument("-q", "--quiet", action=_Count, help="be quieter (can be repeated)")
    loudness.add_argument("-v", "--verbose", action=_Count, help="tell more (can be repeated)")
    return common


class _Count(argparse.Action):
    """Counts an option over both places it can stand in: argparse's own `count` starts anew after the subcommand.

    Both parsers share this object (see `parents`), hence the count in it; a parser is used once.
    """

    def __init__(self, option_strings: list[str], dest: str, **keywords: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **keywords)
        self._count = 0

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, option: str | None = None
    ) -> None:
        self._count += 1
        setattr(namespace, self.dest, self._count)


def _mebibytes(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected a number of MiB, 0 or more, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of seconds, 0 or more, not {text!r}")
    return value


def _age(text: str) -> float:
    """Read `7d` as seconds."""
    number, unit = text[:-1], text[-1:]
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
    if unit not in seconds or not _is_decimal(number):
        raise argparse.ArgumentTypeError(f"expected a number with s, m, h, d or w, such as 7d, not {text!r}")
    return float(number) * seconds[unit]


def _bytes(text: str) -> int:
    """Read `20G`, `1.5T`, `300MiB` as bytes, in binary units."""
    number = text.upper().removesuffix("IB").removesuffix("B")
    power = " KMGTP".find(number[-1:])
    number = number[:-1] if power > 0 else number
    if not _is_decimal(number):
        raise argparse.ArgumentTypeError(f"expected a size, such as 500M or 20G, not {text!r}")
    return int(float(number) * 1024 ** max(power, 0))


def _is_decimal(text: str) -> bool:
    """Return whether this is `3` or `3.5`, and not one of the many other things that `float` takes."""
    whole, _, fraction = text.partition(".")
    return whole.isascii() and fraction.isascii() and whole.isdecimal() and (fraction or "0").isdecimal()


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 1 << 31):
        raise argparse.ArgumentTypeError(f"expected a number, 1 or more, not {text!r}")
    return int(text)


def _days(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected a number of days, 0 or more, not {text!r}")
    return int(text)


def _running_options(command: argparse.ArgumentParser) -> None:
    """Add what all commands have that carry out instructions."""
    from chimage_core.runner import RUNNER_KINDS

    command.add_argument("-b", "--bind", metavar="SRC[:DST]", action="append", help="for RUN: show SRC at DST")
    command.add_argument("--explain", action="store_true", help="tell why each instruction missed, or whence it hit")
    modes = "root emulation: seccomp (default), fakeroot or none"
    command.add_argument("--force", metavar="MODE", nargs="?", const="seccomp", help=modes)
    older = "older name of --force=none"
    command.add_argument("--no-fakeroot", dest="force", action="store_const", const="none", help=older)
    command.add_argument("--no-force-detect", action="store_true", help="don’t suggest --force options if RUN fails")
    command.add_argument(
        "--force-cmd", metavar="CMD,ARG1[,ARG2...]", action="append", help="add ARGs to command CMD in RUN instructions"
    )
    command.add_argument("-n", "--dry-run", action="store_true", help="don’t execute any instruction")
    command.add_argument(
        "--runner",
        metavar="NAME",
        choices=RUNNER_KINDS,
        help="what executes RUN: auto (default), python, ch-run or bwrap",
    )


def _build_options(build: argparse.ArgumentParser) -> None:
    _running_options(build)
    build.add_argument(
        "--build-arg", metavar="KEY[=VALUE]", action="append", help="set KEY of ARG (default: the variable’s value)"
    )
    build.add_argument(
        "--build-context",
        metavar="NAME=DIR",
        action="append",
        help="let --from=NAME take files from the directory DIR",
    )
    build.add_argument(
        "--cache-by",
        metavar="WHAT",
        choices=("metadata", "content"),
        help="know source files of COPY, ADD and RSYNC by metadata (size, mtime; default) or by content",
    )
    build.add_argument("-f", "--file", metavar="DOCKERFILE", help="Dockerfile (default: CONTEXT/Dockerfile; -: stdin)")
    build.add_argument(
        "--jobs", metavar="N", type=_positive, help="build up to N stages side by side, if they don’t need each other"
    )
    build.add_argument(
        "--label", metavar="KEY=VALUE", action="append", help="label the image, as LABEL at the end would"
    )
    build.add_argument(
        "--no-dockerignore", dest="dockerignore", action="store_false", help="don’t let .dockerignore exclude files"
    )
    build.add_argument(
        "--check", action="store_true", help="only tell what may be wrong or differs from Docker; 1 if there are errors"
    )
    build.add_argument("--strict", action="store_true", help="with --check: warnings count as errors")
    build.add_argument("--parse-only", action="store_true", help="stop after parsing the Dockerfile, and print it")
    build.add_argument(
        "--platform", metavar="[OS/]ARCH[/VARIANT]", help="build for this platform, as --arch does (OS: linux)"
    )
    _pulling_options(build)
    build.add_argument(
        "--secret",
        metavar="id=ID[,src=FILE|,env=VAR]",
        action="append",
        help="for RUN --mount=type=secret: the content of FILE, or the value of VAR (default: VAR or FILE called ID)",
    )
    build.add_argument(
        "--ssh",
        metavar="ID[=SOCKET]",
        action="append",
        help="for RUN --mount=type=ssh: the socket of an SSH agent (default: $SSH_AUTH_SOCK); ID is mostly “default”",
    )
    build.add_argument(
        "-t",
        "--tag",
        metavar="TAG",
        action="append",
        help="name of the image (default: inferred); repeated: more names",
    )
    build.add_argument(
        "--skip-unused-stages", action="store_true", help="leave out stages that the last one does not need"
    )
    build.add_argument("--target", metavar="STAGE", help="build only up to this stage, named by name or number")
    build.add_argument("context", metavar="CONTEXT", help="context directory; -: Dockerfile from stdin, no context")


def _pulling_options(command: argparse.ArgumentParser) -> None:
    pulls = command.add_mutually_exclusive_group()
    for name, value, text in (
        ("--pull", "newer", "pull base images that are newer in their registries, not only what is missing"),
        ("--no-pull", "never", "pull nothing: what is needed has to be here"),
    ):
        pulls.add_argument(name, dest="pulls", action="store_const", const=value, help=text)


def _cache_options(cache: argparse.ArgumentParser) -> None:
    cache.add_argument("--check", action="store_true", help="look for damage in the build cache and in images")
    cache.add_argument("--repair", action="store_true", help="mend what --check finds, or give it up; keep the rest")
    cache.add_argument("--du", action="store_true", help="print what takes how much disk space, by image and by kind")
    cache.add_argument(
        "--dot",
        action="store_true",
        help="draw the build cache: ./build-cache.dot and, by Graphviz, ./build-cache.pdf",
    )
    cache.add_argument(
        "--gc",
        action="store_true",
        help="collect garbage: drop what no image needs, nor a deleted one that can be undeleted; store the rest well",
    )
    cache.add_argument(
        "--keep-deleted",
        metavar="DAYS",
        type=_days,
        help="for how long deleted images can be undeleted after --gc (default: 30; 0: drop them all)",
    )
    cache.add_argument(
        "--prune",
        metavar="KIND,...",
        nargs="?",
        const="default",
        help="free disk space, by taking away: states (of the build cache, that no image needs), large (files that no "
        "state needs), packs (nothing; they are compressed again), downloads, uploads, mounts (caches of RUN "
        "--mount=type=cache), unpacked (directories of images that are in the build cache; undelete, or a build, "
        "unpacks them again), deleted (images that could be "
        "undeleted), images; default: all but the last two, which do not come back",
    )
    cache.add_argument("-n", "--dry-run", action="store_true", help="with --prune: only tell what would go")
    cache.add_argument(
        "--older-than", metavar="AGE", type=_age, help="with --prune: only what was not used for AGE (30m, 12h, 7d, 2w)"
    )
    cache.add_argument(
        "--keep-last",
        metavar="N",
        type=_positive,
        help="with --prune: of each KIND, keep the N things used last (a state with those it was made from; of deleted "
        "images, N versions of each name)",
    )
    cache.add_argument(
        "--max-size",
        metavar="SIZE",
        type=_bytes,
        help="with --prune: only until the storage directory takes SIZE (500M, 20G), cheapest to lose first",
    )
    cache.add_argument(
        "--min-free", metavar="SIZE", type=_bytes, help="with --prune: only until SIZE of the file system are free"
    )
    cache.add_argument("--reset", action="store_true", help="clear the build cache")
    cache.add_argument("--tree", action="store_true", help="print the build cache as a tree")
    cache.add_argument(
        "--why",
        metavar="STATE|IMAGE,STEP",
        help="tell what a state was made of, by whom and why; STATE: the first digits of its ID; STEP: the number that "
        "build prints before the instruction",
    )


def _delete_options(delete: argparse.ArgumentParser) -> None:
    delete.add_argument("image_globs", metavar="IMAGE_GLOB", nargs="+", help="images to delete; quote * ? [ ]")


def _export_options(export: argparse.ArgumentParser) -> None:
    from chimage_core.layer.compress import COMPRESSIONS
    from chimage_core.transfer.formats import Format

    export.add_argument(
        "--compress", metavar="HOW", choices=COMPRESSIONS, help="layers of OCI layouts: gzip (default), zstd or none"
    )
    export.add_argument("--overwrite", action="store_true", help="replace what is at PATH, if it is a file or an image")
    export.add_argument(
        "--format",
        metavar="FORMAT",
        choices=[form.value for form in Format],
        help="directory, tar, squashfs, oci (a directory), oci-archive or docker-archive; default: by the end of PATH: "
        ".tar, .tar.gz, .tgz, .tar.zst, .tzst; .sqfs, .squashfs; .oci; .oci.tar; .docker.tar; all else is a directory",
    )
    export.add_argument(
        "--layers",
        choices=("one", "history"),
        help="history: a layer for each state in the build cache that changed files; default: all files in one layer",
    )
    export.add_argument("image_ref", metavar="IMAGE_REF", help="image to export")
    export.add_argument("path", metavar="PATH", help="file or directory to write; it must not be there")


def _gestalt_options(gestalt: argparse.ArgumentParser) -> None:
    gestalt.add_argument(
        "selector",
        metavar="SELECTOR",
        nargs="?",
        default=None,
        help="bucache, bucache-dot, python-path or storage-path",
    )


def _import_options(import_: argparse.ArgumentParser) -> None:
    import_.add_argument(
        "--select",
        metavar="NAME",
        help="which image of an archive that holds several: its name there, or its tag (default: as IMAGE_REF)",
    )
    import_.add_argument(
        "path",
        metavar="PATH",
        help="directory or tarball (plain, gzip, xz, bzip2, zstd) of the root file system; OCI layout (directory or "
        "tarball); what docker save wrote",
    )
    import_.add_argument("image_ref", metavar="IMAGE_REF", help="name of the new image")


def _inspect_options(inspect: argparse.ArgumentParser) -> None:
    inspect.add_argument("image_ref", metavar="IMAGE_REF", help="image to tell about")


def _list_options(list_: argparse.ArgumentParser) -> None:
    list_.add_argument("-l", "--long", action="store_true", help="also print the time of the last change")
    list_.add_argument(
        "-u",
        "--undeletable",
        "--undeleteable",
        dest="undeletable",
        action="store_true",
        help="list images that can be undeleted, last deleted first; with -l each deletion with its number (see "
        "undelete --nth) and time; with IMAGE_REF those of this image",
    )
    list_.add_argument("image_ref", metavar="IMAGE_REF", nargs="?", default=None, help="print details of this image")


def _modify_options(modify: argparse.ArgumentParser) -> None:
    _running_options(modify)
    modify.add_argument(
        "-c",
        dest="commands",
        metavar="CMD",
        action="append",
        help="run CMD, as RUN does (can be repeated; each has an entry of its own in the build cache)",
    )
    modify.add_argument(
        "-i",
        "--interactive",
        action="store_true",
        help="run a shell, and keep what it has changed if it exits with 0 (default, if stdin is a terminal)",
    )
    modify.add_argument(
        "-S", "--shell", metavar="SHELL", help="path in the image of the shell to use (default: /bin/sh, or its SHELL)"
    )
    modify.add_argument("source", metavar="SOURCE", help="image to start from")
    modify.add_argument("dest", metavar="DEST", help="name of the new image")
    modify.add_argument(
        "script", metavar="SCRIPT", nargs="?", default=None, help="file with commands to run (default, and -: stdin)"
    )


def _push_options(push: argparse.ArgumentParser) -> None:
    push.add_argument(
        "--compress", metavar="HOW", choices=("gzip", "zstd"), help="layers: gzip (default) or zstd (smaller)"
    )
    push.add_argument("--digest-file", metavar="PATH", help="write the digest of what was pushed to this file")
    push.add_argument("--image", metavar="DIR", help="push the unpacked image at DIR, to IMAGE_REF")
    push.add_argument(
        "--index",
        metavar="DEST_REF",
        help="push all IMAGE_REFs, each for another architecture, and an index of them with this name",
    )
    push.add_argument(
        "--layers",
        choices=("one", "history"),
        help="history: a layer for each state in the build cache that changed files; default: all files in one layer",
    )
    push.add_argument("refs", metavar="IMAGE_REF [DEST_REF]", nargs="+", help="image, and where to push it")
    push.set_defaults(auth=True)


def _registry_options(registry: argparse.ArgumentParser) -> None:
    registry.add_argument(
        "--limit", metavar="N", type=_positive, help="of tags and catalog: print at most N names (default: 10000)"
    )
    registry.add_argument("action", metavar="ACTION", choices=("tags", "catalog", "inspect"), help=_REGISTRY_ACTIONS)
    registry.add_argument(
        "ref", metavar="REF", help="image; for tags also without tag; for catalog a registry: HOST:PORT"
    )


_REGISTRY_ACTIONS = "tags: list the tags of an image; catalog: list a registry's images; inspect: tell what an image is"


def _no_options(_: argparse.ArgumentParser) -> None:
    """Nothing but the common ones."""


def _pull_options(pull: argparse.ArgumentParser) -> None:
    pull.add_argument("--last-layer", metavar="N", type=_positive, help="unpack only N layers, for debugging")
    pull.add_argument("--parse-only", action="store_true", help="only tell how IMAGE_REF is understood")
    pull.add_argument("image_ref", metavar="IMAGE_REF", help="image to pull")
    pull.add_argument(
        "dest_ref",
        metavar="DEST_REF",
        nargs="?",
        default=None,
        help="what to call it here; with / or ./ at its start: a directory to unpack it in instead",
    )


def _undelete_options(undelete: argparse.ArgumentParser) -> None:
    undelete.add_argument(
        "--nth", metavar="N", type=_positive, help="recover the Nth last deletion (default: 1, the last one)"
    )
    undelete.add_argument("image_ref", metavar="IMAGE_REF", help="image to recover from the build cache")


_COMMANDS: Mapping[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "build": ("build an image from a Dockerfile", _build_options),
    "build-cache": ("show or change the build cache", _cache_options),
    "delete": ("delete images", _delete_options),
    "export": ("write an image for other programs: directory, tar, SquashFS, OCI, Docker", _export_options),
    "gestalt": ("tell about configuration and available features", _gestalt_options),
    "import": ("copy an image into the storage directory", _import_options),
    "inspect": ("tell all that is known of an image", _inspect_options),
    "list": ("list images", _list_options),
    "modify": ("make an image from another one by commands, a script, or a shell", _modify_options),
    "pull": ("get an image from a registry", _pull_options),
    "push": ("copy an image to a registry", _push_options),
    "registry": ("look into a registry: tags, catalog, inspect", _registry_options),
    "reset": ("delete all images and the build cache", _no_options),
    "storage-path": ("print the path of the storage directory", _no_options),
    "undelete": ("recover a deleted image from the build cache", _undelete_options),
}
"""Subcommands: what each does, and what adds its options."""
