"""Good instructions: words, and what they mean."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.core.dockerfile.cases.model import FRAMES, LAYOUTS, Case, Fields, Sample, crossed, parsed_case

Option = tuple[str, str, Any]
"""As written, name, value."""

RUN_OPTIONS: Sequence[Option] = (
    ("--network=none", "network", "none"),
    ("--security=sandbox", "security", "sandbox"),
    ("--mount=type=cache,target=/c", "mount", ["type=cache,target=/c"]),
    ('--mount=type=bind,source="a b",target=/x', "mount", ["type=bind,source=a b,target=/x"]),
    ("--mount=target='a  b'", "mount", ["target=a  b"]),
    ("--mount=target=a\\ b", "mount", ["target=a b"]),
    ("--device=vendor/class", "device", ["vendor/class"]),
)
COPY_OPTIONS: Sequence[Option] = (
    ("--from=build", "from", "build"),
    ("--from=0", "from", "0"),
    ("--from=docker.io/a/b:c@sha256:d", "from", "docker.io/a/b:c@sha256:d"),
    ("--chown=a:b", "chown", "a:b"),
    ("--chmod=u+rwX,go=", "chmod", "u+rwX,go="),
    ("--chmod=$mode", "chmod", "$mode"),
    ("--link", "link", True),
    ("--link=TRUE", "link", "TRUE"),
    ("--parents=false", "parents", "false"),
    ("--exclude=*.o", "exclude", ["*.o"]),
)
ADD_OPTIONS: Sequence[Option] = (
    ("--checksum=sha256:0123", "checksum", "sha256:0123"),
    ("--keep-git-dir", "keep-git-dir", True),
    ("--keep-git-dir=True", "keep-git-dir", "True"),
    ("--unpack=false", "unpack", "false"),
    ("--chmod=0600", "chmod", "0600"),
    ('--exclude="a b"', "exclude", ["a b"]),
)
FROM_OPTIONS: Sequence[Option] = (
    ("--platform=linux/arm/v7", "platform", "linux/arm/v7"),
    ("--platform=$BUILDPLATFORM", "platform", "$BUILDPLATFORM"),
    ("--arg=a=b=c", "arg", ["a=b=c"]),
    ("--arg=a='b c'", "arg", ["a=b c"]),
)
HEALTH_OPTIONS: Sequence[Option] = (
    ("--interval=5s", "interval", "5s"),
    ("--start-period=1m", "start-period", "1m"),
    ("--retries=3", "retries", "3"),
)


def cases() -> Iterator[Case]:
    """Yield every sample in every layout; frames take turns."""
    for sample, layout, frame in crossed(list(_samples()), LAYOUTS, FRAMES):
        yield parsed_case(sample, layout, frame)


def _samples() -> Iterator[Sample]:
    yield from _commands()
    yield from _transfers()
    yield from _pairs()
    yield from _froms()
    yield from _values()
    yield from _onbuilds()


def _sample(keyword: str, words: Sequence[str], fields: Callable[[str, str], Fields], *options: Option) -> Sample:
    values: Fields = {}
    for _, name, value in options:
        values[name] = values[name] + value if name in values else value
    return Sample(keyword, [*(option[0] for option in options), *words], fields, values)


def _fixed(**fields: Any) -> Callable[[str, str], Fields]:
    return lambda gap, trailing: fields


def _text(key: str, *words: str, keeps_trailing: bool = False, **others: Any) -> Callable[[str, str], Fields]:
    """Return fields of which one is all words with the gaps between them."""
    return lambda gap, trailing: {**others, key: gap.join(words) + (trailing if keeps_trailing else "")}


def _shell(keyword: str, *words: str) -> Callable[[str, str], Fields]:
    # Blanks at the end are the shell's own business, but only RUN has always shown them.
    return _text("command", *words, keeps_trailing=keyword == "RUN", form="shell")


SHELL_WORDS = (
    ["true"],
    ["echo", "$HOME", "${HOME}", "&&", "echo", "b"],
    ["echo", "'it", 'is"', "|", "cat", ">", "/x"],
    ["[", "-f", "x", "]"],
    ["[[", "a", "==", "b", "]]", "&&", "c"],
    ["a;#b", "${x:-", "${"],
    ["-x", "--", "--mount=type=cache"],
    ["echo", "\\$a", "a\\ b", "\\\\b"],
    ["ünïcode", "\u6f22\u5b57", "\U0001f40b"],
)


def _commands() -> Iterator[Sample]:
    for keyword, words in itertools.product(("RUN", "CMD", "ENTRYPOINT"), SHELL_WORDS):
        yield _sample(keyword, words, _shell(keyword, *words))
    exec_words = ['["a",', '"b', 'c",', '"$d"]']
    for keyword in ("RUN", "CMD", "ENTRYPOINT"):
        yield _sample(keyword, ['["a"]'], _fixed(form="exec", argv=["a"]))
        yield _sample(keyword, ["[", '"sh",', '"-c"', "]"], _fixed(form="exec", argv=["sh", "-c"]))
        # A raw tab is no JSON, so only blanks can stand inside a string.
        joined = _fixed(form="exec", argv=["a", "b  c", "$d"])
        yield _sample(keyword, [exec_words[0] + '"b  c",', exec_words[3]], joined)
    for keyword in ("CMD", "ENTRYPOINT"):
        yield _sample(keyword, ["[]"], _fixed(form="exec", argv=[]))
    yield _sample(
        "SHELL",
        ['["/bin/bash",', '"-o",', '"pipefail",', '"-c"]'],
        _fixed(form="exec", argv=["/bin/bash", "-o", "pipefail", "-c"]),
    )
    for option in RUN_OPTIONS:
        yield _sample("RUN", ["a", "b"], _shell("RUN", "a", "b"), option)
    yield _sample("RUN", ["a"], _shell("RUN", "a"), *RUN_OPTIONS)
    yield _sample("RUN", ['["a"]'], _fixed(form="exec", argv=["a"]), *RUN_OPTIONS[:2])
    yield _sample("RUN", ["--", "--network=none", "a"], _shell("RUN", "--network=none", "a"), RUN_OPTIONS[2])
    yield _sample("RUN", ["a", "--network=none"], _shell("RUN", "a", "--network=none"))


def _transfers() -> Iterator[Sample]:
    for keyword, options in (("COPY", COPY_OPTIONS), ("ADD", ADD_OPTIONS)):
        yield _sample(keyword, ["a", "/b"], _fixed(form="shell", sources=["a"], dest="/b"))
        yield _sample(keyword, ["a*", "b?", "[c]", "d/"], _fixed(form="shell", sources=["a*", "b?", "[c]"], dest="d/"))
        # Words split at blanks whatever the quotes; those must be sound all the same, for they are removed later.
        yield _sample(keyword, ['"a"', "'b'", "$c"], _fixed(form="shell", sources=['"a"', "'b'"], dest="$c"))
        yield _sample(keyword, ["a=b", "${c:-d}/e", "/"], _fixed(form="shell", sources=["a=b", "${c:-d}/e"], dest="/"))
        yield _sample(keyword, ['["a', 'b",', '"c"]'], _fixed(form="exec", sources=["a b"], dest="c"))._replace(
            words=['["a b",', '"c"]']
        )
        yield _sample(
            keyword, ['["a",', '"b",', '"c', 'd/"]'], _fixed(form="exec", sources=["a", "b"], dest="c d/")
        )._replace(words=['["a",', '"b",', '"c d/"]'])
        for option in options:
            yield _sample(keyword, ["a", "b"], _fixed(form="shell", sources=["a"], dest="b"), option)
        yield _sample(
            keyword, ["a", "b"], _fixed(form="shell", sources=["a"], dest="b"), options[0], options[-1], options[-1]
        )
        yield _sample(keyword, ["--", "--link", "b"], _fixed(form="shell", sources=["--link"], dest="b"))
        yield _sample(keyword, ["a", "--link", "b"], _fixed(form="shell", sources=["a", "--link"], dest="b"))
    for keyword in ("RSYNC", "NSYNC"):
        yield _sample(keyword, ["a", "b/", "/c"], _fixed(plus=None, rsync_options=[], sources=["a", "b/"], dest="/c"))
        yield _sample(
            keyword,
            ["a", "--delete", "b", "-v"],
            _fixed(plus=None, rsync_options=["--delete", "-v"], sources=["a"], dest="b"),
        )
        yield _sample(
            keyword, ["-a", "--", "-b", "-c"], _fixed(plus=None, rsync_options=["-a"], sources=["-b"], dest="-c")
        )
        for letter in "lmuz":
            yield _sample(
                keyword, [f"+{letter}", "$a", "b"], _fixed(plus=letter, rsync_options=[], sources=["$a"], dest="b")
            )


PAIRS = (
    ("a=b", ("a", "b")),
    ("a=", ("a", "")),
    ('a="b  c"', ("a", '"b  c"')),
    ("a='b\"c'", ("a", "'b\"c'")),
    ("a=b\\ c", ("a", "b\\ c")),
    ('a="\\"b\\""', ("a", '"\\"b\\""')),
    ("a=b=c", ("a", "b=c")),
    ("a=$b${c:-d}", ("a", "$b${c:-d}")),
    ("a=\"$b\"'$c'", ("a", "\"$b\"'$c'")),
    ("a=--b", ("a", "--b")),
    ('"a b"="c"', ('"a b"', '"c"')),
    ("a.b/c-d=e", ("a.b/c-d", "e")),
)


def _pairs() -> Iterator[Sample]:
    for keyword in ("ENV", "LABEL"):
        for index, (word, pair) in enumerate(PAIRS):
            other, other_pair = PAIRS[(index + 1) % len(PAIRS)]
            yield _sample(keyword, [word, other], _fixed(pairs=[list(pair), list(other_pair)], legacy=False))
        for words in (["b"], ["b", "c"], ["b=c", "d=e"], ['"b', 'c"'], ['\\"b\\"'], ["${b:-c}"]):
            yield _sample(keyword, ["a", *words], _old_form(words))
    for words, expected in (
        (["a"], [["a", None]]),
        (["a=b"], [["a", "b"]]),
        (["a="], [["a", ""]]),
        (["a", "b=c", 'd="e f"', "g='h i'"], [["a", None], ["b", "c"], ["d", '"e f"'], ["g", "'h i'"]]),
        (["a=$b", "c=${d:-${e}}"], [["a", "$b"], ["c", "${d:-${e}}"]]),
    ):
        yield _sample("ARG", words, _fixed(args=expected))


def _old_form(words: Sequence[str]) -> Callable[[str, str], Fields]:
    return lambda gap, trailing: {"pairs": [["a", gap.join(words)]], "legacy": True}


def _froms() -> Iterator[Sample]:
    for image in (
        "a",
        "a:b",
        "r.io:5000/a/b:c",
        "a@sha256:0123",
        "a:b@sha256:0123",
        "scratch",
        '"a:$b"',
        "'a'",
        "${a:-b}:${c}",
        "$a",
    ):
        yield _sample("FROM", [image], _fixed(image=image))
        yield _sample("FROM", [image, "as", "Stage_1.x-y"], _fixed(image=image, alias="stage_1.x-y"))
    for option in FROM_OPTIONS:
        yield _sample("FROM", ["a", "AS", "b"], _fixed(image="a", alias="b"), option)
    yield _sample("FROM", ["a"], _fixed(image="a"), *FROM_OPTIONS[1:])


def _values() -> Iterator[Sample]:
    for keyword in ("WORKDIR", "USER", "STOPSIGNAL", "MAINTAINER"):
        for words in (["a"], ["/a", "b"], ["$a:${b}"], ['"a', 'b"']):
            yield _sample(keyword, words, _text("value", *words))
    yield _sample("MAINTAINER", ["it's", "<a@b>"], _text("value", "it's", "<a@b>"))
    yield _sample(
        "EXPOSE", ["80", "443/tcp", "$port", "${a:-1}/udp"], _fixed(ports=["80", "443/tcp", "$port", "${a:-1}/udp"])
    )
    yield _sample("VOLUME", ["/a", "$b"], _fixed(form="shell", paths=["/a", "$b"]))
    yield _sample("VOLUME", ['["/a",', '"/b c"]'], _fixed(form="exec", paths=["/a", "/b c"]))
    yield _sample("HEALTHCHECK", ["NONE"], _fixed(type="NONE"))
    yield _sample("HEALTHCHECK", ["none"], _fixed(type="NONE"))
    yield _sample("HEALTHCHECK", ["foo"], _fixed(type="foo"))
    yield _sample("HEALTHCHECK", ["foo", "bar", "b"], _text("rest", "bar", "b", type="foo"))
    yield _sample("HEALTHCHECK", ["CMD", '["a",', '"b"]'], _fixed(type="CMD", form="exec", argv=["a", "b"]))
    for option in HEALTH_OPTIONS:
        yield _sample("HEALTHCHECK", ["cmd", "a", "b"], _text("command", "a", "b", type="CMD", form="shell"), option)
    yield _sample("HEALTHCHECK", ["CMD", "a"], _text("command", "a", type="CMD", form="shell"), *HEALTH_OPTIONS)


TRIGGERS: Sequence[tuple[str, Sequence[str], Callable[[str, str], Fields]]] = (
    ("RUN", ["a", "b"], _shell("RUN", "a", "b")),
    ("RUN", ['["a"]'], _fixed(form="exec", argv=["a"])),
    ("COPY", ["a", "b"], _fixed(form="shell", sources=["a"], dest="b")),
    ("ENV", ["a=b", "c=d"], _fixed(pairs=[["a", "b"], ["c", "d"]], legacy=False)),
    ("ARG", ["a=b"], _fixed(args=[["a", "b"]])),
    ("WORKDIR", ["/a"], _fixed(value="/a")),
    ("USER", ["a"], _fixed(value="a")),
    ("EXPOSE", ["1"], _fixed(ports=["1"])),
)


def _onbuilds() -> Iterator[Sample]:
    for keyword, words, fields in TRIGGERS:
        yield _sample("ONBUILD", [keyword, *words], _trigger(keyword, fields))


def _trigger(keyword: str, fields: Callable[[str, str], Fields]) -> Callable[[str, str], Fields]:
    return lambda gap, trailing: {"trigger": {"name": keyword, "options": {}, **fields(gap, trailing)}}
