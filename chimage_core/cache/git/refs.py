"""References: which commit a state, an image or a deleted image is.

Reading takes microseconds and neither git(1) nor pygit2: a loose reference is a small file; the others are in
`packed-refs`, sorted, where a name is found by bisecting the mapped file. Writing is link(2) or rename(2) of a
complete file, so that there is never a lock to be left behind by a killed process.
Source: gitrepository-layout(5), git-pack-refs(1), git-check-ref-format(1).
"""

import contextlib
import mmap
import os
import re
from collections.abc import Iterator, Mapping

from chimage_core.errors import CacheBroken, file_errors

STATES, IMAGES, DELETED = "refs/states/", "refs/images/", "refs/deleted/"

_OBJECT = re.compile(rb"[0-9a-f]{40}(?:\s|\Z)")
_PACKED_LINE = re.compile(rb"([0-9a-f]{40}) (refs(?:/(?!\.)[^\0-\x20\x7f/]+)+)")
_PEELED_LINE = re.compile(rb"\^[0-9a-f]{40}")
_PACKED_MARK = b"# pack-refs with:"
_PACKED_HEAD = _PACKED_MARK + b" peeled fully-peeled sorted \n"
PACKED = "packed-refs"
"""File of all references that have none of their own."""
# Letters, digits and some more are always fine; a dot is, unless it is the first, the last, after another, or begins
# `.lock` at the end. Everything else is escaped, `%` too.
_UNSAFE = re.compile(rb"[^A-Za-z0-9_+.-]|\A\.|(?<=\.)\.|\.\Z|\.(?=lock\Z)|\A-")
_DELETION = re.compile(rf"{DELETED}([^/]+)/([0-9]{{20}})")


def escape(name: str) -> str:
    """Return an image name as a component of a reference name."""
    return _UNSAFE.sub(lambda match: b"%%%02x" % match[0][0], os.fsencode(name)).decode("ascii")


def unescape(component: str) -> str:
    """Return the image name that `escape` made `component` of. Raises CacheBroken."""
    from chimage_core.cache.git.metadata import unquote

    return os.fsdecode(unquote(os.fsencode(component)))


def deletion_name(image: str, time_ns: int) -> str:
    """Return the reference that keeps what an image was when it was deleted (ns since the epoch)."""
    # In a fixed width, so that names sort by time.
    return f"{DELETED}{escape(image)}/{time_ns:020d}"


def deletions(references: Mapping[str, bytes]) -> list[tuple[str, int, bytes]]:
    """Return (image, time in ns, commit) of those references that keep deleted images; newest first."""
    found = []
    for name, commit in references.items():
        match = _DELETION.fullmatch(name)
        if match is not None:
            found.append((unescape(match[1]), int(match[2]), commit))
    return sorted(found, key=lambda deletion: deletion[1], reverse=True)


