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
from chimage_core.fs import xattr
from chimage_core.fs.contents import ContentCopier
from chimage_core.fs.descend import Descent
from chimage_core.fs.remove import remove_at, remove_tree

_OPEN_SOURCE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_TARGET = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
Chmod = Callable[[int], int]
"""From `st_mode` of a source to the permission bits of its copy."""

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


def copy_file(
    source: str, target: str, *, xattrs: bool = True, cancel: CancelToken, chmod: Chmod | None = None
) -> CopyReport:
    """Copy a regular file to a new name: content, mode, times, attributes. Neither name may be a symbolic link.

    `chmod` says which permissions the copy gets instead of those of the source. Raises FileError (also if `target`
    exists), Cancelled; `target` is then not there.
    """
    copy = _TreeCopy(xattrs=xattrs, cancel=cancel, chmod=chmod)
    with file_errors("copy file", source):
        try:
            copy.copy_file(source, None, target, None)
        except FileExistsError:  # Not ours to remove.
            raise
        except BaseException:
            remove_tree(target)
            raise
    return copy.report


def copy_tree(
    source: str,
    target: str,
    *,
    xattrs: bool,
    cancel: CancelToken,
    merge: bool = False,
    skip_devices: bool = True,
    exclude: Callable[[str, bool], bool] | None = None,
    chmod: Chmod | None = None,
) -> CopyReport:
    """Copy the directory `source` to `target`.

    `target` must not exist, unless `merge`: then directories that are on both sides are united and take the mode,
    times and attributes of the source (but `target` itself keeps its own, if it was there), and anything else of the
    same name is replaced. Devices are skipped and counted, or, without `skip_devices`, an error. `exclude(path,
    is_directory)` with the path relative to `source` says what to leave out, with all below. `chmod` says which
    permissions copies get instead of those of the source. Raises FileError, Cancelled; what was copied so far stays,
    for the caller to remove.
    """
    copy = _TreeCopy(xattrs=xattrs, cancel=cancel, merge=merge, skip_devices=skip_devices, exclude=exclude, chmod=chmod)
    with file_errors("copy directory", source), Descent(source) as origin:
        existed = False
        try:
            os.mkdir(target, 0o700)
        except FileExistsError:
            if not merge:
                raise
            existed = True
        with Descent(target) as destination:
            copy.copy_below(source, origin, destination, is_new=not existed)
            copy.report.directories += 1
            if not existed:
                copy.finish_directory(origin.fd, destination.fd)
    return copy.report


class _TreeCopy:
    """One copy under way: its options, its hard links, its report."""

    def __init__(
        self,
        *,
        xattrs: bool,
        cancel: CancelToken,
        merge: bool = False,
        skip_devices: bool = True,
        exclude: Callable[[str, bool], bool] | None = None,
        chmod: Chmod | None = None,
    ) -> None:
        self.report = CopyReport()
        self._xattrs = xattrs
        self._cancel = cancel
        self._merge = merge
        self._skip_devices = skip_devices
        self._exclude = exclude
        self._mode = chmod or stat.S_IMODE
        self._contents = ContentCopier(cancel)
        self._linked: dict[tuple[int, int], str] = {}
        """Device and inode of a source file with several names → where it was copied to, relative to the target."""
        self._top = -1
        self._new: list[bool] = []
        """For each directory that is entered in the target: nothing was in it before."""

    def copy_below(self, source: str, origin: Descent, destination: Descent, *, is_new: bool) -> None:
        """Copy all that is in the top directories of both chains, which are there again afterwards.

        `is_new`: the one that is copied to is empty.
        """
        self._top = os.dup(destination.fd)
        self._new = [is_new]
        try:
            self._copy_below(source, origin, destination)
        finally:
            os.close(self._top)

    def _copy_below(self, source: str, origin: Descent, destination: Descent) -> None:
        pending = [os.listdir(origin.fd)]
        prefix = ""
        while True:
            if pending[-1]:
                self._cancel.check()
                name = pending[-1].pop()
                with _naming(source, prefix, name):
                    if self._copy_entry(prefix, name, origin, destination):
                        pending.append(os.listdir(origin.fd))
                        prefix += name + "/"
            elif origin.depth:
                pending.pop()
                self.finish_directory(origin.fd, destination.fd)
                self.report.directories += 1
                origin.leave()
                destination.leave()
                self._new.pop()
                prefix = prefix[: prefix.rfind("/", 0, -1) + 1]
            else:
                return

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
        if not self._new[-1]:
            remove_at(name, destination.fd)
        if kind == stat.S_IFREG:
            self._copy_regular(prefix + name, name, status, origin.fd, destination.fd)
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=origin.fd), name, dir_fd=destination.fd)
            os.utime(name, ns=_times(status), dir_fd=destination.fd, follow_symlinks=False)
            self.report.symlinks += 1
        else:
            os.mkfifo(name, 0o600, dir_fd=destination.fd)
            os.chmod(name, self._mode(status.st_mode), dir_fd=destination.fd)
            os.utime(name, ns=_times(status), dir_fd=destination.fd)
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
        return True

    def _copy_regular(self, path: str, name: str, status: os.stat_result, origin: int, destination: int) -> None:
        self.report.files += 1
        if status.st_nlink > 1:
            key = (status.st_dev, status.st_ino)
            first = self._linked.setdefault(key, path)
            if first != path and _link(first, self._top, name, destination):
                return
        self.report.bytes += self.copy_file(name, origin, name, destination)

    def copy_file(self, name: str, origin: int | None, target_name: str, destination: int | None) -> int:
        """Copy one regular file between directories (None: names are paths) and return its size."""
        source = os.open(name, _OPEN_SOURCE, dir_fd=origin)
        try:
            status = os.fstat(source)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            target = os.open(target_name, _OPEN_TARGET, 0o600, dir_fd=destination)
            try:
                self._contents.copy(source, target, status)
                self._copy_metadata(source, target, status)
            finally:
                os.close(target)
        finally:
            os.close(source)
        return status.st_size

    def finish_directory(self, source: int, target: int) -> None:
        """Give a directory its metadata, after all that is in it is there."""
        self._copy_metadata(source, target, os.fstat(source))

    def _copy_metadata(self, source: int, target: int, status: os.stat_result) -> None:
        if self._xattrs:
            attributes = xattr.read(source)
            if attributes:
                self.report.refused_xattrs.update(xattr.write(target, attributes))
        os.fchmod(target, self._mode(status.st_mode))
        os.utime(target, ns=_times(status))

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


def _times(status: os.stat_result) -> tuple[int, int]:
    return status.st_atime_ns, status.st_mtime_ns


def _link(first: str, top: int, name: str, directory: int) -> bool:
    """Make a hard link; return False where the file system or its limit of links per file does not allow one."""
    try:
        os.link(first, name, src_dir_fd=top, dst_dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EMLINK, errno.EPERM, errno.EXDEV, errno.ENOTSUP, errno.ENAMETOOLONG):
            raise
        return False
    return True
