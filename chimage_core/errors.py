"""Everything that can go wrong and that the user can understand and act on.

    ChimageError                     expected; everything else that is raised is a bug
    ├ UsageError (exit 2)            options that do not go together, bad selector
    ├ InvalidReference               image reference or glob that does not parse
    ├ DockerfileError                has a source range: SyntaxProblem, InstructionProblem
    ├ BuildError                     RunFailed, RsyncFailed, ContextError, StageError, ForceUnavailable, UnusedBuildArgs
    ├ RegistryError                  ImageUnavailable, PlatformUnavailable, RegistryUnreachable, RegistryRefused,
    │                                RegistryProtocol
    ├ IntegrityError                 digest or size differs from the promised one
    ├ LayerError                     archive that cannot be unpacked safely
    ├ StorageError                   StorageBusy, StorageInvalid, StorageVersion, ImageNotFound, ImageExists
    ├ CacheError                     CacheDisabled, CacheBroken, NotInCache
    ├ RunnerError, DependencyMissing namespaces, program or kernel feature not there; the hint says how to get it
    ├ FileError                      an OSError plus what we were doing and to which path
    └ Cancelled (exit 128+signal)    asked to stop; cleanup has been done

The message names the offending value and what was expected; the hint says what to do. `code` is stable: JSON output and
tests use it. Texts hold raw values; whoever shows them makes them printable (`text.printable`).
"""

import contextlib
from collections.abc import Iterator

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_BUG = 70
"""EX_SOFTWARE of sysexits.h: an error in chimage itself."""


class ChimageError(Exception):
    """Something the user can understand and act on."""

    code = "error"
    exit_code = EXIT_FAILED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(ChimageError):
    """Options or arguments that do not go together."""

    code = "usage"
    exit_code = EXIT_USAGE


class InvalidReference(ChimageError):
    """An image reference or glob that does not parse."""

    code = "reference.invalid"

    def __init__(self, text: str, column: int, expected: str, *, hint: str | None = None) -> None:
        """`column` counts characters from 0; `len(text)` means "at the end"."""
        # Of one line, whatever was given: or else the caret is nowhere.
        before, after = (part.replace("\n", "\\n").replace("\t", "\\t") for part in (text[:column], text[column:]))
        caret = " " * len(before) + "^"
        super().__init__(f"invalid image reference: {expected}\n  {before}{after}\n  {caret}", hint=hint)
        self.text = text
        self.column = column
        self.expected = expected


class DockerfileError(ChimageError):
    """A Dockerfile that cannot be read or carried out."""

    code = "dockerfile"


class BuildError(ChimageError):
    """A build that cannot go on."""

    code = "build"


class ContextError(BuildError):
    """A source of COPY that is missing, or outside the context."""

    code = "build.context"


class StageError(BuildError):
    """A stage that does not exist or cannot be used here."""

    code = "build.stage"


class UnusedBuildArgs(BuildError):
    """`--build-arg` that no ARG consumed."""

    code = "build.unused-args"


class RunFailed(BuildError):
    """The command of a RUN ended with an error."""

    code = "build.run-failed"


class RsyncFailed(BuildError):
    """The rsync(1) of an RSYNC ended with an error."""

    code = "build.rsync-failed"


class ForceUnavailable(BuildError):
    """The chosen root emulation does not work with this image."""

    code = "build.force-unavailable"


class RegistryError(ChimageError):
    """A registry, or another server, that does not give what was asked for."""

    code = "registry"


class RegistryUnreachable(RegistryError):
    """There is no answer, though we asked several times."""

    code = "registry.unreachable"


class RegistryRefused(RegistryError):
    """The server answered that it will not, or cannot."""

    code = "registry.refused"


class ImageUnavailable(RegistryError):
    """The image is neither here nor in the registry."""

    code = "registry.image-unavailable"


class PlatformUnavailable(RegistryError):
    """The registry has the image, but not for this architecture."""

    code = "registry.platform-unavailable"


class RegistryProtocol(RegistryError):
    """What the registry answers makes no sense."""

    code = "registry.protocol"


class IntegrityError(ChimageError):
    """Content that differs from its promised digest or size."""

    code = "integrity"


class LayerError(ChimageError):
    """An archive that cannot be unpacked safely."""

    code = "layer"


class StorageError(ChimageError):
    """A storage directory that cannot be used."""

    code = "storage"


class StorageBusy(StorageError):
    """Another process holds a lock for longer than `--lock-timeout`."""

    code = "storage.busy"


class StorageInvalid(StorageError):
    """A directory that is not a storage directory of ours, or is damaged."""

    code = "storage.invalid"


class StorageVersion(StorageError):
    """A storage directory of a format that this version cannot use."""

    code = "storage.version"


class ImageNotFound(StorageError):
    """No image of this name in the storage directory."""

    code = "storage.image-not-found"


class ImageExists(StorageError):
    """An image of this name is in the way."""

    code = "storage.image-exists"


class CacheError(ChimageError):
    """The build cache cannot do what was asked for."""

    code = "cache"


class CacheDisabled(CacheError):
    """The operation needs the build cache, which is off."""

    code = "cache.disabled"


class CacheBroken(CacheError):
    """The build cache holds something that cannot be read."""

    code = "cache.broken"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint or "build-cache --check tells what else is damaged, --repair mends it")


class NotInCache(CacheError):
    """The build cache has no such state or image."""

    code = "cache.not-found"


class RunnerError(ChimageError):
    """A container cannot be started."""

    code = "runner"


class DependencyMissing(ChimageError):
    """A program, library or kernel feature that is not there."""

    code = "dependency"


class FileError(ChimageError):
    """An OSError plus what we were doing and to which path."""

    code = "file"

    def __init__(self, doing: str, path: str, error: OSError, *, hint: str | None = None) -> None:
        super().__init__(f"can't {doing}: {path}: {error.strerror or error}", hint=hint)
        self.path = path
        self.errno = error.errno


class Cancelled(ChimageError):
    """Asked to stop; cleanup has been done."""

    code = "cancelled"

    def __init__(self, signal_number: int) -> None:
        super().__init__("cancelled")
        self.exit_code = 128 + signal_number


@contextlib.contextmanager
def file_errors(doing: str, path: str) -> Iterator[None]:
    """Turn an OSError inside the block into a FileError: "can't `doing`: `path`: reason"."""
    try:
        yield
    except OSError as error:
        raise FileError(doing, path, error) from error
