"""`build-cache --why`: what a state was made of, when, by whom, and why it had to be made."""

import json
import os

import pytest

from tests.support.builds import Builds

pytestmark = pytest.mark.userns


def states(builds: Builds, dockerfile: str, *options: str) -> dict[int, str]:
    """Build, and return the state of each line."""
    events = builds.build(dockerfile, "--json", *options).json_lines()
    return {event["line"]: event["state"] for event in events if event["type"] == "step_resolved" and event["state"]}


def why(builds: Builds, selector: str, *options: str) -> str:
    return builds.chimage.run("build-cache", "--why", selector, *options).stdout


def test_a_step_is_named_by_image_and_line_or_by_its_state(builds: Builds) -> None:
    found = states(builds, "FROM base\nENV A=1\n# comment\nRUN echo a > /a")
    by_line = why(builds, "image,4")
    assert by_line == why(builds, found[4]) == why(builds, found[4][:12]) == why(builds, found[4][:12].upper())
    assert by_line == why(builds, "image:latest,4")
    assert f"state:        {found[4]}\n" in by_line
    assert "instruction:  RUN.S echo a > /a\n" in by_line
    assert "made by:      line 4 of image:latest, 20" in by_line
    assert f"parent:       {found[2]}\n" in by_line
    assert "in images:    image:latest\n" in by_line
    assert "  command: /bin/sh -c echo a > /a\n" in by_line
    assert by_line.endswith("why it missed then:\n  it builds on what line 2 makes, which missed\n")


def test_the_line_of_from_tells_where_the_image_was_imported(builds: Builds) -> None:
    builds.build("FROM base\nENV A=1")
    text = why(builds, "image,1")
    assert "instruction:  IMPORT base\n" in text
    assert ", as base:latest\n" in text
    assert "in images:    base:latest, image:latest\n" in text


def test_what_was_recorded_as_the_cause_is_told_again(builds: Builds) -> None:
    builds.build("FROM base\nRUN echo one two")
    builds.build("FROM base\nRUN echo one deux")
    assert "    RUN echo one [-two-]{+deux+}\n" in why(builds, "image,2")


def test_lines_are_those_of_the_last_build_also_where_all_was_hits(builds: Builds) -> None:
    """A comment that was added moves all lines; whoever asks has the new numbers before him."""
    builds.build("FROM base\nENV A=1\nENV B=2", tag="first")
    builds.build("FROM base\nENV A=1\nENV B=2")
    assert "ENV B='2'" in why(builds, "image,3")
    builds.build("# comment\nFROM base\nENV A=1\nENV B=2")
    assert "ENV A='1'" in why(builds, "image,3")
    assert "made by:      line 3 of first:latest" in why(builds, "image,4")


def test_lines_of_earlier_stages_are_found_by_the_name_of_the_last(builds: Builds) -> None:
    builds.build("FROM base AS one\nRUN echo 1 > /1\nFROM base AS two\nENV A=1\nFROM base\nCOPY --from=one /1 /")
    assert "line 2 of image_stage0:latest" in why(builds, "image,2")
    assert "line 4 of image_stage1:latest" in why(builds, "image,4")
    assert "line 6 of image:latest" in why(builds, "image,6")


def test_source_files_are_listed_some_or_all(builds: Builds) -> None:
    for number in range(30):
        builds.write(f"d/{number:02}\x1b", "x")
        os.utime(builds.context / f"d/{number:02}\x1b", ns=(0, 1_500_000_000))
    builds.build("FROM base\nCOPY d /d")
    text = why(builds, "image,2")
    assert "  31 source files:\n    d: directory, mode 0755\n    d/00\\x1b: file, mode 0644, size 1, mtime 19" in text
    assert "    … and 21 more (-v)\n" in text
    assert why(builds, "image,2", "-v").count("size 1") == 30
    document = json.loads(why(builds, "image,2", "--json"))
    assert len(document["inputs"]["sources"]) == 31
    assert document["inputs"]["sources"][1]["mtime"] == 1_500_000_000


