"""`build`: what comes from the cache, what does not, and what is said of it."""

import json
import shutil
from pathlib import Path

import pytest

from chimage_core.cancel import CancelToken
from chimage_core.storage.layout import Layout
from chimage_core.storage.lock import Locks
from tests.support.builds import Builds, announced, contents, marks
from tests.support.recorder import Recorder

pytestmark = pytest.mark.userns

THREE = "FROM base\nRUN echo {0} > /one\nRUN echo {1} > /two\nRUN echo {2} > /three"


def test_the_output_of_a_first_build_is_as_in_the_manual(builds: Builds) -> None:
    result = builds.build("FROM base\nRUN echo foo\nRUN echo bar", tag="foo")
    assert result.stderr == (
        "  1* FROM base\n  2. RUN.S echo foo\ncopying image ...\n  3. RUN.S echo bar\ngrown in 3 instructions: foo\n"
    )
    assert result.stdout == "foo\nbar\n"


def test_the_output_of_a_second_build_is_as_in_the_manual(builds: Builds) -> None:
    builds.build("FROM base\nRUN echo foo\nRUN echo bar", tag="foo")
    result = builds.build("FROM base\nRUN echo foo\nRUN echo bar", tag="foo")
    assert result.stderr == ("  1* FROM base\n  2* RUN.S echo foo\n  3* RUN.S echo bar\ngrown in 3 instructions: foo\n")
    assert result.stdout == ""


def test_a_hit_under_another_name_is_copied_at_the_end(builds: Builds) -> None:
    builds.build("FROM base\nRUN echo foo", tag="foo")
    result = builds.build("FROM base\nRUN echo foo", tag="bar")
    assert result.stderr.splitlines()[-2:] == ["copying image ...", "grown in 2 instructions: bar"]
    assert contents(builds.image("foo+latest")) == contents(builds.image("bar+latest"))


def test_more_than_nine_instructions_line_up(builds: Builds) -> None:
    result = builds.build("FROM base\n" + "ENV A=1\n" * 100)
    assert [line[:4] for line in announced(result)][::50] == ["  1*", " 51.", "101."]


def test_a_change_in_the_third_instruction_misses_from_there_on(builds: Builds) -> None:
    builds.build(THREE.format(1, 2, 3))
    assert marks(builds.build(THREE.format(1, "changed", 3))) == "**.."
    assert (builds.read("one"), builds.read("two"), builds.read("three")) == ("1\n", "changed\n", "3\n")
    assert marks(builds.build(THREE.format(1, 2, 3))) == "****"
    assert builds.read("two") == "2\n"


def test_comments_blanks_and_the_case_of_keywords_do_not_matter(builds: Builds) -> None:
    builds.build("FROM base\nRUN echo a b")
    assert marks(builds.build("# comment\n\nfrom   base\n\n  run \\\n echo a b")) == "**"


def test_rebuild_executes_all_but_from_and_remembers_the_new_results(builds: Builds) -> None:
    dockerfile = "FROM base\nRUN cat /proc/sys/kernel/random/uuid > /id\nRUN true"
    builds.build(dockerfile)
    first = builds.read("id")
    assert marks(builds.build(dockerfile, "--rebuild")) == "*.."
    second = builds.read("id")
    assert second != first
    assert marks(builds.build(dockerfile)) == "***"
    assert builds.read("id") == second


def test_without_cache_all_is_executed_and_nothing_remembered(builds: Builds) -> None:
    dockerfile = "FROM base AS one\nRUN echo 1 > /one\nFROM base\nCOPY --from=one /one /two\nRUN rm /etc/hosts || true"
    assert "*" not in marks(builds.build(dockerfile, "--no-cache")).replace("*", "", 2)
    assert "." in marks(builds.build(dockerfile, "--no-cache"))
    assert builds.read("two") == "1\n"
    assert marks(builds.build(dockerfile)) == "*.*.."


def test_without_cache_no_cache_is_made(builds: Builds, busybox: Path, tmp_path: Path) -> None:
    other = Builds(type(builds.chimage)(tmp_path / "other"), builds.context)
    other.chimage.run("import", "--no-cache", busybox, "base")
    other.build("FROM base\nRUN true", "--no-cache")
    assert not (tmp_path / "other/cache/git").exists()
    result = other.chimage.run("build-cache", "--no-cache", check=False).expect(1)
    assert "cache is disabled" in result.stderr


def test_the_image_is_the_same_with_and_without_cache(builds: Builds) -> None:
    dockerfile = "FROM base\nENV A=1\nRUN mkdir /d && touch /d/f && chmod 700 /d\nWORKDIR /w\nRUN ln -s x l"
    builds.build(dockerfile, tag="with")
    builds.build(dockerfile, "--no-cache", tag="without")
    assert contents(builds.image("with+latest")) == contents(builds.image("without+latest"))


