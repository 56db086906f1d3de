"""A parsed Dockerfile as lines for people: what `build --parse-only` prints.

One line per fact: line number and keyword of each instruction, then its parts, quoted, so that it can be seen what was
taken as one word, what a continuation was joined to, and which blanks are there.
"""

from collections.abc import Iterator
from typing import Any

from chimage_core.dockerfile import ast
from chimage_core.dockerfile.as_json import to_document
from chimage_core.text import printable


def to_lines(dockerfile: ast.Dockerfile) -> Iterator[str]:
    """Yield the parse, line by line, without line ends."""
    document = to_document(dockerfile)
    for name, value in document["directives"].items():
        yield f"    # {name} = {_shown(value)}"
    for instruction in document["instructions"]:
        yield from _instruction(instruction, "")


def _instruction(instruction: dict[str, Any], indent: str) -> Iterator[str]:
    yield f"{indent}{instruction.pop('line'):3d} {instruction.pop('name')}"
    instruction.pop("end")
    for name, value in instruction.pop("options").items():
        values = value if isinstance(value, list) else [value]
        yield from (f"{indent}      --{name}" + ("" if one is True else f" = {_shown(one)}") for one in values)
    for key, value in instruction.items():
        yield from _field(key, value, indent)


def _field(key: str, value: Any, indent: str) -> Iterator[str]:
    if key == "trigger":
        yield from _instruction(value, f"{indent}      ")
    elif key == "heredocs":
        for heredoc in value:
            expanded = "expanded" if heredoc["expand"] else "as it stands"
            yield f"{indent}      heredoc {_shown(heredoc['name'])}, {expanded}"
            yield from (f"{indent}      | {printable(line, keep=chr(9))}" for line in heredoc["body"].splitlines())
    elif key in ("pairs", "args"):
        for name, content in value:
            yield f"{indent}      {printable(name)}" + ("" if content is None else f" = {_shown(content)}")
    elif isinstance(value, list):
        yield f"{indent}      {key}: " + " ".join(_shown(one) for one in value)
    elif isinstance(value, str) and key != "form":
        yield f"{indent}      {key}: {_shown(value)}"


def _shown(value: str) -> str:
    return f"“{printable(value)}”"
