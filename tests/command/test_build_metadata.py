"""`build`: instructions that are about the finished image: CMD, ENTRYPOINT, USER, LABEL, …"""

from typing import Any

import pytest

from tests.support.builds import Builds, announced, marks

pytestmark = pytest.mark.userns

SECOND = 10**9
TCP = [f"{port}/tcp" for port in (80, 7, 8, 99)]


# CMD and ENTRYPOINT


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        ('["sh", "-c", "echo $HOME"]', ["sh", "-c", "echo $HOME"]),
        ("exec sh  -l ", ["/bin/sh", "-c", "exec sh  -l"]),
        ("[ -f x ] && sh", ["/bin/sh", "-c", "[ -f x ] && sh"]),
    ],
)
@pytest.mark.parametrize(("name", "key"), [("CMD", "cmd"), ("ENTRYPOINT", "entrypoint")])
def test_commands_are_recorded(builds: Builds, name: str, key: str, command: str, argv: list[str]) -> None:
    result = builds.build(f"FROM base\n{name} {command}")
    assert builds.metadata()[key] == argv
    assert "warning" not in result.stderr


def test_commands_see_variables_and_the_shell_of_their_place(builds: Builds) -> None:
    builds.build('FROM base\nARG A=1\nSHELL ["sh", "-ec"]\nENTRYPOINT ["$A", "$UNSET"]\nCMD echo $A')
    assert builds.metadata()["entrypoint"] == ["1", "$UNSET"]
    assert builds.metadata()["cmd"] == ["sh", "-ec", "echo $A"]


def test_entrypoint_drops_the_command_of_the_base(builds: Builds) -> None:
    """It was made for another entry point."""
    builds.build('FROM base\nCMD ["old"]', tag="parent")
    builds.build('FROM parent\nENTRYPOINT ["e"]')
    assert "cmd" not in builds.metadata()


@pytest.mark.parametrize("order", [('CMD ["c"]', 'ENTRYPOINT ["e"]'), ('ENTRYPOINT ["e"]', 'CMD ["c"]')])
def test_entrypoint_keeps_the_command_of_its_own_stage(builds: Builds, order: tuple[str, str]) -> None:
    builds.build('FROM base\nCMD ["old"]', tag="parent")
    builds.build("\n".join(("FROM parent", *order)))
    assert builds.metadata()["cmd"] == ["c"]
    assert builds.metadata()["entrypoint"] == ["e"]


def test_the_same_instruction_in_another_stage_is_another_state(builds: Builds) -> None:
    """What ENTRYPOINT does depends on where CMD stands, though the chain of states is the same up to there."""
    builds.build('FROM base\nCMD ["c"]\nENTRYPOINT ["e"]')
    builds.build('FROM base AS one\nCMD ["c"]\nFROM one\nENTRYPOINT ["e"]')
    assert "cmd" not in builds.metadata()


@pytest.mark.parametrize(("name", "key"), [("CMD", "cmd"), ("ENTRYPOINT", "entrypoint")])
def test_an_empty_list_clears(builds: Builds, name: str, key: str) -> None:
    builds.build(f'FROM base\n{name} ["a"]\n{name} []')
    assert key not in builds.metadata()


# What the manual does not support, and what is therefore only recorded


@pytest.mark.parametrize(
    ("instruction", "key", "value"),
    [
        ("EXPOSE 80", "ports", ["80/tcp"]),
        ("EXPOSE $PORTS 80/TCP 7-8 127.0.0.1:1:99", "ports", ["8080/tcp", "53/udp", *TCP]),
        ("MAINTAINER Jo O'Neill <jo@$A>", "author", "Jo O'Neill <jo@a.example>"),
        ("STOPSIGNAL SIGTERM", "stop_signal", "SIGTERM"),
        ("STOPSIGNAL RTMIN+3", "stop_signal", "RTMIN+3"),
        ("STOPSIGNAL 9", "stop_signal", "9"),
        ('USER "${U:-nobody}:1000"', "user", "nobody:1000"),
        ("HEALTHCHECK NONE", "healthcheck", {"Test": ["NONE"]}),
        ("HEALTHCHECK CMD curl $URL || exit 1", "healthcheck", {"Test": ["CMD-SHELL", "curl $URL || exit 1"]}),
        (
            'HEALTHCHECK --interval=1m30s --timeout=.5s --retries=3 --start-period=0 CMD ["true", "$A"]',
            "healthcheck",
            {
                "Test": ["CMD", "true", "a.example"],
                "Interval": 90 * SECOND,
                "Timeout": SECOND // 2,
                "Retries": 3,
                "StartPeriod": 0,
            },
        ),
        ("VOLUME /data $A/../x", "volumes", ["/data", "/x"]),
        ('VOLUME ["/two words"]', "volumes", ["/two words"]),
    ],
)
def test_what_is_not_acted_on_is_recorded_and_said(builds: Builds, instruction: str, key: str, value: Any) -> None:
    name = instruction.split()[0]
    dockerfile = f"FROM base\nARG A=a.example\nARG PORTS='8080 53/udp'\n{instruction}\nRUN echo on > /on"
    result = builds.build(dockerfile)
    assert builds.metadata()[key] == value
    assert f"warning: not supported, recorded only: {name} instruction\n" in result.stderr
    assert builds.read("on") == "on\n"
    assert marks(builds.build(dockerfile)) == "*****"


