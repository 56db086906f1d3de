"""Shapes of whole files: continuations inside words, here-documents, directives, lists that are none.

Each is written out, with what it means beside it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from tests.core.dockerfile.cases.model import FRAMES, LAYOUTS, Case, Fields, Frame, Sample, parsed_case

CONTINUATIONS: Sequence[tuple[str, str]] = (
    ("ec\\\nho a", "echo a"),
    ("a\\\n\\\nb", "ab"),
    ("a \\\\\nRUN b", "a \\\\"),
    ("a \\\\\\\nRUN b", "a \\\\\\"),
    ("a \\ b", "a \\ b"),
    ("a \\ \n b", "a  b"),
    ("a\\\t\n\tb", "a\tb"),
    ("a \\\n#b\n#c\n d", "a  d"),
    ("a \\\n # b\\\n d", "a  d"),
    ("a # b", "a # b"),
    ("a # b \\\n c", "a # b  c"),
    ("a \\\nb #c \\\nd", "a b #c d"),
    ("a \\\n'#b'", "a '#b'"),
    ("a \\\n \\\n  \\\nb", "a    b"),
    ("'a \\\nb'", "'a b'"),
    ('"a\\\n\tb" \\\n# c\n d', '"a\tb"  d'),
    ("a \\\n\n\n\n b", "a  b"),
    ("a \\\n\x0b\n b", "a  b"),
    ("a\\", "a"),
    ("a \\\n\\\n", "a "),
    ("a \\\n  b\\", "a   b"),
    ("a `\nRUN b", "a `"),
    ("a; \\\nRUN b", "a; RUN b"),
    ("a\u00a0", "a\u00a0"),
    ("a\u2028b", "a\u2028b"),
)
"""What follows `RUN `, and the command it comes to; a line that begins with RUN after it is a new instruction."""

# Opener, name, expanded, tabs stripped.
OPENERS: Sequence[tuple[str, str, bool, bool]] = (
    ("<<E", "E", True, False),
    ("<<-E", "E", True, True),
    ("<<'E'", "E", False, False),
    ('<<"E"', "E", False, False),
    ("<<-'E'", "E", False, True),
    ('<<"E F"', "E F", False, False),
    ("<<E'F'", "EF", False, False),
    ("<<\\E", "E", False, False),
    ("<< E", "E", True, False),
    ("<<-  'E'", "E", False, True),
    ("<<E.1-x_", "E.1-x_", True, False),
    ("<<ü", "ü", True, False),
    ("0<<E", "E", True, False),
)
BODIES: Sequence[str] = (
    "",
    "a\n",
    "# no comment\n\n  b  \n",
    "a \\\nb\\\n",
    "RUN x\nFROM y\n",
    "\ta\n\t\tb\n \tc\n",
    "EE\n E\nE \n'E'\n<<E\n",
    "$a ${b:-c} \\$d\n",
    "\"it's\n",
)


def parsed_cases() -> Iterator[Case]:
    """Yield files that parse."""
    yield from _continuations()
    yield from _heredocs()
    yield from _several_heredocs()
    yield from _no_heredocs()
    yield from _no_lists()
    yield from _directives()


def _document(name: str, line: int, end: int, **fields: Any) -> Fields:
    return {"name": name, "line": line, "end": end, "options": {}, **fields}


def _continuations() -> Iterator[Case]:
    for shape, command in CONTINUATIONS:
        for keyword in ("RUN", "CMD"):
            first, separator, second = shape.partition("\nRUN ")
            is_split = bool(separator) and not command.endswith("RUN b")
            end = 2 + (first if is_split else shape.removesuffix("\n")).count("\n")
            text = command if keyword == "RUN" else command.rstrip(" ")
            expected = [_document(keyword, 2, end, form="shell", command=text)]
            if is_split:
                expected.append(_document("RUN", end + 1, end + 1, form="shell", command=second))
            lines = shape.split("\n")
            blank = next(((number + 2,) for number, line in enumerate(lines[:-1]) if not line.strip()), ())
            yield Case(f"{keyword} {shape!r}", f"FROM x\n{keyword} {shape}", expected, blank)


def _heredocs() -> Iterator[Case]:
    frames = [frame for frame in FRAMES if frame.escape == "\\" and not frame.after.startswith("\\")]
    number = 0
    for opener, name, expands, strips in OPENERS:
        for body in BODIES:
            end = f"\t\t{name}" if strips else name
            heredoc = {"name": name, "expand": expands, "strip_tabs": strips, "body": body}
            for keyword, before, behind in HEREDOC_USERS:
                frame = frames[number % len(frames)]
                number += 1
                if keyword != "RUN" and "0" in opener:
                    continue
                words = [*before, opener, *behind]
                yield _renamed(_heredoc_case(keyword, words, heredoc, f"\n{body}{end}", frame))


HEREDOC_USERS: Sequence[tuple[str, list[str], list[str]]] = (
    ("RUN", [], []),
    ("RUN", ["cat"], [">/x"]),
    ("COPY", [], ["/d"]),
    ("ADD", ["a"], ["b", "/d"]),
    ("ONBUILD", ["RUN"], []),
    ("ONBUILD", ["COPY"], ["/d"]),
)


def _heredoc_case(keyword: str, words: list[str], heredoc: Fields, body: str, frame: Frame) -> Case:
    def fields(gap: str, trailing: str) -> Fields:
        inner, own = (words[0], words[1:]) if keyword == "ONBUILD" else (keyword, words)
        if inner == "RUN":
            found: Fields = {"form": "shell", "command": gap.join(own) + trailing, "heredocs": [heredoc]}
        else:
            paths = [word for word in own if "<<" not in word]
            found = {"form": "shell", "sources": paths[:-1], "dest": paths[-1], "heredocs": [heredoc]}
        if keyword != "ONBUILD":
            return found
        return {"trigger": {"name": inner, "options": {}, **found}}

    return parsed_case(Sample(keyword, words, fields, {}, body), LAYOUTS[0], frame)


def _renamed(case: Case) -> Case:
    return case._replace(name=f"heredoc {case.text!r}")


def _several_heredocs() -> Iterator[Case]:
    bodies = "a\nA\n\tb\n\tB\n"
    heredocs = [
        {"name": "A", "expand": False, "strip_tabs": False, "body": "a\n"},
        {"name": "B", "expand": True, "strip_tabs": True, "body": "\tb\n"},
    ]
    after = _document("RUN", 8, 8, form="shell", command="true")
    for shown, expected in (
        ("RUN <<'A' cat && cat <<-B", {"form": "shell", "command": "<<'A' cat && cat <<-B", "heredocs": heredocs}),
        (
            "RUN cat <<'A'|cat; cat <<-B>x",
            {"form": "shell", "command": "cat <<'A'|cat; cat <<-B>x", "heredocs": heredocs},
        ),
        ("COPY <<'A' a <<-B /", {"form": "shell", "sources": ["a"], "dest": "/", "heredocs": heredocs}),
        ("ADD <<'A' <<-B /", {"form": "shell", "sources": [], "dest": "/", "heredocs": heredocs}),
    ):
        name = shown.partition(" ")[0]
        yield Case(f"two {shown}", f"\nFROM x\n{shown}\n{bodies}RUN true\n", [_document(name, 3, 7, **expected), after])
        continued = shown.replace(" <<-B", " \\\n# c\n<<-B")
        yield Case(
            f"two, continued {shown}",
            f"FROM x\n{continued}\n{bodies}RUN true\n",
            [_document(name, 2, 8, **expected), {**after, "line": 9, "end": 9}],
        )


def _no_heredocs() -> Iterator[Case]:
    for text in (
        "echo $((1 << 4))", "echo $((1 <<E))", "cat <<<E", "cat <<< E", "echo '<<E'", 'echo "<<E"', "echo a<<E",
        "echo \\<<E", "echo <", "a < <E",
    ):  # fmt: skip
        yield Case(
            f"none RUN {text}",
            f"FROM x\nRUN {text}\nRUN b\n",
            [_document("RUN", 2, 2, form="shell", command=text), _document("RUN", 3, 3, form="shell", command="b")],
        )
    run = _document("RUN", 3, 3, form="shell", command="b")
    for shown, expected in (
        ('RUN ["cat", "<<E"]', {"form": "exec", "argv": ["cat", "<<E"]}),
        ('COPY ["<<E", "/"]', {"form": "exec", "sources": ["<<E"], "dest": "/"}),
        ("CMD cat <<E", {"form": "shell", "command": "cat <<E"}),
        ("ENV a=<<E", {"pairs": [["a", "<<E"]], "legacy": False}),
        ("LABEL a <<E", {"pairs": [["a", "<<E"]], "legacy": True}),
        ("WORKDIR <<E", {"value": "<<E"}),
        ("ENTRYPOINT <<E", {"form": "shell", "command": "<<E"}),
    ):
        name = shown.partition(" ")[0]
        yield Case(f"none {shown}", f"FROM x\n{shown}\nRUN b\n", [_document(name, 2, 2, **expected), run])


def _no_lists() -> Iterator[Case]:
    """Yield text in brackets that is no JSON list; True: it looks as if it had been meant to be one."""
    for text, looks_so in (
        ("['a', 'b']", True), ("['a']", True), ('["a", ]', True), ('["a", b]', True), ('["\\w"]', True),
        ('["a",\'b\']', True),
        ('["a"] b', False), ("[ -f x ]", False), ("[a, b]", False), ("[[ -f x ]]", False), ('["a"', False), ("[",
        False),
        ("[NaN]", False), ('[ "$a" = "b" ]', False), ('["a"] && ["b"]', False), ("[\u00a0]", False),
    ):  # fmt: skip
        for keyword in ("RUN", "CMD", "ENTRYPOINT"):
            yield Case(
                f"no list {keyword} {text}",
                f"FROM x\n{keyword} {text}",
                [_document(keyword, 2, 2, form="shell", command=text)],
                (2,) if looks_so else (),
            )
    for text, argv in (
        ('["\\u0041\\n\\"\\\\\\/"]', ['A\n"\\/']),
        ('["\\ud83d\\ude00"]', ["\U0001f600"]),
        ('["\\ud800"]', ["\ufffd"]),
        ("[ ]", []),
        ('["a" , "b"]', ["a", "b"]),
        ('["a","b"]  ', ["a", "b"]),
        ('[""]', [""]),
        ('["$a", "${b", "\'"]', ["$a", "${b", "'"]),
    ):
        yield Case(f"list CMD {text}", f"FROM x\nCMD {text}", [_document("CMD", 2, 2, form="exec", argv=argv)])


def _directives() -> Iterator[Case]:
    run = {"form": "shell", "command": "a"}
    for head, warned in (
        ("# syntax=docker/dockerfile:1", (1,)),
        (" #syntax=x", (1,)),
        ("#SYNTAX = x", (1,)),
        ("# check=skip=all;error=true", (1,)),
        ("# syntax=x\n# check=y", (1, 2)),
        ("# syntax=x\n# syntax=y", (1, 2)),
        ("# escape=\\", ()),
        ("# escape=`", ()),
        ("# escape=foo", (1,)),
        ("# escape=`\n# escape=\\", (2,)),
        ("# escape=`\n# syntax=x", (2,)),
        ("# a comment\n# syntax=x", ()),
        ("# foo=bar\n# syntax=x", ()),
        ("\n# syntax=x", ()),
        ("# syntax=", ()),
        ("# syntax", ()),
        ("## syntax=x", ()),
        ("\ufeff# syntax=x", (1,)),
        ("# syntax=x\r", (1,)),
    ):
        line = 2 + head.count("\n")
        yield Case(
            f"directive {head!r}", f"{head}\nFROM x\nRUN a\n", [_document("RUN", line + 1, line + 1, **run)], warned
        )
