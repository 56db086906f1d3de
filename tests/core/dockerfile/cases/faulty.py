"""Instructions with an error. MARK stands where the message must point to."""

from collections.abc import Iterator, Sequence

from chimage_core.dockerfile.instructions import USAGE
from tests.core.dockerfile.cases.model import FRAMES, LAYOUTS, MARK, Case, crossed, located, refused_case

Faulty = tuple[str, Sequence[str], str]
"""Keyword, words, and a part of the message."""

ENDS = "the line ends too early"
OPEN_BRACE = "expected } before the end"

OPTIONS: Sequence[Faulty] = (
    ("COPY", ["--chown=‡", "a", "b"], "option --chown needs a value"),
    ("COPY", ["‡--chmod", "a", "b"], "option --chmod needs a value"),
    ("COPY", ["‡--foo", "a", "b"], "invalid option --foo; expected one of: --from,"),
    ("COPY", ["‡--form=a", "a", "b"], "invalid option --form; did you mean --from?"),
    ("COPY", ["--chown=a", "‡--chown=b", "a", "b"], "repeated option --chown"),
    ("COPY", ["--link", "‡--link", "a", "b"], "repeated option --link"),
    ("COPY", ["--link=‡maybe", "a", "b"], "option --link takes true or false, not maybe"),
    ("COPY", ["--parents=‡", "a", "b"], "option --parents needs a value"),
    ("COPY", ["--exclude=‡", "a", "b"], "option --exclude needs a value"),
    ("COPY", ["--from=‡${a", "a", "b"], OPEN_BRACE),
    ("ADD", ["‡--from=a", "a", "b"], "invalid option --from"),
    ("ADD", ["‡--parents", "a", "b"], "invalid option --parents"),
    ("ADD", ["--keep-git-dir=‡1", "a", "b"], "option --keep-git-dir takes true or false"),
    ("ADD", ["--checksum=a", "‡--checksum=a", "a", "b"], "repeated option --checksum"),
    ("RUN", ["‡--mounts=a", "b"], "did you mean --mount?"),
    ("RUN", ["--mount=‡", "b"], "option --mount needs a value"),
    ("RUN", ["--network=a", "--mount=b", "‡--network=c", "d"], "repeated option --network"),
    ("FROM", ["‡--paltform=a", "b"], "did you mean --platform?"),
    ("FROM", ["--platform=a", "‡--platform=a", "b"], "repeated option --platform"),
    ("FROM", ["--arg=‡a", "b"], "expected --arg=NAME=VALUE, not --arg=a"),
    ("FROM", ["--arg=‡=a", "b"], "expected --arg=NAME=VALUE"),
    ("ENV", ["‡--a=b"], "this instruction has no options"),
    ("LABEL", ["‡--a=b"], "this instruction has no options"),
    ("ARG", ["‡--a=b"], "this instruction has no options"),
    ("WORKDIR", ["‡--a", "b"], "this instruction has no options"),
    ("CMD", ["‡--a", "b"], "this instruction has no options"),
    ("HEALTHCHECK", ["--interval=5s", "‡--interval=5s", "NONE"], "repeated option --interval"),
)

