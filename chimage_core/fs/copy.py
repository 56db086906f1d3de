"""Copy files and directory trees with all that an image has: hard links, holes, times, modes, attributes, FIFOs.

Not kept are owners (we have no privilege) and sockets (nobody can answer on a copy). All work goes by directory
descriptors and single names, so symbolic links on either side are copied or replaced, never followed.
"""

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from chimage_core.cancel import CancelToken
from chimage_core.errors import FileError, file_errors
from chimage_core.fs.deferred import Deferred, Delegate, defer
from chimage_core.fs.descend import Descent
from chimage_core.fs.filecopy import Chmod, CopyOptions, FileCopier, times
from chimage_core.fs.remove import remove_at, remove_tree

Exclude = Callable[[str, bool], bool]
"""From the path of an entry, relative to the tree, and whether it is a directory, to whether it is left out."""

_NAMED = 20
"""How many skipped paths a report names."""


@dataclass(slots=True)
class CopyReport:
    """What was copied, and what was not. Filled while copying; a value for everybody else."""

    files: int = 0
    """Regular files, each hard link counted."""
    directories: int = 0
    symlinks: int = 0
    fifos: int = 0
    bytes: int = 0
    """Sizes of the regular files together, hard links counted once."""
    sockets: int = 0
    """Skipped."""
    devices: int = 0
    """Skipped."""
    skipped: tuple[str, ...] = ()
    """The first few paths of skipped sockets and devices, relative to the tree."""
    refused_xattrs: set[str] = field(default_factory=set)
    """Names of attributes that the target's file system does not take."""
    replaced: int = 0
    """Entries of the target that gave way to what was copied."""


def copy_file(
    source: str, target: str, *, xattrs: bool = True, cancel: CancelToken, chmod: Chmod | None = None
) -> CopyReport:
    """Copy a regular file to a new name: content, mode, times, attributes. Neither name may be a symbolic link.

    `chmod` says which permissions the copy gets instead of those of the source. Raises FileError (also if `target`
    exists), Cancelled; `target` is then not there.
    """
    files = FileCopier(CopyOptions(xattrs, cancel, chmod))
    with file_errors("copy file", source):
        try:
            size = files.copy(source, None, target, None)
        except FileExistsError:  # Not ours to remove.
            raise
        except BaseException:
            remove_tree(target)
            raise
    return CopyReport(files=1, bytes=size, refused_xattrs=files.refused)


def copy_tree(
    source: str,
    target: str,
    *,
    xattrs: bool,
    cancel: CancelToken,
    merge: bool = False,
    skip_devices: bool = True,
    exclude: Exclude | None = None,
    chmod: Chmod | None = None,
    delegate: Delegate | None = None,
) -> CopyReport:
    """Copy the directory `source` to `target`.

    `target` must not exist, unless `merge`: then directories that are on both sides are united and take the mode,
    times and attributes of the source (but `target` itself keeps its own, if it was there), and anything else of the
    same name is replaced. Devices are skipped and counted, or, without `skip_devices`, an error. `exclude` says what
    to leave out, with all below. `chmod` says which permissions copies get instead of those of the source. Files may
    be copied by a `delegate`, when all directories are there. Raises FileError, Cancelled, and what `delegate` does;
    what was copied so far stays, for the caller to remove.
    """
    options = CopyOptions(xattrs, cancel, chmod)
    copy = _TreeCopy(source, target, options, merge=merge, skip_devices=skip_devices, exclude=exclude)
    with file_errors("copy directory", source), Descent(source) as origin:
        existed = False
        try:
            os.mkdir(target, 0o700)
        except FileExistsError:
            if not merge:
                raise
            existed = True
        with Descent(target) as destination:
            copy.copy_below(origin, destination, is_new=not existed, delegate=delegate)
            copy.report.directories += 1
            if not existed:
                copy.finish_directory(origin.fd, destination.fd)
    return copy.report


