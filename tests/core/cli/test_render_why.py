"""Why a step hit or missed, in words."""

import time
from collections.abc import Iterator

import pytest

from chimage_core.cli.render_why import cause_lines, hit_line, moment
from chimage_core.events.explain import Cause, Change, Recorded

MADE = Recorded("12345678" + "0" * 56, "RUN x", "image:latest", 7, 9, 0)


@pytest.fixture(autouse=True)
def utc() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def text(cause: Cause) -> str:
    return "\n".join(cause_lines(cause))


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (Cause("rebuild"), "rebuild mode: all instructions but FROM are carried out again"),
        (Cause("upstream", line=4), "it builds on what line 4 makes, which missed"),
        (Cause("new"), "never seen before"),
        (Cause("unrecorded"), "not known: there is no record of what the states before were made of (older build?)"),
        (
            Cause("expired", time=60, compared=MADE),
            "its result was removed by gc on 1970-01-01 00:01:00; "
            "it was state 12345678, made 1970-01-01 00:00:00 by line 9 of image:latest",
        ),
        (Cause("expired"), "its result was removed from the cache"),
    ],
)
def test_each_cause_has_a_line(cause: Cause, expected: str) -> None:
    assert text(cause) == expected


def test_a_touched_file_has_a_command_that_helps() -> None:
    """The time is exact, and the name safe for a shell."""
    change = Change("source", "it's", "mtime", 1_500_000_001, -1_500_000_000)
    assert text(Cause("changed", changes=(change,), compared=MADE)).splitlines() == [
        "1 source file changed: touched, but of the same size",
        "  it's: mtime 1970-01-01 00:00:01.500000001 -> 1969-12-31 23:59:58.5",
        "  contents are not compared; if they are the same, this helps (in the context directory):",
        """    touch -d @1.500000001 'it'"'"'s'""",
        "  compared with state 12345678, made 1970-01-01 00:00:00 by line 9 of image:latest",
    ]


def test_who_changed_in_more_than_the_time_has_none() -> None:
    changes = (Change("source", "a", "size", 1, 2), Change("source", "a", "mtime", 1, 2))
    assert "touch" not in text(Cause("changed", changes=changes))


def test_an_earlier_stage_is_not_called_an_image() -> None:
    changes = (Change("base", "", "state", "1" * 64, "2" * 64),)
    assert "earlier stage: 11111111 -> 22222222" in text(Cause("base", changes=changes))


def test_long_texts_are_cut() -> None:
    change = Change("variables", "A", None, "x" * 10_000, "y\n" * 10_000)
    assert all(len(line) < 1000 for line in cause_lines(Cause("changed", changes=(change,))))


def test_times_that_no_calendar_has_are_numbers() -> None:
    assert moment(10**15) == "@1000000000000000"
    assert hit_line(MADE._replace(time=10**15)).startswith("hit since @1000000000000000, by image:latest")
