"""Dockerfiles that are meant to hurt: each about SIZE characters of what some part of the front end could stumble over.

Shared by the tests, which look for crashes and for input that never ends, and by `bench.dockerfiles`, which measures.
"""

from collections.abc import Iterator
from typing import NamedTuple

from chimage_core.dockerfile import ast
from chimage_core.dockerfile.as_json import to_document
from chimage_core.dockerfile.as_text import to_lines
from chimage_core.dockerfile.errors import ExpansionProblem
from chimage_core.dockerfile.parser import parse
from chimage_core.dockerfile.substitute import Unset, expand, expand_text, expand_words
from chimage_core.errors import DockerfileError

SIZE = 64 * 1024
"""Characters of the largest inputs."""

SPECIAL = " \t\r\v\f\"'\\`$#%/{}[](),.:;<>&|!?*+-=~^@_aE1é\u00a0\u2028\U0001f40b"
"""Characters that mean something somewhere, and some that only look so."""

HEADS = (
    "FROM", "RUN", "RUN --mount=", "CMD", "ENTRYPOINT", "SHELL", "COPY", "COPY --from=", "ADD", "RSYNC", "ENV",
    "ENV a=",
    "ENV a ", "LABEL", "LABEL a=", "ARG", "ARG a=", "WORKDIR", "USER", "EXPOSE", "VOLUME", "STOPSIGNAL", "HEALTHCHECK",
    "HEALTHCHECK CMD", "MAINTAINER", "ONBUILD", "ONBUILD RUN", "ONBUILD COPY", "NONSENSE", "#", "# escape=",
)  # fmt: skip
"""Starts of lines that the long tails are put behind."""

TAILS = (
    "a ", "a\\ ", "a=b ", 'a="b" ', "a='b' ", '"a"', "'a' ", "${a", "${a:-", "${a:-b}", "${a#*", "${a//b/c}", "${a/",
    "$a",
    "--a=b ", "--mount=a ", "--device=a ", "--from=a ", "-a ", '["a"]', '"a",', '["a",', "[", "[[", "]", "] ",
    "<<E ", "<<", "<<-E",
    "<<'E' ", "<<E\"", "((", "((<<1 ", "a\\\n", "\\\n", "\\\n\n", "\\\n#\n", "\\ \n", "\\\\", "\\\"", "'\"", "\"'",
    "+l ",
    "a,b=c,", "\ta\\\n", " " * 60 + "a \\\n", " " * 60, "as ", "AS a ", "\r\n", "\r", "=", "\"=", "\\u0041", "ONBUILD ",
)  # fmt: skip
"""What the long inputs repeat."""


class Torture(NamedTuple):
    """An input with a name."""

    name: str
    text: str


