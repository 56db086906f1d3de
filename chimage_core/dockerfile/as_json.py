"""A parsed Dockerfile as plain data: what `build --parse-only --json` prints.

The form is a contract with scripts: keys are added, never renamed.
"""

from functools import singledispatch
from typing import Any

from chimage_core.dockerfile import ast


def to_document(dockerfile: ast.Dockerfile) -> dict[str, Any]:
    """Return `{"directives": {...}, "instructions": [...]}`, made of what JSON knows."""
    return {
        "directives": dict(dockerfile.directives),
        "instructions": [_instruction(instruction) for instruction in dockerfile.instructions],
    }


def _instruction(instruction: ast.Instruction) -> dict[str, Any]:
    options = {name: list(value) if isinstance(value, tuple) else value for name, value in instruction.options.items()}
    return {
        "name": instruction.name,
        "line": instruction.range.line,
        "end": instruction.range.end_line,
        "options": options,
        **_fields(instruction),
    }


@singledispatch
def _fields(instruction: ast.Instruction) -> dict[str, Any]:
    raise TypeError(f"no JSON form of {type(instruction)}")


@_fields.register
def _(instruction: ast.From) -> dict[str, Any]:
    alias = {} if instruction.alias is None else {"alias": instruction.alias}
    return {"image": instruction.image, **alias}


@_fields.register(ast.Run)
@_fields.register(ast.Cmd)
@_fields.register(ast.Entrypoint)
def _(instruction: ast.Run | ast.Cmd | ast.Entrypoint) -> dict[str, Any]:
    return _command(instruction.command)


@_fields.register
def _(instruction: ast.Shell) -> dict[str, Any]:
    return {"form": "exec", "argv": list(instruction.argv)}


@_fields.register(ast.Copy)
@_fields.register(ast.Add)
def _(instruction: ast.Copy | ast.Add) -> dict[str, Any]:
    return {
        "form": instruction.form,
        "sources": list(instruction.sources),
        "dest": instruction.dest,
        **_heredocs(instruction.heredocs),
    }


@_fields.register
def _(instruction: ast.Rsync) -> dict[str, Any]:
    return {
        "plus": instruction.plus,
        "rsync_options": list(instruction.rsync_options),
        "sources": list(instruction.sources),
        "dest": instruction.dest,
    }


@_fields.register(ast.Env)
@_fields.register(ast.Label)
def _(instruction: ast.Env | ast.Label) -> dict[str, Any]:
    return {"pairs": [list(pair) for pair in instruction.pairs], "legacy": instruction.legacy}


@_fields.register
def _(instruction: ast.Arg) -> dict[str, Any]:
    return {"args": [list(arg) for arg in instruction.args]}


@_fields.register(ast.Workdir)
@_fields.register(ast.User)
@_fields.register(ast.StopSignal)
@_fields.register(ast.Maintainer)
def _(instruction: ast.Workdir | ast.User | ast.StopSignal | ast.Maintainer) -> dict[str, Any]:
    return {"value": instruction.value}


@_fields.register
def _(instruction: ast.Volume) -> dict[str, Any]:
    return {"form": instruction.form, "paths": list(instruction.paths)}


@_fields.register
def _(instruction: ast.Expose) -> dict[str, Any]:
    return {"ports": list(instruction.ports)}


@_fields.register
def _(instruction: ast.HealthCheck) -> dict[str, Any]:
    command = {} if instruction.command is None else _command(instruction.command)
    rest = {"rest": instruction.rest} if instruction.rest else {}
    return {"type": instruction.type, **command, **rest}


@_fields.register
def _(instruction: ast.OnBuild) -> dict[str, Any]:
    return {"trigger": _instruction(instruction.trigger)}


def _command(command: ast.Command) -> dict[str, Any]:
    if isinstance(command, ast.ExecCommand):
        return {"form": "exec", "argv": list(command.argv)}
    return {"form": "shell", "command": command.text, **_heredocs(command.heredocs)}


def _heredocs(heredocs: tuple[ast.Heredoc, ...]) -> dict[str, Any]:
    if not heredocs:
        return {}
    keys = ("name", "expand", "strip_tabs", "body")
    return {"heredocs": [{key: getattr(heredoc, key) for key in keys} for heredoc in heredocs]}
