"""The call of rsync(1), and what keeps it inside the image.

rsync runs on the host, as us, and would follow the image's links as the host means them. So it gets a destination that
we have resolved inside the image. What is below it, rsync does not follow, but replaces; unless it was asked to
(`--keep-dirlinks`), or does not touch what is there: then all links are looked at before. Source: ch-image manual,
"RSYNC".
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from chimage_core.build.context import SourceTree
from chimage_core.build.rsync import rules
from chimage_core.build.rsync.options import Option
from chimage_core.build.rsync.sources import means_contents, refuse_outside
from chimage_core.build.step import Tools
from chimage_core.errors import ContextError, DependencyMissing, RsyncFailed
from chimage_core.fs.paths import resolve_in_root
from chimage_core.proc import find_program, run_shown
from chimage_core.rootfs.changes import Changes, PathsChanged
from chimage_core.rootfs.directories import accessible, make_directories
from chimage_core.rootfs.place import ImagePlace

_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
"""No HOME: what is in a ~/.popt or ~/.cvsignore is nothing that the build cache could know of."""

_KEEPS_LINKS = frozenset(("keep-dirlinks", "ignore-existing", "no-implied-dirs", "no-i-d"))
"""Options with which a link that is where a directory comes may stay, and be followed."""

_REACHES_FURTHER = {"relative", "files-from", "iconv", "backup", "delete-missing-args", "del"} | {
    f"delete{when}" for when in ("", "-before", "-during", "-delay", "-after", "-excluded")
}
"""Options with which other names in the destination may change than those of the sources."""

_STATUSES: Mapping[int, tuple[str, str | None]] = {
    1: ("wrong syntax or usage", "rsync(1) has said above which option it does not like"),
    3: ("can’t select sources or destination", None),
    4: ("not supported by this rsync(1)", "it may have been built without ACLs or xattrs: --no-xattrs leaves them out"),
    5: ("can’t begin", None),
    10: ("its processes can’t talk to each other", None),
    11: (
        "input/output error",
        "rsync(1) has said above which; of the destination, it makes only the last directory (--mkpath: all)",
    ),
    12: ("its processes don’t understand each other", None),
    13: ("can’t say what it has to say", None),
    14: ("its processes can’t talk to each other", None),
    20: ("it was asked to stop", None),
    22: ("out of memory", None),
    23: (
        "not everything could be copied",
        "rsync(1) has said above what; if it was extended attributes or ACLs, --no-xattrs leaves them out",
    ),
    24: ("source files vanished meanwhile", "somebody changes the context during the build"),
    25: ("more to delete than --max-delete allows", None),
    30: ("it took longer than allowed", None),
}
"""What an exit status means, and what to do: rsync(1), "EXIT VALUES"."""


class CopyByRsync(NamedTuple):
    """Call rsync(1)."""

    tree: SourceTree
    words: tuple[str, ...]
    """Sources, relative to the tree."""
    target: str
    """Absolute path in the image, with the slash that it may have at its end."""
    workdir: str | None
    """To be made if it is missing: the destination is relative to it."""
    options: tuple[Option, ...]
    shows_progress: bool
    """If there is a terminal."""

    def apply(self, place: ImagePlace, tools: Tools) -> Changes:
        """Return what was copied to. Raises RsyncFailed, ContextError, DependencyMissing."""
        program = find_program("rsync")
        if program is None:
            raise DependencyMissing(
                "can't RSYNC: the host has no rsync(1)", hint="install rsync, load its module, or use COPY"
            )
        _refuse_storage(self.tree, self.words, place)
        tools.opening(place)
        made = make_directories(place.root, self.workdir)[1] if self.workdir else None
        with accessible(place.root, self.target):
            destination = _destination(place.root, self.target)
            self._refuse_leaving(place.root, destination)
            changed = self._changed(place.root, destination)
            if any(os.path.lexists(f"{place.root}/{path}") for path in changed):
                # Files that are up to date get new permissions in place, and --inplace writes.
                tools.unshare(place)
            arguments = self._arguments(place, tools)
            status = run_shown(
                [program, *arguments, "--", *map(_local, self.words), destination],
                environment=_ENVIRONMENT,
                cancel=tools.cancel,
                cwd=self.tree.root,
                output=tools.output,
            )
        if status != 0:
            raise _failed(status)
        return PathsChanged((*changed, made) if made else changed)

    @property
    def _names(self) -> frozenset[str]:
        return frozenset(option.name for option in self.options)

    def _arguments(self, place: ImagePlace, tools: Tools) -> Iterator[str]:
        """Give the options, with paths on the host."""
        filters = 0
        for option in self.options:
            path = rules.file_of(option)
            if option.name == "F":
                # As rsync means it, but for files above the sources, which may lie outside the context.
                filters += 1
                yield "--filter=dir-merge .rsync-filter" if filters == 1 else "--filter=exclude .rsync-filter"
            elif path is None:
                yield option.argument
            else:
                yield self._with_path(option, path, place).argument
        if self.shows_progress and tools.output is None and os.isatty(2):
            yield "--info=progress2"

    def _with_path(self, option: Option, path: str, place: ImagePlace) -> Option:
        in_image = path.startswith("/")
        real = rules.path_in_image(place.root, path) if in_image else rules.path_in_context(self.tree, path)
        content = rules.read(option, real)
        if option.name == "files-from" and not follows_links(self.options):
            for name in rules.listed_names(content, is_nul_separated="from0" in self._names):
                refuse_outside(self.tree, os.path.join(self.words[0], name), name)
        return rules.with_file(option, real)

    def _changed(self, root: str, destination: str) -> tuple[str, ...]:
        """Return the paths, relative to the root, below which something may change."""
        if not os.path.isdir(destination):
            missing = destination.rstrip("/")
            while not os.path.isdir(os.path.dirname(missing)):
                missing = os.path.dirname(missing)
            return (os.path.relpath(missing, root),)
        names: set[str] = set()
        if not self._names & _REACHES_FURTHER:
            for word in self.words:
                path = os.path.join(self.tree.root, word)
                names.update(os.listdir(path) if means_contents(word) else [os.path.basename(word)])
        # Without names, the directory itself may get other metadata.
        return tuple(os.path.relpath(f"{destination}/{name}", root) for name in sorted(names) or [""])

    def _refuse_leaving(self, root: str, destination: str) -> None:
        """Raise ContextError if rsync would follow a link in the image that means something else on the host."""
        names = self._names
        if not names & _KEEPS_LINKS or not os.path.isdir(destination):
            return
        for word in self.words:
            source = os.path.join(self.tree.root, word)
            if "relative" in names:
                _compare(root, self.tree.root, destination, set())
            elif means_contents(word) or "files-from" in names:
                _compare(root, source, destination, set())
            elif os.path.isdir(source):
                below = _directory(root, f"{destination}/{os.path.basename(word)}")
                if below is not None:
                    _compare(root, source, below, set())


def follows_links(options: Iterable[Option]) -> bool:
    """Return whether rsync copies what some links of the sources lead to, instead of the links."""
    return any(option.name in ("copy-links", "copy-unsafe-links", "copy-dirlinks") for option in options)


def _compare(root: str, source: str, target: str, seen: set[tuple[str, str]]) -> None:
    """Look at each directory in the image that a directory of the source comes to."""
    if (os.path.realpath(source), target) in seen:
        return
    seen.add((os.path.realpath(source), target))
    with os.scandir(source) as entries:
        names = [entry.name for entry in entries if entry.is_dir()]
    for name in names:
        below = _directory(root, f"{target}/{name}")
        if below is not None:
            _compare(root, f"{source}/{name}", below, seen)


def _directory(root: str, path: str) -> str | None:
    """Return the directory that a path of the image means, None if there is none. Raises ContextError if the host
    sees another one."""
    if not os.path.islink(path):
        return path if os.path.isdir(path) else None
    inside = resolve_in_root(root, os.path.relpath(path, root))
    if os.path.isdir(path) and os.path.realpath(path) != os.path.realpath(inside):
        raise _leaving(root, path)
    return inside if os.path.isdir(inside) else None


def _leaving(root: str, path: str) -> ContextError:
    link = f"/{os.path.relpath(path, root)} -> {os.readlink(path)}"
    return ContextError(
        f"can't RSYNC: rsync(1) would leave the image by its link {link}",
        hint="it is absolute, or leads above the root; name the directory that is meant, or use COPY",
    )


def _destination(root: str, target: str) -> str:
    """Return the path on the host of the destination, so that rsync sees there what it would see in the image."""
    is_directory = target.rpartition("/")[2] in ("", ".", "..")
    resolved = resolve_in_root(root, target)
    if is_directory or os.path.isdir(resolved):
        return f"{resolved}/" if is_directory else resolved
    # A link to a file is replaced, so it is the link that matters.
    path = resolve_in_root(root, target, follow_last=False)
    if os.path.isdir(path):
        raise _leaving(root, path)
    return path


def _refuse_storage(tree: SourceTree, words: tuple[str, ...], place: ImagePlace) -> None:
    """Raise ContextError if the image itself is inside a source: it would be copied into itself without end."""
    image = os.path.realpath(place.root)
    for word in words:
        path = os.path.realpath(os.path.join(tree.root, word))
        if os.path.commonpath((path, image)) == path:
            raise ContextError(
                f"can't RSYNC: the storage directory is inside the source: {path}",
                hint="choose another directory with --storage, or name the files to copy",
            )


def _local(word: str) -> str:
    """Write a source so that rsync does not take it for one on another host."""
    return f"./{word}" if ":" in word.partition("/")[0] else word


def _failed(status: int) -> RsyncFailed:
    if status < 0:
        return RsyncFailed(f"build failed: rsync(1) was killed by signal {-status}")
    meaning, hint = _STATUSES.get(status, (None, None))
    return RsyncFailed(f"build failed: rsync(1) exited with {status}{f': {meaning}' if meaning else ''}", hint=hint)
