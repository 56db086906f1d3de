"""`build --check`: what can be said about a Dockerfile before anything is built. Needs no storage directory."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from chimage_core.build.lint import lint
from chimage_core.build.lint.finding import Finding, Severity
from chimage_core.build.lint.subject import make_subject
from chimage_core.dockerfile.errors import NoInstructions, SyntaxProblem
from chimage_core.ops.build import BuildRequest, read_dockerfile
from chimage_core.ops.inputs import open_contexts


class LintReport(NamedTuple):
    """All findings."""

    path: str
    """The Dockerfile's."""
    findings: tuple[Finding, ...]
    """In the order of lines. Of a file that does not parse, only the first errors."""

    def count(self, severity: Severity) -> int:
        """Return how many findings are so severe."""
        return sum(finding.severity == severity for finding in self.findings)


def check_dockerfile(request: BuildRequest) -> LintReport:
    """Read a Dockerfile, and look at its context. Raises UsageError, ContextError, FileError."""
    try:
        dockerfile = read_dockerfile(request)
    except SyntaxProblem as problem:
        return LintReport(problem.path, tuple(_syntax_errors(problem)))
    except NoInstructions as problem:
        path = problem.message.rpartition(": ")[2]
        return LintReport(path, (Finding("error", "no-instructions", 1, 1, "there are no instructions"),))
    context, contexts = open_contexts(request, dockerfile)
    subject = make_subject(dockerfile, request.build_args, context, contexts, request.target)
    return LintReport(dockerfile.path, lint(subject))


def _syntax_errors(problem: SyntaxProblem) -> Iterator[Finding]:
    for line, column, _, message in problem.faults:
        # It begins with the line of the instruction, for those that know ch-image.
        yield Finding("error", "syntax", line, column, re.sub(r"^ *\d+ ", "", message))
    if problem.has_more:
        yield Finding("error", "syntax", line, column, "more errors follow: correct these first")