def test_an_image_made_without_cache_can_be_built_on_with_it(builds: Builds) -> None:
    builds.build("FROM base\nENV A=1\nRUN echo x > /x", "--no-cache", tag="plain")
    dockerfile = "FROM plain\nRUN cat /x; echo $A"
    assert builds.build(dockerfile).stdout == "x\n1\n"
    assert marks(builds.build(dockerfile)) == "**"


def test_an_image_that_lost_its_notes_keeps_its_state(builds: Builds) -> None:
    """What was built on it must not be built again."""
    builds.build("FROM base\nRUN mkdir /d; echo x > /d/x; ln /d/x /d/y; mkfifo /p", tag="middle")
    dockerfile = "FROM middle\nRUN true"
    builds.build(dockerfile)
    before = builds.chimage.run("build-cache", "--json").json()["state_ids"]
    for name in ("middle+latest", "base+latest"):
        shutil.rmtree(Path(builds.chimage.storage, "img.d", name))
    assert marks(builds.build(dockerfile)) == "**"
    assert marks(builds.build("FROM base\nRUN mkdir /d; echo x > /d/x; ln /d/x /d/y; mkfifo /p", tag="middle")) == "**"
    assert builds.chimage.run("build-cache", "--json").json()["state_ids"] == before


def test_an_image_changed_without_cache_is_another_base(builds: Builds) -> None:
    builds.build("FROM base\nRUN echo 1 > /x", tag="middle")
    dockerfile = "FROM middle\nRUN cat /x"
    assert builds.build(dockerfile).stdout == "1\n"
    builds.build("FROM base\nRUN echo 2 > /x", "--no-cache", tag="middle")
    result = builds.build(dockerfile)
    assert (marks(result), result.stdout) == ("..", "2\n")
    assert marks(builds.build(dockerfile)) == "**"


def test_what_a_base_is_gets_decided_when_nobody_else_works_on_it(builds: Builds) -> None:
    """While we wait for one lock, somebody may change an image whose lock we did not want."""
    storage = builds.chimage.storage
    locks = Locks(Layout(storage), ["test"], emit=Recorder(), cancel=CancelToken(), timeout=60)
    builds.write("Dockerfile", "FROM base\nRUN true")
    with locks.images(write=["base+latest"]):
        with locks.images(write=["image+latest"]):
            build = builds.chimage.start("build", "-t", "image", builds.context)
            assert build.stderr is not None
            assert "waiting for image image+latest" in build.stderr.readline()
            shutil.rmtree(Path(storage, "img.d/base+latest"))
        assert "waiting for image base+latest" in build.stderr.readline()
    with build:
        _, stderr = build.communicate(timeout=60)
    assert build.returncode == 0, stderr
    assert "  1* FROM base" in stderr


@pytest.mark.parametrize(("value", "expected"), [("enabled", "**"), ("disabled", ".."), ("rebuild", "*.")])
def test_the_variable_chooses_the_mode(builds: Builds, value: str, expected: str) -> None:
    builds.build("FROM base\nRUN true")
    result = builds.build("FROM base\nRUN true", env={"CH_IMAGE_CACHE": value})
    assert marks(result)[1] == expected[1]


def test_the_option_beats_the_variable(builds: Builds) -> None:
    builds.build("FROM base\nRUN true")
    assert marks(builds.build("FROM base\nRUN true", "--cache", env={"CH_IMAGE_CACHE": "disabled"})) == "**"


def test_a_bad_value_of_the_variable_is_a_usage_error(builds: Builds) -> None:
    result = builds.build("FROM base", env={"CH_IMAGE_CACHE": "yes"}, check=False).expect(2)
    assert "$CH_IMAGE_CACHE" in result.stderr


def test_a_deleted_image_comes_back_from_the_cache(builds: Builds) -> None:
    dockerfile = "FROM base\nRUN mkdir -m 700 /d && mkfifo /d/p && ln -s p /d/l && echo x > /d/f && chmod 400 /d/f"
    builds.build(dockerfile)
    before = contents(builds.image())
    builds.chimage.run("delete", "image")
    assert marks(builds.build(dockerfile)) == "**"
    assert contents(builds.image()) == before


def test_an_image_directory_that_vanished_comes_back(builds: Builds) -> None:
    builds.build("FROM base\nRUN echo x > /x")
    shutil.rmtree(builds.image())
    builds.build("FROM base\nRUN echo x > /x")
    assert builds.read("x") == "x\n"


def test_a_missing_base_directory_does_not_matter_to_the_cache(builds: Builds) -> None:
    shutil.rmtree(builds.image("base+latest"))
    assert marks(builds.build("FROM base\nRUN true")) == "*."


def test_a_vanished_cache_is_made_anew(builds: Builds) -> None:
    """The images are still there, so builds go on, only slower."""
    builds.build("FROM base\nRUN echo x > /x")
    shutil.rmtree(Path(builds.chimage.storage, "cache/git"))
    assert marks(builds.build("FROM base\nRUN echo x > /x"))[1] == "."
    assert marks(builds.build("FROM base\nRUN echo x > /x")) == "**"


# Failure