class References:
    """The references of a repository. Values are names of commits, 20 bytes."""

    def __init__(self, repository: str, *, sync: bool) -> None:
        self._root = repository
        self._packed = os.path.join(repository, PACKED)
        self._sync = sync

    def get(self, name: str) -> bytes | None:
        """Return the commit of a reference by its full name, or None."""
        try:
            descriptor = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return self._get_packed(name)
        try:
            text = os.read(descriptor, 64)
        except IsADirectoryError:
            return None
        finally:
            os.close(descriptor)
        if _OBJECT.match(text) is None:
            raise _malformed(name)
        return bytes.fromhex(text[:40].decode())

    def create(self, name: str, commit: bytes) -> bytes:
        """Make a reference unless there is one already; return what it then points to. A malformed one is replaced."""
        with contextlib.suppress(CacheBroken):
            packed = self._get_packed(name)
            if packed is not None:
                return packed
        with self._written(name, commit) as temporary:
            try:
                os.link(temporary, self._path(name))
            except FileExistsError:
                try:
                    return self.get(name) or commit
                except CacheBroken:
                    os.rename(temporary, self._path(name))
            except OSError:  # A file system without hard links: the last one wins.
                os.rename(temporary, self._path(name))
        return commit

    def set(self, name: str, commit: bytes) -> None:
        """Make a reference, or let it point elsewhere."""
        with self._written(name, commit) as temporary:
            os.rename(temporary, self._path(name))

    def delete(self, name: str) -> None:
        """Remove a reference, if there is one."""
        path = self._path(name)
        with file_errors("write build cache", path):
            if self._is_packed(name):
                self._delete_packed(name)
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                os.unlink(path)
            if name.startswith(DELETED):
                with contextlib.suppress(OSError):
                    os.rmdir(os.path.dirname(path))

    def below(self, prefix: str) -> dict[str, bytes]:
        """Return all references whose names start with `prefix`, which ends with a slash; sorted by name.

        Raises CacheBroken if one is malformed.
        """
        values, malformed = self.survey(prefix)
        if malformed:
            raise _malformed(malformed[0])
        return values

    def survey(self, prefix: str) -> tuple[dict[str, bytes], list[str]]:
        """Return all references below `prefix` that can be read, and the names of those that are malformed; sorted.

        Among the latter is PACKED, if something in that file is.
        """
        # The loose ones first: somebody may be putting them into `packed-refs`.
        loose: dict[str, bytes] = {}
        malformed = []
        for name in self._loose(prefix):
            try:
                commit = self.get(name)
            except CacheBroken:
                malformed.append(name)
            else:
                if commit is not None:
                    loose[name] = commit
        if self.packed_problem():
            malformed.append(PACKED)
        packed = {name: commit for commit, name in self._packed_lines() if name.startswith(prefix)}
        values = {name: commit for name, commit in (packed | loose).items() if name not in malformed}
        return dict(sorted(values.items())), sorted(malformed)

    @property
    def is_packed(self) -> bool:
        """Whether no reference has a file of its own."""
        return not any(self._loose("refs/"))

    def names(self, prefix: str) -> list[str]:
        """Return the names of all references below `prefix`, sorted, also of malformed ones."""
        loose = set(self._loose(prefix))
        return sorted(loose.union(name for _, name in self._packed_lines() if name.startswith(prefix)))

    def packed_problem(self) -> str | None:
        """Return what is wrong with the file of packed references, None if nothing is."""
        content = self._read_packed()
        first, *lines = content.split(b"\n")
        for line in lines if first.startswith(_PACKED_MARK) else [first, *lines]:
            if line and not _PACKED_LINE.fullmatch(line) and not _PEELED_LINE.fullmatch(line):
                return f"malformed line: {os.fsdecode(line[:100])}"
        if content[-1:] not in (b"", b"\n"):
            return "its end is missing"
        names = [name for _, name in self._packed_lines()]
        if b" sorted" in first and names != sorted(set(names), key=os.fsencode):
            return "references are not sorted, so that some are not found"
        return None

    def rewrite_packed(self) -> None:
        """Write the file of packed references anew, with all that can be read. Raises FileError, CacheError."""
        from chimage_core.cache.git.packedrefs import replacing

        values = {name: commit for commit, name in reversed(self._packed_lines())}
        lines = [b"%s %s\n" % (commit.hex().encode(), os.fsencode(name)) for name, commit in values.items()]
        with file_errors("write build cache", self._packed), replacing(self._packed, sync=self._sync) as new:
            new.writelines([_PACKED_HEAD, *sorted(lines, key=lambda line: line[41:-1])])

    def _loose(self, prefix: str) -> Iterator[str]:
        for directory, _, files in os.walk(self._path(prefix)):
            for file in files:
                if not file.startswith(".") and not file.endswith(".lock"):
                    yield os.path.relpath(os.path.join(directory, file), self._root)

    def _path(self, name: str) -> str:
        return os.path.join(self._root, name)

    @contextlib.contextmanager
    def _written(self, name: str, commit: bytes) -> Iterator[str]:
        """Give a file with the value, beside the reference; it is removed at the end, if it is still there."""
        parent = os.path.dirname(self._path(name))
        # Git ignores what starts with a dot.
        temporary = os.path.join(parent, f".tmp-{os.urandom(8).hex()}")
        with file_errors("write build cache", self._path(name)):
            descriptor = self._open_new(temporary, parent)
            try:
                try:
                    os.write(descriptor, commit.hex().encode() + b"\n")
                    if self._sync:
                        os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                yield temporary
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
            if self._sync:
                self._sync_directory(parent)

    @staticmethod
    def _open_new(path: str, parent: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        while True:
            try:
                return os.open(path, flags, 0o666)
            except FileNotFoundError:  # A directory of deleted images vanishes with its last reference.
                os.makedirs(parent, exist_ok=True)

    @staticmethod
    def _sync_directory(path: str) -> None:
        from chimage_core.fs.atomic import sync_directory

        sync_directory(path)

    def _get_packed(self, name: str) -> bytes | None:
        try:
            with open(self._packed, "rb") as file:
                if os.fstat(file.fileno()).st_size == 0:
                    return None
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    return _bisect(data, os.fsencode(name))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise _malformed(PACKED) from error

    def _is_packed(self, name: str) -> bool:
        ending = b" %s\n" % os.fsencode(name)
        return ending in self._read_packed()

    def _read_packed(self) -> bytes:
        try:
            with open(self._packed, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return b""

    def _packed_lines(self) -> list[tuple[bytes, str]]:
        matches = map(_PACKED_LINE.fullmatch, self._read_packed().split(b"\n"))
        return [(bytes.fromhex(match[1].decode()), os.fsdecode(match[2])) for match in matches if match]

    def _delete_packed(self, name: str) -> None:
        """Write `packed-refs` anew without one reference."""
        from chimage_core.cache.git.packedrefs import replacing

        ending = b" " + os.fsencode(name)
        with replacing(self._packed, sync=self._sync) as new, open(self._packed, "rb") as old:
            new.writelines(line for line in old if not line.rstrip(b"\n").endswith(ending))


def _malformed(name: str) -> CacheBroken:
    return CacheBroken(f"malformed reference in the build cache: {name}", hint="mend it: build-cache --repair")


def _bisect(data: mmap.mmap, name: bytes) -> bytes | None:
    """Find a name in a mapped `packed-refs` file."""
    if b" sorted" not in data[: data.find(b"\n") + 1]:
        found = data.find(b" %s\n" % name)
        return bytes.fromhex(data[found - 40 : found].decode()) if found >= 40 else None
    low, high = 0, len(data)
    while low < high:
        start = data.rfind(b"\n", low, (low + high) // 2) + 1 or low
        end = data.find(b"\n", start, high)
        end = high if end < 0 else end
        line = data[start:end]
        if line[:1] in (b"#", b"^"):
            # No reference: the one it belongs to decides. A comment is at the very beginning.
            if line[:1] == b"#" or start == low:
                low = end + 1
                continue
            start = data.rfind(b"\n", low, start - 1) + 1 or low
            line = data[start : start + 1024].split(b"\n", 1)[0]
        found_name = line[41:]
        if found_name == name:
            return bytes.fromhex(line[:40].decode())
        if found_name < name:
            low = end + 1
        else:
            high = start
    return None
