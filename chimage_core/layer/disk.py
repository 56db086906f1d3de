"""The image on the disk, while layers are unpacked: directories by descriptors, files without a path.

Nothing here takes a path: directories are opened one component after another from the destination, and never through a
symbolic link, of which none exists until `finish`. Directories are private (0700) until then.
"""

import errno
import os
import stat
from collections import deque
from collections.abc import Iterable, Mapping
from types import TracebackType

from chimage_core.cancel import CancelToken
from chimage_core.errors import FileError
from chimage_core.fs import xattr
from chimage_core.fs.copy import copy_file
from chimage_core.fs.descend import OPEN_DIRECTORY
from chimage_core.fs.remove import remove_at
from chimage_core.layer.header import Member
from chimage_core.layer.report import UnpackReport
from chimage_core.layer.stream import BlockStream
from chimage_core.layer.tree import Directory, File, Node, Removed, Symlink, shown

_OPEN_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_KEPT_OPEN = 256
"""Directories kept open. Archives are in the order of directories, so more than 95 % of lookups hit (measured)."""
_NO_LINK = (errno.EMLINK, errno.EPERM, errno.ENOTSUP, errno.EXDEV, errno.ENOSYS)
_UNLIMITED = 1 << 62


class Disk:
    """Writes the entries of a tree below a destination directory. A context manager."""

    def __init__(self, destination: str, root: Directory, report: UnpackReport, *, xattrs: bool) -> None:
        """`root` becomes the node of `destination`. Raises FileError."""
        self._root = root
        self._report = report
        self._xattrs = xattrs
        self._opened: deque[Directory] = deque()
        root.is_made = True
        try:
            root.fd = os.open(destination, OPEN_DIRECTORY)
            self._cut = _mode_cut(root.fd)
        except OSError as error:
            raise FileError("unpack into", destination, error) from error

    def __enter__(self) -> "Disk":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for directory in self._opened:
            _close(directory)
        _close(self._root)

    def free(self) -> int:
        """Return how many bytes can be written."""
        status = os.fstatvfs(self._root.fd)
        # File systems without a size, such as an unlimited tmpfs, say 0 to everything.
        return status.f_bavail * status.f_frsize if status.f_blocks else _UNLIMITED

    def write_file(self, member: Member, parent: Directory, name: bytes, stream: BlockStream) -> None:
        """Make a regular file, under a name that is free, with the member's data, which is next in the stream."""
        mode = member.mode & 0o777 | 0o600
        fd = os.open(name, _OPEN_FILE, mode, dir_fd=parent.fd if parent.fd >= 0 else self.open(parent))
        try:
            if member.sparse is None:
                stream.write_to(fd, member.size)
            else:
                for offset, length in member.sparse.extents:
                    os.lseek(fd, offset, os.SEEK_SET)
                    stream.write_to(fd, length)
                os.ftruncate(fd, member.sparse.size)
            if member.xattrs:
                self._write_xattrs(fd, member.xattrs)
            if mode & self._cut:
                os.fchmod(fd, mode)
            os.utime(fd, ns=(member.mtime, member.mtime))
        finally:
            os.close(fd)

    def link(self, source: Directory, source_name: bytes, parent: Directory, name: bytes, cancel: CancelToken) -> None:
        """Make a hard link, or a copy where the file system has no (more) links."""
        held = os.dup(self.open(source))  # Opening the other directory may close this one.
        try:
            fd = self.open(parent)
            os.link(source_name, name, src_dir_fd=held, dst_dir_fd=fd, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            paths = [f"/proc/self/fd/{one}/{os.fsdecode(last)}" for one, last in ((held, source_name), (fd, name))]
            copy_file(paths[0], paths[1], cancel=cancel)
        finally:
            os.close(held)

    def remove(self, removed: Iterable[Removed]) -> None:
        """Remove what was taken out of the tree. Files are unlinked: other names may link to their content."""
        for parent, name, node in removed:
            if _is_here(node):
                remove_at(name, self.open(parent))

    def open(self, directory: Directory) -> int:
        """Return the descriptor of a directory, made if it is missing. Others that are opened may close it."""
        missing = []
        while directory.fd < 0:
            missing.append(directory)
            directory = directory.parent
        fd = directory.fd
        for below in reversed(missing):
            if not below.is_made:
                os.mkdir(below.name, 0o700, dir_fd=fd)
                if self._cut & 0o700:
                    os.chmod(below.name, 0o700, dir_fd=fd)
                below.is_made = True
            fd = below.fd = os.open(below.name, OPEN_DIRECTORY, dir_fd=fd)
            self._opened.append(below)
            if len(self._opened) > _KEPT_OPEN:
                _close(self._opened.popleft())
        return fd

    def finish(self) -> None:
        """Make the symbolic links, and give directories their modes, times and attributes. Raises FileError."""
        for directory in reversed(list(self._root.descendants())):  # Deepest first.
            try:
                self._finish_directory(directory)
            except OSError as error:
                raise FileError("unpack directory", shown(directory.name), error) from error

    def _finish_directory(self, directory: Directory) -> None:
        if _is_passed(directory):
            return
        fd = self.open(directory)
        for name, node in directory.children.items():
            if type(node) is Symlink and not node.is_lower:
                os.symlink(node.target, name, dir_fd=fd)
                os.utime(name, ns=(node.mtime, node.mtime), dir_fd=fd, follow_symlinks=False)
        if directory.lower is not None and not directory.is_declared:
            _take_metadata(fd, directory.lower)
            return
        if directory.xattrs:
            self._write_xattrs(fd, directory.xattrs)
        os.fchmod(fd, directory.mode)
        os.utime(fd, ns=(directory.mtime, directory.mtime))

    def _write_xattrs(self, fd: int, attributes: Mapping[str, bytes]) -> None:
        if xattr.CAPABILITY in attributes:
            self._report.capabilities += 1
        if self._xattrs:
            # Of what we keep elsewhere, ACLs name users of another machine.
            kept = {name: value for name, value in attributes.items() if name[:5] == "user." and xattr.is_kept(name)}
            self._report.refused_xattrs.update(xattr.write(fd, kept))


def _is_passed(directory: Directory) -> bool:
    """Return whether it is of the image that was there, and somebody came by but left nothing."""
    if directory.layer >= 0 or directory.is_made:
        return False
    return all(type(node) is not Symlink or node.is_lower for node in directory.children.values())


def _take_metadata(fd: int, model: bytes) -> None:
    """Give a directory the mode, times and attributes of another one."""
    status = os.lstat(model)
    xattr.write(fd, xattr.read(model))
    os.fchmod(fd, stat.S_IMODE(status.st_mode))
    os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))


def _close(directory: Directory) -> None:
    if directory.fd >= 0:
        os.close(directory.fd)
        directory.fd = -1


def _is_here(node: Node) -> bool:
    return type(node) is File or (type(node) is Directory and node.is_made)


def _mode_cut(directory: int) -> int:
    """Return the permission bits that new files do not get, by the umask or the directory's default ACL.

    Found by trying: reading the umask means changing it, for all threads.
    """
    probe = ".chimage-probe"
    fd = os.open(probe, _OPEN_FILE, 0o777, dir_fd=directory)
    try:
        return 0o777 & ~os.fstat(fd).st_mode
    finally:
        os.close(fd)
        os.unlink(probe, dir_fd=directory)