STRUCTURE: Sequence[Faulty] = (
    ("FROM", ["a", "‡b"], "unexpected b"),
    ("FROM", ["a", "‡AS"], "unexpected AS; expected: FROM"),
    ("FROM", ["a", "AS", "‡1b"], "unexpected 1b"),
    ("FROM", ["a", "AS", "‡$b"], "unexpected $b"),
    ("FROM", ["a", "AS", "b", "‡c"], "unexpected c"),
    ("COPY", ["a‡"], "no destination"),
    ("COPY", ['["a"]‡'], "no destination"),
    ("COPY", ["[]‡"], "no sources"),
    ("COPY", ["--link‡"], ENDS),
    ("ADD", ["a‡"], "no destination"),
    ("RSYNC", ["a‡"], "no destination"),
    ("RSYNC", ["-a", "--delete‡"], "no sources"),
    ("RSYNC", ["‡+x", "a", "b"], "unknown option +x; expected one of: +l, +m, +u, +z"),
    ("NSYNC", ["‡+", "a", "b"], "unknown option +;"),
    ("NSYNC", ["+z‡"], ENDS),
    ("ENV", ["a‡"], ENDS),
    ("ENV", ["a=b", "‡c"], "c has no value"),
    ("ENV", ["a=b", "‡c", "d=e"], "c has no value"),
    ("ENV", ["‡=b"], "unexpected =b"),
    ("LABEL", ["a‡"], ENDS),
    ("LABEL", ["a=b", "‡c"], "c has no value"),
    ("ARG", ["‡=b"], "unexpected =b"),
    ("ARG", ["a", "‡=b"], "unexpected =b"),
    ("SHELL", ["‡bash"], "unexpected bash"),
    ("SHELL", ["‡[]"], "the list is empty"),
    ("SHELL", ["[‡bash]"], "not a JSON list: expecting value"),
    ("SHELL", ['["a"', '‡"b"]'], "not a JSON list: expecting ',' delimiter"),
    ("SHELL", ['["a",', "‡1]"], "a list holds strings only, not 1"),
    ("RUN", ["‡[]"], "the list is empty"),
    ("VOLUME", ["‡[]"], "the list is empty"),
    ("RUN", ['["a",', "‡null]"], "a list holds strings only, not null"),
    ("CMD", ['["a",', '"b",', '‡["c"]]'], 'a list holds strings only, not ["c"]'),
    ("CMD", ["[‡{}]"], "a list holds strings only, not {}"),
    ("ENTRYPOINT", ["[‡1.5,", '"a"]'], "a list holds strings only, not 1.5"),
    ("ENTRYPOINT", ["[‡true]"], "a list holds strings only, not true"),
    ("COPY", ['["a",', "‡2]"], "a list holds strings only, not 2"),
    ("ADD", ['["a",', "‡false]"], "a list holds strings only, not false"),
    ("VOLUME", ['["a",', "‡[]]"], "a list holds strings only, not []"),
    ("HEALTHCHECK", ["CMD", '["a",', "‡1]"], "a list holds strings only, not 1"),
    ("ONBUILD", ["‡ONBUILD", "RUN", "a"], "ONBUILD cannot be a trigger"),
    ("ONBUILD", ["‡from", "a"], "FROM cannot be a trigger"),
    ("ONBUILD", ["‡MAINTAINER", "a"], "MAINTAINER cannot be a trigger"),
    ("ONBUILD", ["‡RUNX", "a"], "did you mean RUN?"),
    ("ONBUILD", ["RUN‡"], ENDS),
    ("ONBUILD", ["COPY", "a‡"], "no destination"),
    ("ONBUILD", ["COPY", "‡--foo", "a", "b"], "invalid option --foo"),
    ("ONBUILD", ["ENV", "a=b", "‡c"], "c has no value"),
    ("ONBUILD", ["WORKDIR", "a‡${b"], OPEN_BRACE),
    ("ONBUILD", ["CMD", '["a",', "‡1]"], "a list holds strings only"),
)

KEYWORDS: Sequence[Faulty] = (
    ("‡RUNX", ["a"], "unknown instruction RUNX; did you mean RUN?"),
    ("‡COPYX", ["a", "b"], "did you mean COPY?"),
    ("‡apt-get", ["install"], "expected a keyword such as FROM"),
    ("‡&&", ["a"], "unknown instruction &&"),
    ("‡RUN:", ["a"], "did you mean RUN?"),
    ("‡[", ["a"], "unknown instruction ["),
    ("‡ＲＵＮ", ["a"], "unknown instruction"),
)

# What spoils a word, with the place that the message points to.
BAD_WORDS: Sequence[tuple[str, str]] = (
    ("x‡${", OPEN_BRACE),
    ("x‡${a", OPEN_BRACE),
    ("x‡${}", "expected a name after ${"),
    ("x‡${:a}", "expected a name after ${"),
    ("x‡${a=b}", "unsupported modifier = in ${a...}"),
    ("x‡${a^^}", "unsupported modifier ^ in ${a...}"),
    ("x‡${a:#b}", "unsupported modifier : in ${a...}"),
    ("x$b‡${a:-b", OPEN_BRACE),
    ("x${a:-‡${b^}}", "unsupported modifier ^ in ${b...}"),
    ("x‡${a/b}", "expected / before the end"),
    ("x‡${a#\\b}", "invalid escape \\b in a pattern"),
    ('x"y"‡"z', "quote"),
    ("x'y'‡'z", "quote"),
    ('x"$a‡${b"', 'unsupported modifier " in ${b...}'),
    ("x‡${b\u2003}", "expected } or a modifier after ${b"),
)


