"""What can be said about a Dockerfile before anything is built: one module of rules per subject.

A rule is a function from a `Subject` to findings. It had better be silent than wrong: who reads a report of things that
are all right does not read the next one.
"""

from collections.abc import Callable, Iterator, Sequence

from chimage_core.build.lint import commands, differences, habits, sources, stages, variables
from chimage_core.build.lint.finding import Finding
from chimage_core.build.lint.subject import Subject

_RULES: Sequence[Callable[[Subject], Iterator[Finding]]] = (
    *differences.RULES,
    *stages.RULES,
    *variables.RULES,
    *sources.RULES,
    *commands.RULES,
    *habits.RULES,
)


def lint(subject: Subject) -> tuple[Finding, ...]:
    """Return all that is to be said, in the order of lines."""
    found = dict.fromkeys(finding for rule in _RULES for finding in rule(subject))
    return tuple(sorted(found, key=lambda finding: (finding.line, finding.column, finding.code)))