def lines() -> Iterator[Torture]:
    """Yield files whose second instruction is one instruction head with a long tail: all heads with all tails."""
    tails = (*TAILS, *(character for character in SPECIAL if character not in TAILS))
    for head in HEADS:
        for tail in tails:
            for end in ("", '"', "]", '"]', "\nE\n"):
                text = f"FROM x\n{head} "
                repeated = tail * ((SIZE - len(text) - len(end)) // len(tail))
                yield Torture(f"{head} {tail!r}... {end!r}", f"{text}{repeated}{end}")


def files() -> Iterator[Torture]:
    """Yield files of many instructions, continuations and here-documents."""
    for line in (
        "RUN a", "ENV a=b", "ENV a $a", "COPY a b", "ARG a", "X", "x y", "RUM a", "FROM x", "FROM x AS a", "#", "",
        "COPY a", "ENV a",
        "ENV a=${", "CMD []", "SHELL []", "CMD ['a', 'b']", "RUN <<E\nE", "COPY <<E <<F /\nE\nF",
        "COPY <<E /\n$a\nE", "ONBUILD RUN a",
        "RUN --x a", "RUN a\\\n\n", "RUN a\\\n# b\n c", "VOLUME [1]", "WORKDIR '", "WORKDIR $", "RUN <<E",
        "HEALTHCHECK x", "EXPOSE $a 1",
    ):  # fmt: skip
        yield Torture(f"many {line!r}", "FROM x\n" + f"{line}\n" * (SIZE // (len(line) + 1)))
    openers = SIZE // 10
    yield Torture("a RUN of many here-documents", "FROM x\nRUN " + "<<A " * openers + "\n" + "A\n" * openers)
    yield Torture("a COPY of many here-documents", "FROM x\nCOPY " + "<<A " * openers + "/\n" + "A\n" * openers)
    yield Torture("many here-documents without an end", "FROM x\n" + "RUN <<A\n" * (SIZE // 8))
    yield Torture("a here-document of variables", "FROM x\nCOPY <<A /\n" + "$a${b}\n" * (SIZE // 7) + "A\n")
    yield Torture("20,000 errors", "FROM x\n" + "X\n" * 20_000)
    yield Torture("a list of many", "FROM x\nCMD [" + '"a",' * (SIZE // 4) + '"a"]')
    yield Torture("a list with a number at its end", "FROM x\nCMD [" + '"a",' * (SIZE // 4) + "1]")
    yield Torture("a list of many of COPY", "FROM x\nCOPY [" + '"$a",' * (SIZE // 5) + '"a"]')
    yield Torture("a list nested deeply", "FROM x\nCMD " + "[" * (SIZE // 2) + "]" * (SIZE // 2))
    for shape in (
        "a\\\n",
        "a \\\n",
        "\\\n",
        " \\\n",
        " " * 60 + "a \\\n",
        "\t\\\n",
        "#\\\n",
        "\n",
        "'\\\n",
        "$a\\\n",
        "<<A \\\n",
    ):
        yield Torture(f"RUN continued {shape!r}", "FROM x\nRUN a \\\n" + shape * (SIZE // len(shape)))
        yield Torture(f"ENV continued {shape!r}", "FROM x\nENV a=b \\\n" + shape * (SIZE // len(shape)) + "'")


def words() -> Iterator[tuple[str, str, str]]:
    """Yield name, word and the value of `a` for word expansion."""
    half = SIZE // 2
    values = {
        "a": "a" * half,
        "ab": "ab" * (half // 2),
        "b": "b" + "a" * half,
        "empty": "",
        "many": "".join(map(chr, range(256, 8000))),
    }
    patterns = {
        "a": "a", "a...": "a" * half, "a...b": "a" * half + "b", "*": "*", "?": "?", "?...": "?" * half,
        "*a...": "*a" * (half // 2),
        "*a...b": "*a" * (half // 2) + "b", "a?...b": "a?" * (half // 2) + "b", "*?...": "*?" * (half // 2),
        "**...": "*" * half,
        "*a*b": "*a*b", "empty": "", "many": "*".join(map(chr, range(256, 8000))),
    }  # fmt: skip
    for value_name, value in values.items():
        for name, pattern in patterns.items():
            for modifier in ("#", "##", "%", "%%"):
                yield f"${{{value_name}{modifier}{name}}}", f"${{a{modifier}{pattern}}}", value
            for slashes in ("/", "//"):
                yield f"${{{value_name}{slashes}{name}/x}}", f"${{a{slashes}{pattern}/x}}", value
        for word in ("$a", "${a:-b}", "${a:+$a}", "${a//a/$a}", '"$a" ', "${b:-${a}}", "$a$b ", "${a#a}"):
            yield f"{value_name}: {word} often", word * (half // len(word)), value
    for unit in (*TAILS, *SPECIAL, "${a:-x} ", "${a:+x} ", "${b-'x'} ", '"${b:-"x"}" ', "${a^} "):
        yield f"{unit!r}", unit * (SIZE // len(unit)), "x y"
        nested = "${b:-" * 24
        yield f"nested, {unit!r}", nested + unit * ((SIZE - 200) // len(unit)) + "}" * 24, "x y"
        yield f"nested, {unit!r}, and an error", nested + unit * ((SIZE - 200) // len(unit)) + "${b^}" + "}" * 24, "x y"


def read(text: str) -> None:
    """Do all with a file that can be done without carrying it out; refusing it is all right."""
    try:
        dockerfile = parse(text, "-")
    except DockerfileError:
        return
    to_document(dockerfile)
    for _ in to_lines(dockerfile):
        pass
    expand_all(dockerfile)


def expand_all(dockerfile: ast.Dockerfile) -> None:
    """Expand what the instructions hold."""
    for instruction in dockerfile.instructions:
        if isinstance(instruction, ast.Env | ast.Label):
            for key, value in instruction.pairs:
                expand_in_every_way(key, {"a": "b"})
                expand_in_every_way(value, {"a": "b"})
        elif isinstance(instruction, ast.Copy | ast.Add):
            for word in (*instruction.sources, instruction.dest, *(heredoc.body for heredoc in instruction.heredocs)):
                expand_in_every_way(word, {"a": "b"})
        elif not isinstance(instruction, ast.Run):
            expand_in_every_way(instruction.text, {"a": "b"})


def expand_in_every_way(word: str, env: dict[str, str]) -> None:
    """Expand a word as each kind of instruction does."""
    for unset in (Unset.EMPTY, Unset.KEEP):
        for function in (expand, expand_text):
            try:
                function(word, env, unset=unset)
            except ExpansionProblem:
                pass
    for split_values in (False, True):
        try:
            expand_words(word, env, split_values=split_values)
        except ExpansionProblem:
            pass
