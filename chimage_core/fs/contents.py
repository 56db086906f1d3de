"""Copy what is in a file: share blocks where the file system can, keep holes, else let the kernel move the bytes.

Sharing (FICLONE, ioctl_ficlone(2): Btrfs, XFS, bcachefs, NFS 4.2, Lustre no) makes the copy of an image nearly free.
Where it fails once for a lack of support it is not tried again by the same `ContentCopier`.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator

from chimage_core.cancel import CancelToken

Room = Callable[[int], memoryview | None]
"""From a size to memory that a content of that size can be read into."""

_FICLONE = 0x40049409
_CHUNK = 16 << 20
"""Bytes per system call: cancelling must not wait for a terabyte."""
_SMALL = 128 << 10
"""Bytes up to which one read and one write cost less than asking for anything better."""

_NO_CLONING = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.ENOSYS)
_NOT_THIS_FILE = (errno.EINVAL, errno.EPERM, errno.ETXTBSY, errno.EBADF)
# EIO: a bug of some NFS and CIFS clients; EPERM: some sandboxes do not know the call.
_NO_RANGE = (
    errno.ENOSYS,
    errno.EXDEV,
    errno.EINVAL,
    errno.EOPNOTSUPP,
    errno.EBADF,
    errno.EIO,
    errno.EPERM,
    errno.ETXTBSY,
)


class ContentCopier:
    """Copies contents between descriptors and remembers what the file systems at hand cannot do."""

    def __init__(self, cancel: CancelToken, room: Room | None = None) -> None:
        """`room`: where small contents go on their way; None: anywhere."""
        self._cancel = cancel
        self._room = room
        self._can_clone = True
        self._can_copy_range = True

    def copy(self, source: int, target: int, status: os.stat_result) -> memoryview | None:
        """Fill the empty file `target` from `source`, whose fstat(2) is `status`. Raises OSError, Cancelled.

        Returns what `target` holds now, if it went through a `room` as a whole.
        """
        size = status.st_size
        if size == 0:
            return None
        if self._can_clone and self.clone(source, target):
            return None
        is_sparse = status.st_blocks * 512 < size
        if not is_sparse:
            room = None if self._room is None else self._room(size)
            if room is not None:
                data = _read_into(source, room)
                _write_all(target, data, 0)
                return data
            if size <= _SMALL:
                _write_all(target, os.read(source, size), 0)
                return None
        for start, end in data_extents(source, size) if is_sparse else [(0, size)]:
            self._copy_extent(source, target, start, end)
        if is_sparse:
            os.ftruncate(target, size)
        return None

    def clone(self, source: int, target: int) -> bool:
        """Let the empty file `target` share the blocks of `source`; return False if they cannot. Raises OSError."""
        try:
            fcntl.ioctl(target, _FICLONE, source)
        except OSError as error:
            if error.errno in _NO_CLONING:
                self._can_clone = False
            elif error.errno not in _NOT_THIS_FILE:
                raise
            return False
        return True

    def _copy_extent(self, source: int, target: int, offset: int, end: int) -> None:
        while offset < end:
            self._cancel.check()
            count = self._copy_chunk(source, target, offset, min(end - offset, _CHUNK))
            if count == 0:  # The file has become shorter meanwhile.
                return
            offset += count

    def _copy_chunk(self, source: int, target: int, offset: int, count: int) -> int:
        if self._can_copy_range:
            try:
                return os.copy_file_range(source, target, count, offset, offset)
            except OSError as error:
                if error.errno not in _NO_RANGE:
                    raise
                self._can_copy_range = False
        data = os.pread(source, min(count, 1 << 20), offset)
        _write_all(target, data, offset)
        return len(data)


def data_extents(source: int, size: int) -> Iterator[tuple[int, int]]:
    """Give the parts of a file of this size that are no holes, as (start, end). Raises OSError."""
    end = 0
    while end < size:
        try:
            start = os.lseek(source, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.EINVAL:  # No such question on this file system: all is data.
                yield end, size
            elif error.errno != errno.ENXIO:  # That is: a hole up to the end.
                raise
            return
        end = os.lseek(source, start, os.SEEK_HOLE)
        yield start, end


def _read_into(source: int, room: memoryview) -> memoryview:
    """Read from a file what there is room for; return that part of the room, all but for a file that became shorter."""
    end = count = os.readv(source, [room])
    while count and end < len(room):
        count = os.readv(source, [room[end:]])
        end += count
    return room if end == len(room) else room[:end]


def _write_all(target: int, data: bytes | memoryview, offset: int) -> None:
    count = os.pwrite(target, data, offset)
    while count < len(data):
        count += os.pwrite(target, memoryview(data)[count:], offset + count)
