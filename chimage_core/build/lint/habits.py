"""Habits that are out of date, risky, or without the effect that one might expect."""

import re
from collections.abc import Iterator

from chimage_core.build.lint.finding import Finding, at
from chimage_core.build.lint.subject import Subject
from chimage_core.dockerfile import ast

_SECRET = re.compile(
    r"(^|_)(PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|CREDENTIALS?)(_|$)", re.IGNORECASE
)
_NO_SECRET = re.compile(r"_(FILE|PATH|DIR|URL|URI|HOST|NAME|LENGTH|TTL|TYPE|ID|MODEL|LIMIT|EXPIRY)$", re.IGNORECASE)


def old_forms(subject: Subject) -> Iterator[Finding]:
    """Find forms that are deprecated."""
    for moment in subject.moments:
        instruction = moment.instruction
        if isinstance(instruction, ast.Env | ast.Label) and instruction.legacy:
            key = instruction.pairs[0][0]
            text = f"the form without “=” is deprecated, and all of the line is the value of {key}"
            yield at(instruction, "warning", "old-pair", text, f"write {instruction.name} {key}=VALUE")
        if isinstance(instruction, ast.Maintainer):
            yield at(instruction, "warning", "maintainer", "deprecated", "use LABEL org.opencontainers.image.authors=…")


def several(subject: Subject) -> Iterator[Finding]:
    """Find instructions of which only the last one of a stage counts."""
    for stage in subject.stages:
        last: dict[type[ast.Instruction], ast.Instruction] = {}
        for moment in stage:
            instruction = moment.instruction
            if not isinstance(instruction, ast.Cmd | ast.Entrypoint | ast.HealthCheck):
                continue
            kind = type(instruction)
            if kind in last:
                text = f"overruled by the one in line {instruction.range.line}: only the last of a stage counts"
                yield at(last[kind], "warning", "overruled", text, "remove one of them")
            last[kind] = instruction


def shell_entrypoint(subject: Subject) -> Iterator[Finding]:
    """Find an ENTRYPOINT in shell form."""
    for moment in subject.moments:
        instruction = moment.instruction
        if isinstance(instruction, ast.Entrypoint) and isinstance(instruction.command, ast.ShellCommand):
            text = "in this form a shell is the program: CMD and arguments are not passed on, nor are signals"
            yield at(instruction, "warning", "entrypoint-shell", text, 'write ENTRYPOINT ["PROGRAM", "ARGUMENT"]')


def relative_workdir(subject: Subject) -> Iterator[Finding]:
    """Find a relative WORKDIR that depends on where the base image left off."""
    for stage in subject.stages:
        for moment in stage:
            if isinstance(moment.instruction, ast.Workdir):
                if not moment.expand(moment.instruction.value).text.startswith("/") and moment.is_open:
                    text = "relative, so it depends on the working directory of the base image"
                    yield at(moment.instruction, "warning", "workdir-relative", text, "begin with an absolute path")
                break


def secrets(subject: Subject) -> Iterator[Finding]:
    """Find variables that seem to hold secrets: they stay in the image and in the build cache."""
    for moment in subject.moments:
        instruction = moment.instruction
        if isinstance(instruction, ast.Env):
            names = [name for name, value in instruction.pairs if value.strip("\"'")]
        elif isinstance(instruction, ast.Arg):
            names = [name for name, _ in instruction.args]
        else:
            continue
        for name in names:
            if _SECRET.search(name) and not _NO_SECRET.search(name):
                text = f"{name} seems to be a secret, and its value can be read from the image and from the build cache"
                yield at(instruction, "warning", "secret", text, "use RUN --mount=type=secret")


def lost_path(subject: Subject) -> Iterator[Finding]:
    """Find ENV that replaces PATH as a whole."""
    for moment in subject.moments:
        if isinstance(moment.instruction, ast.Env):
            for name, value in moment.instruction.pairs:
                if name == "PATH" and "PATH" not in value and "/bin" not in value.split(":"):
                    text = "PATH is replaced, and programs in /bin and /usr/bin are not found any more"
                    yield at(moment.instruction, "warning", "path-lost", text, "add :$PATH at the end")


RULES = (old_forms, several, shell_entrypoint, relative_workdir, secrets, lost_path)