def cases() -> Iterator[Case]:
    """Yield every kind of error in several layouts and frames."""
    layouts = [layout for index, layout in enumerate(LAYOUTS) if index % 3 == 0]
    for (keyword, words, part), layout, frame in crossed(
        [*OPTIONS, *STRUCTURE, *KEYWORDS, *_missing()], layouts, FRAMES
    ):
        yield refused_case(keyword, words, part, layout, frame)
    # The backtick escapes nothing in patterns, and the table below has a backslash there.
    frames = [frame for frame in FRAMES if frame.escape == "\\"]
    for (keyword, words, part), layout, frame in crossed(list(_bad_words()), layouts, frames):
        yield refused_case(keyword, words, part, layout, frame)
    yield from _whole_files()


def _missing() -> Iterator[Faulty]:
    for keyword in USAGE:
        yield keyword + MARK, [], ENDS


def _bad_words() -> Iterator[Faulty]:
    for word, part in BAD_WORDS:
        yield "FROM", [word], part
        yield "ENV", ["a=b", f"c={word}"], part
        yield "LABEL", [f"a={word}"], part
        yield "ARG", ["a", f"b={word}"], part
        yield "COPY", ["a", word, "b"], part
        yield "ADD", ["a", word], part
        yield "RSYNC", [word, "b"], part
        yield "WORKDIR", [word], part


def _whole_files() -> Iterator[Case]:
    files = (
        ("first instruction", "\n# c\n  ‡RUN a\nFROM x\n", ["first instruction must be ARG or FROM"]),
        ("LABEL first", "‡LABEL a=b\nFROM x\n", ["first instruction must be ARG or FROM"]),
        (
            "ENV between ARG and FROM",
            "ARG a\n‡ENV b=c\nFROM x\n",
            ["ENV before the first FROM: only ARG may stand there"],
        ),
        ("ARG only", "ARG a\n\n‡ARG b\n", ["no FROM after this: expected FROM IMAGE"]),
        ("several", "FROM x\n‡X\nRUN a\nCOPY a‡\n\nENV b=‡${\n", ["unknown", "no destination", OPEN_BRACE]),
        ("order is not looked at beside errors", "RUN a\n‡X\n", ["unknown"]),
        ("NUL in a list", "FROM x\nCMD [‡\"\\u0000\"]\n", ["a NUL cannot be passed"]),
        ("list of SHELL, bad escape", 'FROM x\nSHELL ["a", "‡\\w"]\n', ["not a JSON list: invalid"]),
        ("NUL", "FROM x\nRUN a‡\0b\n", ["a NUL byte"]),
        (
            "heredoc without an end",
            "FROM x\nRUN a && cat ‡<<E\nb\n E\nE \n",
            ["here-document has no end: expected a line E"],
        ),
        ("second heredoc without an end", "FROM x\nCOPY <<A ‡<<B /\nA\nb\n", ["expected a line B"]),
        ("heredoc as destination", "FROM x\nCOPY a ‡<<E\nE\n", ["the destination cannot be a here-document"]),
        ("only heredocs", "FROM x\nCOPY <<E ‡<<F\nE\nF\n", ["the destination cannot be a here-document"]),
        ("variable in a heredoc", "FROM x\nCOPY <<E /\na $b\n\tc ‡${d\nE\n", ["expected } or a modifier after ${d"]),
        ("variable in a second heredoc", "FROM x\nADD <<'E' <<F /\n${\nE\nb\n‡${c^}\nF\n", ["unsupported modifier ^"]),
        ("variable in a continued heredoc", "FROM x\nCOPY \\\n <<E \\\n /\n  ‡${}\nE\n", ["expected a name"]),
        ("heredoc of an ONBUILD", "FROM x\nONBUILD COPY <<E /\na ‡${}\nE\n", ["expected a name"]),
        ("heredoc of an ONBUILD without an end", "FROM x\nONBUILD RUN ‡<<E\n", ["expected a line E"]),
        ("tab before the error", "FROM x\n\tCOPY\t--chown=‡ a b\n", ["needs a value"]),
        ("after a continued instruction", "FROM x\nRUN a \\\n# c\n b\n‡X\n", ["unknown"]),
        ("after a heredoc", "FROM x\nRUN <<E\nX\nE\n‡Y\n", ["unknown"]),
    )  # fmt: skip
    for name, marked, parts in files:
        for newline in ("\n", "\r\n"):
            text, errors = located(marked.replace("\n", newline), *parts)
            yield Case(name=f"file: {name} {newline!r}", text=text, errors=errors)