def test_a_failing_run_tells_instruction_line_and_status(builds: Builds) -> None:
    result = builds.build("FROM base\n\n# comment\nRUN true\nRUN echo said; exit 42", check=False).expect(1)
    assert result.stdout == "said\n"
    error = result.stderr[result.stderr.index("error:") :]
    assert "exited with 42" in error
    assert f"{builds.context}/Dockerfile:5: RUN.S echo said; exit 42" in error
    assert "grown" not in result.stderr


@pytest.mark.parametrize(("command", "status"), [("kill -9 $$", 137), ("kill -TERM $$", 143), ("no-such-program", 127)])
def test_other_ends_of_a_command_are_told_too(builds: Builds, command: str, status: int) -> None:
    result = builds.build(f"FROM base\nRUN {command}", check=False).expect(1)
    assert f"exited with {status}" in result.stderr
    assert "hint:" in result.stderr


def test_a_failing_run_leaves_the_previous_image_and_the_cache_as_they_were(builds: Builds) -> None:
    builds.build("FROM base\nRUN echo 1 > /one\nRUN echo 2 > /two")
    before = contents(builds.image())
    state = builds.chimage.run("list", "--json").json()
    dockerfile = "FROM base\nRUN echo 1 > /one\nRUN rm /one; echo half > /etc/passwd; false"
    assert marks(builds.build(dockerfile, check=False).expect(1)) == "**."
    assert contents(builds.image()) == before
    after = builds.chimage.run("list", "--json").json()
    for image in (*state["images"], *after["images"]):
        image.pop("modified_ns")
    assert after == state
    assert marks(builds.build("FROM base\nRUN echo 1 > /one\nRUN echo 2 > /two")) == "***"
    assert contents(builds.image()) == before


def test_after_a_failure_the_steps_before_it_hit(builds: Builds) -> None:
    dockerfile = "FROM base\nRUN echo expensive\nRUN {}"
    builds.build(dockerfile.format("false"), check=False).expect(1)
    assert builds.names() == ["base:latest (amd64)"]
    assert marks(builds.build(dockerfile.format("true"))) == "**."


def test_a_failing_run_without_cache_leaves_the_previous_image_too(builds: Builds) -> None:
    builds.build("FROM base\nRUN echo 1 > /one", "--no-cache")
    before = contents(builds.image())
    builds.build("FROM base\nRUN rm /etc/passwd\nRUN false", "--no-cache", check=False).expect(1)
    assert contents(builds.image()) == before


def test_a_failure_in_an_early_stage_leaves_the_last_image(builds: Builds) -> None:
    good = "FROM base AS one\nRUN echo 1 > /one\nFROM base\nCOPY --from=one /one /one"
    builds.build(good)
    before = contents(builds.image())
    builds.build(good.replace("echo 1", "false; exit 3 #"), check=False).expect(1)
    assert contents(builds.image()) == before


# For scripts


def test_events_as_json_lines(builds: Builds) -> None:
    result = builds.build('FROM base\nRUN echo hi; printf "\\377" >&2', "--json")
    lines = result.json_lines()
    kinds = [line["type"] for line in lines]
    assert kinds[0] == "build_started"
    assert kinds[-1] == "result"
    steps = [line for line in lines if line["type"] == "step_resolved"]
    assert [(step["step"], step["line"], step["name"], step["outcome"]) for step in steps] == [
        (1, 1, "FROM", "hit"),
        (2, 2, "RUN.S", "miss"),
    ]
    output = [line for line in lines if line["type"] == "output_chunk"]
    assert {"type": "output_chunk", "step": 2, "stage": 0, "stream": "stdout", "data": "hi\n"} in output
    assert {"type": "output_chunk", "step": 2, "stage": 0, "stream": "stderr", "data_b64": "/w=="} in output
    assert (lines[-1]["hits"], lines[-1]["misses"]) == (0, 1)


def test_an_error_as_json(builds: Builds) -> None:
    result = builds.build("FROM base\nRUN exit 3", "--json", check=False).expect(1)
    error = json.loads(result.stdout.splitlines()[-1])
    assert (error["type"], error["code"], error["exit_code"]) == ("error", "build.run-failed", 1)


def test_after_a_restart_of_the_machine_everything_still_hits(builds: Builds) -> None:
    """What a directory held before is not vouched for any more, but the cache is."""
    builds.build(THREE.format(1, 2, 3), tag="one")
    builds.build("FROM one\nRUN echo 4 > /four", tag="two")
    before = contents(builds.image("two+latest"))
    for stamp in Path(builds.chimage.storage, "img.d").glob("*/stamp"):
        lines = stamp.read_text().splitlines(keepends=True)
        assert any(line.startswith("boot ") for line in lines)
        stamp.write_text("".join("boot another\n" if line.startswith("boot ") else line for line in lines))
    (builds.image("two+latest") / "half-written").write_text("")
    assert marks(builds.build("FROM one\nRUN echo 4 > /four", tag="two")) == "**"
    assert marks(builds.build(THREE.format(1, 2, 3), tag="one")) == "****"
    assert contents(builds.image("two+latest")) == before
