"""`build --check`: the report as text or JSON, and the exit status."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from chimage_core.errors import EXIT_FAILED, EXIT_OK
from chimage_core.text import plural, printable

if TYPE_CHECKING:
    from chimage_core.build.lint.finding import Severity
    from chimage_core.cli.session import Session
    from chimage_core.ops.build import BuildRequest
    from chimage_core.ops.lint import LintReport

_SEVERITIES: "tuple[Severity, ...]" = ("error", "warning", "note")


def check(session: "Session", request: "BuildRequest") -> int:
    """Print what there is to say. The exit status is 1 if there are errors or, with `--strict`, warnings."""
    from chimage_core.ops.lint import check_dockerfile

    # It may come from a terminal or a pipe, and reading may wait for ever.
    with session.cancel.on_cancel(session.cancel.check):
        report = check_dockerfile(request)
    if session.json:
        counts = {f"{severity}s": report.count(severity) for severity in _SEVERITIES}
        session.json.result({"path": report.path, "findings": [f._asdict() for f in report.findings], **counts})
    else:
        for line in report_lines(report):
            session.print(line)
    severities = _SEVERITIES[:2] if session.option("strict", False) else _SEVERITIES[:1]
    return EXIT_FAILED if any(map(report.count, severities)) else EXIT_OK


def report_lines(report: "LintReport") -> Iterator[str]:
    """Yield one line per finding, perhaps with what to do about it on a second one, then their number."""
    for finding in report.findings:
        place = f"{report.path}:{finding.line}:{finding.column}"
        yield printable(f"{place}: {finding.severity}: {finding.text} [{finding.code}]")
        if finding.suggestion:
            yield printable(f"    {finding.suggestion}")
    counts = [plural(report.count(severity), severity) for severity in _SEVERITIES if report.count(severity)]
    yield f"{printable(report.path)}: {', '.join(counts) or 'nothing to say'}"
