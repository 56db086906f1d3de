"""`build --explain` and its events: for each cause of a miss, what changed; for hits, whence they come."""

import operator
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from chimage_core.cache.inputs import StepInputs
from chimage_core.cache.inputs_store import InputsStore
from chimage_core.storage.layout import Layout
from tests.support.builds import Builds, announced, traces
from tests.support.cli import CliResult

pytestmark = pytest.mark.userns


def causes(result: CliResult) -> dict[int, dict[str, Any]]:
    """Return the cause of each miss by its line."""
    return {event["line"]: event["cause"] for event in result.json_lines() if event["type"] == "miss_explained"}


def changes(cause: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [tuple(change.values()) for change in cause["changes"]]


def build(builds: Builds, dockerfile: str, *options: str, tag: str = "image") -> dict[int, dict[str, Any]]:
    return causes(builds.build(dockerfile, "--json", *options, tag=tag))


def inputs(builds: Builds) -> Path:
    return Path(Layout(builds.chimage.storage).inputs)


def test_what_is_new_was_never_seen_before_and_what_builds_on_it_says_so(builds: Builds) -> None:
    found = build(builds, "FROM base\nENV A=1\n# comment\nRUN true")
    assert found[2]["kind"] == "new"
    assert (found[4]["kind"], found[4]["line"]) == ("upstream", 2)
    assert build(builds, "FROM base\nENV A=1\nRUN true") == {}


def test_text_of_a_run_is_compared_by_word_with_the_most_similar_one(builds: Builds) -> None:
    for command in ("echo one two three", "echo something else", "true"):
        builds.build(f"FROM base\nRUN {command}")
    (cause,) = build(builds, "FROM base\nRUN echo one 2 three").values()
    assert cause["kind"] == "changed"
    assert changes(cause) == [("text", "RUN", None, "echo one two three", "echo one 2 three")]
    assert cause["compared"]["text"] == "RUN echo one two three"
    result = builds.build("FROM base\nRUN echo one deux three", "--explain")
    assert "     why: the text of the instruction changed\n" in result.stderr
    assert "RUN echo one [-2-]{+deux+} three" in result.stderr


def test_the_body_of_a_here_document_is_compared_too(builds: Builds) -> None:
    builds.build("FROM base\nRUN <<EOF\necho a\nEOF")
    (cause,) = build(builds, "FROM base\nRUN <<EOF\necho b\nEOF").values()
    ((what, name, _, before, after),) = changes(cause)
    assert (what, name) == ("option", "command")
    assert before.endswith("echo a\n")
    assert after.endswith("echo b\n")


@pytest.mark.parametrize(("instruction", "what"), [("ARG", "arguments"), ("ENV", "variables"), ("LABEL", "labels")])
def test_values_are_compared_by_name(builds: Builds, instruction: str, what: str) -> None:
    builds.build(f"FROM base\n{instruction} A=1\nRUN true")
    found = build(builds, f"FROM base\n{instruction} A=2\nRUN true")
    assert changes(found[2]) == [(what, "A", None, "1", "2")]
    assert found[3]["kind"] == "upstream"


def test_a_value_that_comes_from_a_build_argument(builds: Builds) -> None:
    dockerfile = "FROM base\nARG A=default\nRUN echo $A"
    builds.build(dockerfile)
    result = builds.build(dockerfile, "--build-arg=A=b c", "--explain")
    assert "why: another value of ARG\n       ARG A: 'default' -> 'b c'\n" in result.stderr


def test_each_attribute_of_a_source_file_is_named(builds: Builds) -> None:
    for name in ("touched", "longer", "mode", "gone", "other"):
        builds.write(f"d/{name}", name)
        os.utime(builds.context / "d" / name, ns=(0, 1_000_000_000))
    (builds.context / "d" / "link").symlink_to("here")
    dockerfile = "FROM base\nCOPY d /d"
    builds.build(dockerfile)
    directory = builds.context / "d"
    os.utime(directory / "touched", ns=(0, 2_500_000_000))
    (directory / "longer").write_text("longer than before")
    os.utime(directory / "longer", ns=(0, 1_000_000_000))
    (directory / "mode").chmod(0o755)
    (directory / "gone").unlink()
    (directory / "new").mkdir()
    (directory / "other").unlink()
    (directory / "other").symlink_to("x")
    (directory / "link").unlink()
    (directory / "link").symlink_to("there")
    (cause,) = build(builds, dockerfile).values()
    assert changes(cause) == [
        ("source", "d/gone", None, "file", None),
        ("source", "d/link", "target", "here", "there"),
        ("source", "d/longer", "size", 6, 18),
        ("source", "d/mode", "mode", "0644", "0755"),
        ("source", "d/new", None, None, "directory"),
        ("source", "d/other", None, "file", "symlink"),
        ("source", "d/touched", "mtime", 1_000_000_000, 2_500_000_000),
    ]


def test_a_touched_file_hits_again_by_what_is_proposed(builds: Builds) -> None:
    """The proposal is a command: it must work as it stands, in the context directory."""
    builds.write("a file", "x")
    os.utime(builds.context / "a file", ns=(0, 1_763_546_520_123_456_789))
    dockerfile = 'FROM base\nCOPY ["a file", "/"]'
    builds.build(dockerfile)
    (builds.context / "a file").touch()
    result = builds.build(dockerfile, "--explain", "-n")
    assert "why: 1 source file changed: touched, but of the same size\n" in result.stderr
    (command,) = (line.strip() for line in result.stderr.splitlines() if line.strip().startswith("touch"))
    assert os.system(f"cd '{builds.context}' && {command}") == 0
    assert build(builds, dockerfile) == {}


def test_of_many_files_some_are_named_and_the_others_counted(builds: Builds) -> None:
    """One that really changed comes first: after a fresh checkout all others are touched."""
    for number in range(40):
        builds.write(f"d/{number:02}", "x")
    builds.build("FROM base\nCOPY d /d")
    for number in range(40):
        os.utime(builds.context / f"d/{number:02}", (1, 1))
    builds.write("d/39", "longer")
    (cause,) = build(builds, "FROM base\nCOPY d /d", "-n").values()
    assert [change["name"] for change in cause["changes"]][:2] == ["d/39", "d/39"]
    assert cause["omitted"] == 30
    text = builds.build("FROM base\nCOPY d /d", "--explain").stderr
    assert "why: 40 source files changed\n" in text
    assert "… and 30 more" in text


def test_names_of_sources_that_could_steer_a_terminal_are_shown_escaped(builds: Builds) -> None:
    builds.write("d/\x1b[31m", "x")
    builds.build("FROM base\nCOPY d /d")
    builds.write("d/\x1b[31m", "xy")
    result = builds.build("FROM base\nCOPY d /d", "--explain")
    assert "\x1b" not in result.stderr
    assert "d/\\x1b[31m: size 1 -> 2" in result.stderr


def test_a_source_whose_name_is_no_utf_8(builds: Builds) -> None:
    directory = os.fsencode(builds.context) + b"/d"
    os.mkdir(directory)
    Path(os.fsdecode(directory + b"/\xff")).write_text("x")
    builds.build("FROM base\nCOPY d /d")
    Path(os.fsdecode(directory + b"/\xff")).write_text("xy")
    assert "d/\\xff: size 1 -> 2" in builds.build("FROM base\nCOPY d /d", "--explain").stderr


def test_a_base_image_that_was_imported_again(builds: Builds, busybox: Path, tmp_path: Path) -> None:
    dockerfile = "FROM base\nENV A=1\nRUN true"
    builds.build(dockerfile)
    other = tmp_path / "other"
    shutil.copytree(busybox, other, symlinks=True)
    (other / "new").touch()
    builds.chimage.run("import", other, "base")
    found = build(builds, dockerfile, "-n")
    assert found[2]["kind"] == "base"
    facts = {change["attribute"]: change for change in found[2]["changes"]}
    assert {change["name"] for change in facts.values()} == {"base:latest"}
    assert facts["from"]["before"] == str(busybox)
    assert facts["from"]["after"] == str(other)
    assert facts["state"]["before"] != facts["state"]["after"]
    # Also where another image of the same beginning is there already, and where the step changed, too.
    assert build(builds, dockerfile, tag="image2")[2]["kind"] == "base"
    text = builds.build("FROM base\nENV A=2\nRUN true", "--explain").stderr
    assert "ENV A: '1' -> '2'" in text
    assert "base image" not in text


def test_a_base_image_that_was_built_again(builds: Builds) -> None:
    builds.build("FROM base\nRUN echo 1", tag="middle")
    builds.build("FROM middle\nRUN true")
    builds.build("FROM base\nRUN echo 2", tag="middle")
    (cause,) = build(builds, "FROM middle\nRUN true").values()
    assert cause["kind"] == "base"
    assert cause["changes"][0]["name"] == "middle:latest"


def test_what_was_no_first_step_is_not_taken_for_another_base(builds: Builds) -> None:
    builds.build("FROM base\nENV A=1\nRUN true")
    (cause,) = build(builds, "FROM base AS one\nFROM base\nRUN true").values()
    assert cause["kind"] == "new"


def test_an_argument_before_from(builds: Builds) -> None:
    builds.build("ARG X=1\nFROM base\nRUN true")
    assert changes(build(builds, "ARG X=2\nFROM base\nRUN true")[3]) == [("arguments", "X", None, "1", "2")]
    assert changes(build(builds, "FROM base\nRUN true")[2]) == [("arguments", "X", None, "2", None)]


def test_a_stage_that_missed_explains_what_is_built_on_it_and_copied_from_it(builds: Builds) -> None:
    dockerfile = "FROM base AS one\nRUN echo {} > /f\nFROM one\nRUN true\nFROM base\nCOPY --from=one /f /"
    builds.build(dockerfile.format(1))
    found = build(builds, dockerfile.format(2))
    assert found[2]["kind"] == "changed"
    assert [(found[line]["kind"], found[line]["line"]) for line in (4, 6)] == [("upstream", 2), ("upstream", 2)]


def test_another_root_emulation_and_no_xattrs_are_options(builds: Builds) -> None:
    builds.build("FROM base\nRUN true")
    ((_, name, _, before, after),) = changes(build(builds, "FROM base\nRUN true", "--force-cmd=true,-x")[2])
    assert (name, before[-4:], after[-7:]) == ("command", "true", "true -x")
    found = build(builds, "FROM base\nRUN true", "--force=none")
    assert changes(found[2]) == [("option", "--force", None, "seccomp", "none")]
    found = build(builds, "FROM base\nRUN true", "--no-xattrs")
    assert ("option", "--no-xattrs", None, None, "yes") in changes(found[2])


def test_rebuild_mode_is_the_cause_of_all_its_misses(builds: Builds) -> None:
    builds.build("FROM base\nENV A=1\nRUN true")
    found = build(builds, "FROM base\nENV A=1\nRUN true", "--rebuild")
    assert [cause["kind"] for cause in found.values()] == ["rebuild", "rebuild"]


def test_what_garbage_collection_removed_has_expired(builds: Builds) -> None:
    builds.build("FROM base\nRUN echo 1")
    builds.build("FROM base\nRUN echo 2")
    builds.chimage.run("build-cache", "--gc")
    (cause,) = build(builds, "FROM base\nRUN echo 1").values()
    assert cause["kind"] == "expired"
    assert cause["time"] >= cause["compared"]["time"]
    # Carried out again, it hits, and nobody says any more that it was removed.
    assert build(builds, "FROM base\nRUN echo 1") == {}


def test_where_records_are_lost_that_is_said(builds: Builds) -> None:
    builds.build("FROM base\nENV A=1")
    inputs(builds).unlink()
    (cause,) = build(builds, "FROM base\nENV A=2", "-n").values()
    assert cause["kind"] == "unrecorded"
    assert not inputs(builds).exists()
    result = builds.build("FROM base\nENV A=1", "--explain")
    assert "     hit: no record of who made it, and when\n" in result.stderr


def test_a_damaged_record_stops_no_build_and_is_begun_anew(builds: Builds) -> None:
    builds.build("FROM base\nENV A=1")
    inputs(builds).write_bytes(b"no database" * 1000)
    result = builds.build("FROM base\nENV A=2", "-v")
    assert "record of inputs is damaged and begun anew" in result.stderr
    assert changes(build(builds, "FROM base\nENV A=3")[2]) == [("variables", "A", None, "2", "3")]


def test_hits_tell_since_when_and_by_which_image(builds: Builds) -> None:
    builds.build("FROM base\nENV A=1", tag="first")
    events = builds.build("FROM base\nENV A=1", "--explain", "--json", tag="second").json_lines()
    (event,) = (event for event in events if event["type"] == "hit_explained")
    assert (event["recorded"]["image"], event["recorded"]["line"]) == ("first:latest", 2)
    text = builds.build("FROM base\nENV A=1", "--explain", tag="third").stderr
    assert f"by first:latest (state {event['state'][:8]})" in text
    assert "hit since" not in builds.build("FROM base\nENV A=1", "-v").stderr


def test_a_site_s_records_explain_what_hits_and_misses_there(builds: Builds, tmp_path: Path, busybox: Path) -> None:
    builds.build("FROM base\nENV A=1")
    shared = f"--cache-shared={builds.chimage.storage}"
    own = str(tmp_path / "own")
    builds.chimage.run("import", "-s", own, busybox, "base")
    result = builds.build("FROM base\nENV A=1", "-s", own, shared, "--explain")
    assert "by image:latest" in result.stderr
    found = build(builds, "FROM base\nENV A=2", "-s", own, shared)
    assert changes(found[2]) == [("variables", "A", None, "1", "2")]


def test_misses_have_a_line_with_v_and_none_without(builds: Builds) -> None:
    builds.build("FROM base\nRUN echo one")
    assert "why" not in builds.build("FROM base\nRUN echo two").stderr
    result = builds.build("FROM base\nRUN echo three", "-v")
    assert "     why: the text of the instruction changed\n" in result.stderr
    assert "[-" not in result.stderr


def test_a_dry_run_explains_and_leaves_everything_as_it_was(builds: Builds) -> None:
    builds.build("FROM base\nENV A=1")
    before = traces(builds.chimage.storage)
    result = builds.build("FROM base\nENV A=2\nRUN true", "-n", "--explain")
    assert "ENV A: '1' -> '2'" in result.stderr
    assert len(announced(result)) == 3
    assert traces(builds.chimage.storage) == before


def test_without_a_cache_nothing_is_explained_or_recorded(builds: Builds) -> None:
    before = inputs(builds).read_bytes()
    result = builds.build("FROM base\nENV A=1", "--no-cache", "--explain")
    assert "why" not in result.stderr
    assert inputs(builds).read_bytes() == before


def test_an_image_that_the_cache_does_not_know_yet(builds: Builds, busybox: Path) -> None:
    builds.chimage.run("import", "--no-cache", busybox, "plain")
    found = build(builds, "FROM plain\nRUN true")
    assert (found[2]["kind"], found[2]["line"]) == ("upstream", 1)


def test_a_failed_build_leaves_records_of_the_steps_that_it_made(builds: Builds) -> None:
    builds.build("FROM base\nENV A=1\nRUN false", check=False).expect(1)
    assert list(build(builds, "FROM base\nENV A=1\nRUN true")) == [3]
    assert changes(build(builds, "FROM base\nENV A=2")[2]) == [("variables", "A", None, "1", "2")]


def test_reset_forgets_the_records_too(builds: Builds) -> None:
    builds.build("FROM base\nENV A=1")
    builds.chimage.run("build-cache", "--reset")
    assert not inputs(builds).exists()


def test_the_key_is_made_of_what_is_on_record(builds: Builds) -> None:
    """One source of truth: a state's name can be computed from its record."""
    builds.write("file", "x")
    builds.build('FROM base\nARG A=1\nENV B=2\nCOPY file /\nRUN true\nWORKDIR /x\nSHELL ["/bin/sh", "-c"]')
    store = InputsStore(str(inputs(builds)))
    rows = store.ask(lambda records: [records.last("image:latest", line) for line in range(2, 8)])
    assert rows is not None
    for row in rows:
        assert row is not None
        recorded = store.ask(operator.methodcaller("inputs", row))
        assert isinstance(recorded, StepInputs)
        assert row.parent.child(recorded.key()) == row.state