def test_as_json(builds: Builds) -> None:
    found = states(builds, "FROM base\nENV A=1")
    document = json.loads(why(builds, "image,2", "--json"))
    assert (document["state"], document["parent"]) == (found[2], found[1])
    assert document["recorded"]["image"] == "image:latest"
    assert document["inputs"]["parameters"] == {"variables": {"A": "1"}}
    assert document["cause"]["kind"] == "new"
    assert document["images"] == ["image:latest"]
    origin = json.loads(why(builds, "image,1", "--json"))
    assert origin["origin"]["reference"] == "base:latest"
    assert origin["parent"] is None


def test_images_that_were_built_on_a_state_have_it(builds: Builds) -> None:
    builds.build("FROM base\nENV A=1", tag="one")
    builds.build("FROM one\nENV B=1", tag="two")
    builds.build("FROM base\nENV C=1", tag="three")
    assert "in images:    one:latest, two:latest\n" in why(builds, "one,2")
    builds.build("FROM base\nENV A=2", tag="one")
    builds.chimage.run("delete", "two")
    found = builds.chimage.run("build-cache", "--tree", "--json").json()["nodes"]
    (state,) = (node["state"] for node in found if node["text"] == "ENV A='1'")
    assert "in images:    none\n" in why(builds, state)


@pytest.mark.parametrize(
    ("selector", "status", "message"),
    [
        ("abc", 2, "expected STATE or IMAGE,STEP, not 'abc'"),
        ("image", 2, "expected STATE or IMAGE,STEP, not 'image'"),
        ("image,", 2, "expected the number of a line behind the comma, not ''"),
        ("image,x", 2, "expected the number of a line behind the comma, not 'x'"),
        ("image,9", 1, "no state was made by line 9 of image\nhint: there are these: 1, 2\n"),
        ("nowhere,1", 1, "image not found: nowhere"),
        ("base,1", 1, "it is not on record how the image was built: base"),
        ("../x,1", 1, "invalid image reference"),
        ("0" * 64, 1, "no such state in the build cache: 000"),
        ("000000000000", 1, "no such state in the build cache: 000"),
    ],
)
def test_what_cannot_be_found_is_said(builds: Builds, selector: str, status: int, message: str) -> None:
    builds.build("FROM base\nENV A=1")
    result = builds.chimage.run("build-cache", "--why", selector, check=False).expect(status)
    assert message in result.stderr
    assert result.stdout == ""


def test_a_beginning_that_several_states_have_is_refused_with_their_names(builds: Builds) -> None:
    """With four digits, 400 states meet more often than not; made here by references to one commit."""
    found = states(builds, "FROM base\nENV A=1")
    references = os.path.join(builds.chimage.storage, "cache/git/refs/states")
    with open(os.path.join(references, found[2]), encoding="ascii") as file:
        commit = file.read()
    twin = found[2][:20] + ("1" if found[2][20] == "0" else "0") + found[2][21:]
    with open(os.path.join(references, twin), "w", encoding="ascii") as file:
        file.write(commit)
    result = builds.chimage.run("build-cache", "--why", found[2][:8], check=False).expect(1)
    assert f"not unique, 2 states begin with {found[2][:8]}:" in result.stderr
    assert f"  {found[2]}\n" in result.stderr
    assert f"  {twin}\n" in result.stderr


def test_without_records_the_cache_itself_still_answers(builds: Builds) -> None:
    builds.build("FROM base\nENV A=1")
    os.unlink(os.path.join(builds.chimage.storage, "cache/inputs"))
    text = why(builds, "image,2")
    assert "instruction:  ENV A='1'\n" in text
    assert "computed from: not on record\n" in text


def test_without_a_cache_there_is_nothing_to_ask(builds: Builds) -> None:
    builds.build("FROM base\nENV A=1")
    result = builds.chimage.run("build-cache", "--no-cache", "--why", "image,2", check=False).expect(1)
    assert "the build cache is disabled" in result.stderr


def test_what_garbage_collection_removed_is_told_with_its_date(builds: Builds) -> None:
    found = states(builds, "FROM base\nENV A=1")
    builds.build("FROM base\nENV A=2")
    builds.chimage.run("build-cache", "--gc")
    result = builds.chimage.run("build-cache", "--why", found[2][:10], check=False).expect(1)
    assert f"gc removed state {found[2][:12]} from the build cache on 20" in result.stderr
    assert "ENV A='1'" in result.stderr
