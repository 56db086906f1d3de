"""`build --jobs`: stages side by side."""

import signal
import subprocess
import time

import pytest

from tests.support.builds import Builds, contents, marks

pytestmark = pytest.mark.userns

WAIT = "n=0; until [ -e /meet/{0} ]; do sleep 0.1; n=$((n+1)); [ $n -lt 300 ] || exit 7; done"
MEET = f"""FROM base AS one
RUN echo 1 > /meet/1; {WAIT.format(2)}; echo 1 > /n
FROM base AS two
RUN echo 2 > /meet/2; {WAIT.format(1)}; echo 2 > /n
FROM base
COPY --from=one /n /1
COPY --from=two /n /2
RUN cat /1 /2
"""
"""Each of the first two stages waits for the other."""


@pytest.fixture
def meet(builds: Builds) -> str:
    place = builds.context.parent / "meet"
    place.mkdir()
    return f"--bind={place}:/meet"


@pytest.mark.parametrize("options", [(), ("--no-cache",)])
def test_independent_stages_run_at_the_same_time(builds: Builds, meet: str, options: tuple[str, ...]) -> None:
    result = builds.build(MEET, "--jobs=2", meet, *options)
    assert (builds.read("1"), builds.read("2")) == ("1\n", "2\n")
    assert "[2] 1\n[2] 2\n" in result.stderr
    lines = result.stderr.splitlines()
    assert {line.partition(" ")[0] for line in lines if "RUN.S" in line} == {"[one]", "[two]", "[2]"}
    assert "grown in 8 instructions: image" in lines


def test_what_is_built_side_by_side_is_the_same(builds: Builds) -> None:
    stages = [f"FROM base AS s{n}\nARG A={n}\nRUN echo {n} > /n; head -c {n}00000 /dev/zero > /z\n" for n in range(5)]
    stages.append("FROM s1 AS t\nRUN echo t > /t\nFROM base\n")
    stages += [f"COPY --from=s{n} /n /z /{n}/\n" for n in range(5)] + ["COPY --from=t /t /n /t/\n"]
    builds.build("".join(stages), tag="one")
    builds.build("".join(stages), "--jobs=4", "--rebuild", tag="two")
    one, two = (contents(builds.image(f"{name}+latest")) for name in ("one", "two"))
    assert one == two
    assert "t/t" in two
    builds.chimage.run("build-cache", "--check")
    again = builds.build("".join(stages), "--jobs=4", tag="two")
    assert not [line for line in again.stderr.splitlines() if line.startswith("[") and line[8:12].endswith(".")]


def test_the_first_failure_stops_the_other_stages(builds: Builds) -> None:
    dockerfile = "FROM base AS slow\nRUN sleep 600\nFROM base AS bad\nRUN sleep 1; exit 3\nFROM base\nRUN true"
    builds.build("FROM base\nRUN echo old > /old")
    began = time.monotonic()
    result = builds.build(dockerfile, "--jobs=3", check=False).expect(1)
    assert time.monotonic() - began < 300
    assert "RUN command exited with 3" in result.stderr
    assert builds.read("old") == "old\n"
    builds.build("FROM base AS slow\nRUN true\nFROM base AS bad\nRUN true\nFROM base\nRUN true", "--jobs=3")


def test_a_signal_stops_all_stages(builds: Builds) -> None:
    builds.write(
        "Dockerfile", "FROM base AS a\nRUN echo up; sleep 600\nFROM base\nRUN sleep 599 & echo up; wait\nFROM base"
    )
    command = builds.chimage.argv("build", "--jobs=2", "-t", "image", builds.context)
    with subprocess.Popen(command, env=builds.chimage.environment(), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = 0
        for line in process.stderr:
            said += line.rstrip().endswith("] up")
            if said == 2:
                process.send_signal(signal.SIGTERM)
        assert process.wait(120) == -signal.SIGTERM
    assert builds.names() == [name for name in builds.names() if name.startswith("base")]


def test_events_tell_the_stage(builds: Builds, meet: str) -> None:
    events = builds.build(MEET, "--jobs=2", "--json", meet).json_lines()
    output = [(event["stage"], event["data"]) for event in events if event["type"] == "output_chunk"]
    assert "".join(data for stage, data in output if stage == 2) == "1\n2\n"
    assert {event["stage"] for event in events if event["type"] == "step_finished"} == {0, 1, 2}


def test_one_job_is_as_ever(builds: Builds) -> None:
    """Commands write to the terminal directly then."""
    result = builds.build("FROM base\nRUN echo 1\nFROM base\nRUN echo 2", "--jobs", "1")
    assert result.stdout == "1\n2\n"
    assert marks(result) == "*.*."
    builds.build("FROM base", "--jobs=0", check=False).expect(2)