@pytest.mark.parametrize(
    "instruction",
    [
        "EXPOSE http",
        "EXPOSE 70000",
        "EXPOSE 9-8",
        "HEALTHCHECK foo",
        "HEALTHCHECK NONE foo",
        "HEALTHCHECK CMD []",
        "HEALTHCHECK --interval=soon CMD true",
        "HEALTHCHECK --interval=1us CMD true",
        "HEALTHCHECK --retries=-1 CMD true",
        "STOPSIGNAL SIG TERM",
        "USER ${U:?no user}",
        'USER "unfinished',
        'VOLUME ["$UNSET"]',
    ],
)
def test_what_makes_no_sense_is_not_recorded_and_no_error(builds: Builds, instruction: str) -> None:
    """ch-image takes any argument."""
    name = instruction.split()[0]
    result = builds.build(f"FROM base\n{instruction}\nRUN echo on > /on")
    assert f"/Dockerfile:2: {name}: makes no sense, ignored: " in result.stderr
    assert builds.read("on") == "on\n"
    assert not {"ports", "healthcheck", "stop_signal", "user", "author"} & set(builds.metadata())
    assert builds.metadata()["volumes"] == []


def test_each_kind_is_said_once(builds: Builds) -> None:
    result = builds.build("FROM base\nUSER a\nEXPOSE 1\nUSER b\nEXPOSE 2\nUSER c")
    assert result.stderr.count("recorded only: USER") == result.stderr.count("recorded only: EXPOSE") == 1
    assert builds.metadata()["user"] == "c"
    assert builds.metadata()["ports"] == ["1/tcp", "2/tcp"]


def test_a_user_is_not_acted_on(builds: Builds) -> None:
    builds.build("FROM base\nRUN id -u > /before\nUSER 12345\nRUN id -u > /after")
    assert builds.read("before") == builds.read("after")


def test_metadata_is_inherited(builds: Builds) -> None:
    builds.build("FROM base\nUSER a\nEXPOSE 1\nVOLUME /v\nLABEL k=v", tag="parent")
    builds.build("FROM parent\nEXPOSE 2\nVOLUME /w")
    found = builds.metadata()
    assert (found["user"], found["ports"], found["volumes"]) == ("a", ["1/tcp", "2/tcp"], ["/v", "/w"])
    assert found["labels"] == {"k": "v"}


# VOLUME


def test_directories_of_volume_are_made(builds: Builds) -> None:
    builds.build('FROM base\nVOLUME /a/b c /\nVOLUME ["/with blank", "/etc"]\nRUN test -f /etc/passwd')
    for name in ("a/b", "c", "with blank"):
        assert (builds.image() / name).is_dir(), name


def test_a_volume_where_a_file_is_keeps_the_file(builds: Builds) -> None:
    before = builds.read("etc/passwd", "base+latest")
    result = builds.build("FROM base\nVOLUME /etc/passwd")
    assert builds.read("etc/passwd") == before
    assert "warning: VOLUME: can't make directory in image: /etc/passwd" in result.stderr


def test_a_volume_through_a_link_stays_inside(builds: Builds) -> None:
    outside = builds.context.parent / "outside"
    outside.mkdir()
    builds.build(f"FROM base\nRUN ln -s {outside} /link\nVOLUME /link/v /../../up")
    assert list(outside.iterdir()) == []
    assert (builds.image() / "up").is_dir()


# LABEL


@pytest.mark.parametrize(
    ("words", "labels"),
    [
        ('a=1 b="two words" "c d"=\'3\'', {"a": "1", "b": "two words", "c d": "3"}),
        ("a old form", {"a": "old form"}),
        ('a="one \\\n     line" \\\n  # comment\n  b=2', {"a": "one      line", "b": "2"}),
        ('org.opencontainers.image.title=x "k$A"="$A"', {"org.opencontainers.image.title": "x", "k1": "1"}),
        ('a="say \\"hi\\"" b=\'$A\' c=x\\ y', {"a": 'say "hi"', "b": "$A", "c": "x y"}),
        ("a= b", {"a": "", "b": None}),
    ],
)
def test_labels(builds: Builds, words: str, labels: dict[str, str]) -> None:
    result = builds.build(f"FROM base\nARG A=1\nLABEL {words}", check=False)
    if None in labels.values():
        assert "LABEL" in result.expect(1).stderr
    else:
        assert builds.metadata()["labels"] == labels


def test_labels_of_the_command_line_come_last(builds: Builds) -> None:
    options = ("--label", "a=$x 'y'", "--label", "b")
    result = builds.build("FROM base\nLABEL a=1 c=3", *options)
    assert builds.metadata()["labels"] == {"a": "$x 'y'", "b": "", "c": "3"}
    assert announced(result)[-1] == "  3. LABEL a='$x 'y'' b=''"
    assert marks(builds.build("FROM base\nLABEL a=1 c=3", *options)) == "***"
    builds.build("FROM base\nLABEL a=1 c=3", "--label", "=x", check=False).expect(2)
