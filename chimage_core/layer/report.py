"""What unpacking did, and what it left out, as a value."""

from dataclasses import dataclass, field

from chimage_core.events import Notice, Sink, Warned
from chimage_core.fs.xattr import warn_left_out

_MAX_WARNINGS = 20


@dataclass(slots=True)
class UnpackReport:
    """Counts over all layers. Filled while unpacking; a value for everybody else."""

    members: int = 0
    bytes: int = 0
    """Sizes of the regular files that were written, also if a later layer replaced them."""
    whiteouts: int = 0
    devices: int = 0
    """Device files skipped."""
    fifos: int = 0
    """FIFOs skipped."""
    below_dev: int = 0
    """Members in the image's /dev skipped: containers get the host's."""
    setuid: int = 0
    """Files and directories that lost setuid or setgid bits."""
    capabilities: int = 0
    """Files whose capabilities (`security.capability`) were dropped."""
    refused_xattrs: set[str] = field(default_factory=set)
    """Names of attributes that the file system does not take."""
    absolute: int = 0
    """Members with absolute names, which were taken as relative to the image."""
    warnings: list[str] = field(default_factory=list)
    """The first few oddities worth a line. Names in it are raw: make them printable."""

    def warn(self, text: str) -> None:
        """Add a warning, unless there are many already."""
        if len(self.warnings) < _MAX_WARNINGS:
            self.warnings.append(text)


def tell(report: UnpackReport, emit: Sink) -> None:
    """Say what was left out, and what was odd."""
    warn_left_out(report.refused_xattrs, emit)
    for text in report.warnings:
        emit(Warned(text=text))
    for count, what in (
        (report.devices, "device files left out"),
        (report.fifos, "FIFOs left out"),
        (report.below_dev, "files in /dev left out, which containers get from the host"),
        (report.setuid, "files lost their setuid or setgid bits, which mean nothing without privilege"),
        (report.capabilities, "files lost their capabilities, which mean nothing without privilege"),
    ):
        if count:
            emit(Notice(level="info", text=f"{what}: {count}"))