class _TreeCopy:
    """One copy under way: its options, its hard links, its report."""

    def __init__(
        self,
        source: str,
        target: str,
        options: CopyOptions,
        *,
        merge: bool,
        skip_devices: bool,
        exclude: Exclude | None,
    ) -> None:
        self.report = CopyReport()
        self._source = source
        self._target = target
        self._options = options
        self._merge = merge
        self._skip_devices = skip_devices
        self._exclude = exclude
        self._files = FileCopier(options)
        self.report.refused_xattrs = self._files.refused
        self._linked: dict[tuple[int, int], str] = {}
        """Device and inode of a source file with several names → where it was copied to, relative to the target."""
        self._top = -1
        self._new: list[bool] = []
        """For each directory that is entered in the target: nothing was in it before."""
        self._defers = False
        self._deferred: list[Deferred] = []
        """Directories with what is left to be done in them, each before the one that it is in."""

    def copy_below(self, origin: Descent, destination: Descent, *, is_new: bool, delegate: Delegate | None) -> None:
        """Copy all that is in the top directories of both chains, which are there again afterwards.

        `is_new`: the one that is copied to is empty.
        """
        self._top = os.dup(destination.fd)
        self._new = [is_new]
        self._defers = delegate is not None
        try:
            self._copy_below("", None, origin, destination)
            if delegate is not None:
                self._defers = False
                self._complete(delegate)
        finally:
            os.close(self._top)

    def _copy_below(self, prefix: str, names: list[str] | None, origin: Descent, destination: Descent) -> None:
        """Copy entries of the directories at `prefix`, and all below; None: all entries."""
        deferred: list[Deferred | None] = []
        pending: list[list[str]] = []

        def enter(names: list[str] | None) -> None:
            folder = self._defer(prefix, origin, destination) if self._defers else None
            deferred.append(folder)
            if names is None:
                names = os.listdir(origin.fd) if folder is None else self._sort_out(folder, origin.fd, destination.fd)
            pending.append(names)

        enter(names)
        while True:
            self._options.cancel.check()
            if pending[-1]:
                name = pending[-1].pop()
                with _naming(self._source, prefix, name):
                    if self._copy_entry(prefix, name, origin, destination):
                        prefix += name + "/"
                        enter(None)
                continue
            pending.pop()
            folder = deferred.pop()
            if folder is not None:
                self._deferred.append(folder)
            if not pending:
                return
            if folder is None:
                self.finish_directory(origin.fd, destination.fd)
            self.report.directories += 1
            origin.leave()
            destination.leave()
            self._new.pop()
            prefix = prefix[: prefix.rfind("/", 0, -1) + 1]

    def _defer(self, prefix: str, origin: Descent, destination: Descent) -> Deferred | None:
        descriptors = origin.fd, destination.fd
        return defer(self._source, self._target, prefix, descriptors, is_new=self._new[-1])

    def _sort_out(self, folder: Deferred, origin: int, destination: int) -> list[str]:
        """Put the regular files of a directory off for later; return the names of what is to be copied now."""
        with os.scandir(origin) as entries:
            listed = [(entry.name, entry.is_file(follow_symlinks=False)) for entry in entries]
        names = [name for name, is_file in listed if is_file]
        if self._exclude is None and folder.is_new:
            folder.names.extend(names)
        else:
            for name in names:
                self._options.cancel.check()
                with _naming(self._source, folder.prefix, name):
                    if self._exclude is None or not self._exclude(folder.prefix + name, False):
                        self._make_room(name, destination)
                        folder.names.append(name)
        return [name for name, is_file in listed if not is_file]

    def _complete(self, delegate: Delegate) -> None:
        """Do what was put off: the files, then the directories, whose times change with each entry."""
        report = self.report
        if report.replaced:
            delegate.forget()
        done = delegate.copy(self._deferred, self._options)
        report.files += sum(len(folder.names) for folder in self._deferred)
        report.files -= sum(len(folder.names) for folder in done.left)
        report.bytes += done.bytes
        report.refused_xattrs |= done.refused_xattrs
        for folder in done.left:
            self._reopened(folder, self._copy_left)
        for folder in self._deferred:
            if folder.prefix:
                self._reopened(folder, self._finish_deferred)

    def _reopened(self, folder: Deferred, work: Callable[[Deferred, int, int], None]) -> None:
        """Do some work in a directory that was left."""
        with _naming(self._source, folder.prefix, ""):
            source = folder.source.open()
            try:
                target = folder.target.open()
                try:
                    work(folder, source, target)
                finally:
                    os.close(target)
            finally:
                os.close(source)

    def _copy_left(self, folder: Deferred, source: int, target: int) -> None:
        """Copy files that nobody else did, as any entry: they may have become something else."""
        self._new = [folder.is_new]
        with Descent(source) as origin, Descent(target) as destination:
            self._copy_below(folder.prefix, list(folder.names), origin, destination)

    def _finish_deferred(self, folder: Deferred, source: int, target: int) -> None:
        self.finish_directory(source, target)

    def _copy_entry(self, prefix: str, name: str, origin: Descent, destination: Descent) -> bool:
        """Copy one entry; return whether it is a directory, which both chains have then entered."""
        try:
            status = os.stat(name, dir_fd=origin.fd, follow_symlinks=False)
        except FileNotFoundError:  # Gone since the directory was listed.
            return False
        kind = stat.S_IFMT(status.st_mode)
        if self._exclude is not None and self._exclude(prefix + name, kind == stat.S_IFDIR):
            return False
        if kind == stat.S_IFDIR:
            self._new.append(self._make_directory(name, destination.fd))
            origin.enter(name)
            destination.enter(name)
            return True
        if kind in (stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK):
            self._skip(prefix + name, kind)
            return False
        self._make_room(name, destination.fd)
        if kind == stat.S_IFREG:
            self._copy_regular(prefix + name, name, status, origin.fd, destination.fd)
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=origin.fd), name, dir_fd=destination.fd)
            os.utime(name, ns=times(status), dir_fd=destination.fd, follow_symlinks=False)
            self.report.symlinks += 1
        else:
            os.mkfifo(name, 0o600, dir_fd=destination.fd)
            os.chmod(name, self._files.mode(status), dir_fd=destination.fd)
            os.utime(name, ns=times(status), dir_fd=destination.fd)
            self.report.fifos += 1
        return False

    def _make_directory(self, name: str, parent: int) -> bool:
        """Make a directory, unless it is there and to be merged with; return whether it is new."""
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if not self._merge:
                raise
            if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                os.chmod(name, 0o700, dir_fd=parent)  # It gets the mode of the source at the end.
                return False
            os.unlink(name, dir_fd=parent)
            os.mkdir(name, 0o700, dir_fd=parent)
            self.report.replaced += 1
        return True

    def _make_room(self, name: str, directory: int) -> None:
        """Remove what an entry of the target replaces."""
        if not self._new[-1] and remove_at(name, directory):
            self.report.replaced += 1

    def _copy_regular(self, path: str, name: str, status: os.stat_result, origin: int, destination: int) -> None:
        self.report.files += 1
        if status.st_nlink > 1:
            key = (status.st_dev, status.st_ino)
            first = self._linked.setdefault(key, path)
            if first != path and _link(first, self._top, name, destination):
                return
        self.report.bytes += self._files.copy(name, origin, name, destination)

    def finish_directory(self, source: int, target: int) -> None:
        """Give a directory its metadata, after all that is in it is there."""
        self._files.copy_metadata(source, target, os.fstat(source))

    def _skip(self, path: str, kind: int) -> None:
        report = self.report
        if kind == stat.S_IFSOCK:
            report.sockets += 1
        elif self._skip_devices:
            report.devices += 1
        else:
            raise OSError(errno.EPERM, "devices cannot be copied without privilege")
        if len(report.skipped) < _NAMED:
            report.skipped += (path,)


class _naming:  # noqa: N801 (reads as a verb in `with`)
    """Say which entry an OSError is about. A class, since it is entered once per entry."""

    __slots__ = ("_name", "_prefix", "_source")

    def __init__(self, source: str, prefix: str, name: str) -> None:
        self._source, self._prefix, self._name = source, prefix, name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise FileError("copy", f"{self._source}/{self._prefix}{self._name}", error) from error


def _link(first: str, top: int, name: str, directory: int) -> bool:
    """Make a hard link; return False where the file system or its limit of links per file does not allow one."""
    try:
        os.link(first, name, src_dir_fd=top, dst_dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EMLINK, errno.EPERM, errno.EXDEV, errno.ENOTSUP, errno.ENAMETOOLONG):
            raise
        return False
    return True
