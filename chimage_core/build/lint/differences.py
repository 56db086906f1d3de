"""What is ignored or refused here, or differs from Docker. Source: ch-image manual, "Compatibility"."""

from collections.abc import Iterator, Mapping

from chimage_core.build.instructions import check
from chimage_core.build.lint.finding import Finding, Severity, at
from chimage_core.build.lint.mounts import mount_fields
from chimage_core.build.lint.subject import Subject
from chimage_core.dockerfile import ast
from chimage_core.errors import DockerfileError

_RECORDED: Mapping[type[ast.Instruction], str] = {
    ast.Expose: "containers use the host’s network, so there are no ports to publish",
    ast.HealthCheck: "nothing watches containers",
    ast.StopSignal: "nothing stops containers",
    ast.User: "all commands of a build run as (emulated) root, and containers as who starts them",
    ast.Volume: "there are no volumes, only its directories are made; bind directories of the host instead",
}
"""Instructions that do nothing during a build, and why."""


def ignored(subject: Subject) -> Iterator[Finding]:
    """Find instructions and options that do nothing."""
    for moment in subject.moments:
        instruction = moment.instruction
        why = _RECORDED.get(type(instruction))
        if why:
            yield at(instruction, "note", f"{instruction.name.lower()}-ignored", f"not acted on: {why}")
        if isinstance(instruction, ast.Copy | ast.Add) and instruction.chown is not None:
            text = "--chown is ignored: there is only one user in an unprivileged build"
            yield at(instruction, "note", "chown-ignored", text)
        if isinstance(instruction, ast.Run):
            yield from _run(instruction)


def refused(subject: Subject) -> Iterator[Finding]:
    """Find what a build would refuse before it begins."""
    for moment in subject.moments:
        if isinstance(moment.instruction, ast.From):
            continue
        try:
            check(moment.instruction, subject.dockerfile.path)
        except DockerfileError as error:
            # Its message begins with the line and the keyword.
            text = error.message.split(": ", 1)[-1]
            yield at(moment.instruction, "error", "refused", text, error.hint)


def read(subject: Subject) -> Iterator[Finding]:
    """Find what the parser has warned of."""
    for warning in subject.dockerfile.warnings:
        severity: Severity = "note" if warning.code == "parser-directive" else "warning"
        yield Finding(severity, warning.code, warning.line, 1, warning.text)


def ignore_file(subject: Subject) -> Iterator[Finding]:
    """Find RSYNC beside a `.dockerignore`, which counts for COPY and ADD only."""
    if subject.context is None or subject.context.ignored is None:
        return
    for moment in subject.moments:
        if isinstance(moment.instruction, ast.Rsync):
            text = "what .dockerignore excludes is copied all the same"
            yield at(moment.instruction, "note", "rsync-dockerignore", text, "use --exclude of rsync(1)")


def _run(instruction: ast.Run) -> Iterator[Finding]:
    for fields in map(mount_fields, instruction.mounts):
        owner = [key for key in ("uid", "gid") if fields.get(key, "0") != "0"]
        if owner:
            text = f"--mount: {' and '.join(owner)} ignored: there is only one user in an unprivileged build"
            yield at(instruction, "note", "mount-owner-ignored", text)
        if fields.get("type") == "ssh":
            text = "--mount=type=ssh works with a running agent only, not with key files"
            yield at(
                instruction, "note", "ssh-agent", text, "start ssh-agent, ssh-add the key, and build with --ssh default"
            )


RULES = (ignored, refused, read, ignore_file)
