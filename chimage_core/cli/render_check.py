"""The outcome of checking and repairing the build cache, as text and as JSON."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from chimage_core.text import duration, plural, printable, size

if TYPE_CHECKING:
    from chimage_core.cache.git.check import Finding
    from chimage_core.ops.check import CheckReport


def check_lines(report: "CheckReport") -> Iterator[str]:
    """Yield one line per finding, then what was looked at."""
    yield from map(finding_line, report.findings)
    done = report.checked
    yield (
        f"checked {plural(done.objects, 'object')} in {plural(done.packs, 'pack')} ({size(done.bytes)}), "
        f"{plural(done.references, 'reference')}, {plural(done.snapshots, 'snapshot')}, "
        f"{plural(done.images, 'unpacked image')} in {duration(done.seconds)}: "
        f"{problems(report)}"
    )


def finding_line(finding: "Finding") -> str:
    """Return a finding with whom it concerns."""
    concerned = [
        f"{label} {', '.join(names)}"
        for label, names in (("image", finding.images), ("deleted", finding.deleted))
        if names
    ]
    if finding.states:
        concerned.append(plural(len(finding.states), "state"))
    suffix = f" ({'; '.join(concerned)})" if concerned else ""
    return printable(f"{finding.severity}: {finding.kind} {finding.subject}: {finding.text}{suffix}")


def problems(report: "CheckReport") -> str:
    """Return how many problems there are."""
    return plural(report.problems, "problem") if report.problems else "no problems"


def check_document(report: "CheckReport") -> dict[str, Any]:
    """Return the outcome for scripts."""
    return {
        "is_sound": not report.problems,
        "findings": [finding._asdict() for finding in report.findings],
        "checked": report.checked._asdict(),
    }
