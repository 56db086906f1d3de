"""`build`: COPY from images of the storage directory, and from further directories."""

import os
from pathlib import Path

import pytest

from tests.support.builds import Builds, contents, marks

pytestmark = pytest.mark.userns


@pytest.fixture
def tools(builds: Builds) -> Builds:
    """Return the builds with an image `tools:1` that has a file `/opt/tool`."""
    builds.build("FROM base\nRUN mkdir /opt && echo 1 > /opt/tool && ln -s /opt/tool /opt/link", tag="tools:1")
    return builds


@pytest.mark.parametrize("options", [(), ("--no-cache",)])
def test_files_of_an_image(tools: Builds, options: tuple[str, ...]) -> None:
    tools.build("FROM base\nCOPY --from=tools:1 /opt /opt\nCOPY --from=tools:1 /opt/link /linked", *options)
    assert tools.read("opt/tool") == tools.read("linked") == "1\n"
    assert (tools.image() / "opt/link").is_symlink()


def test_an_image_that_changed_is_a_miss_that_says_so(tools: Builds) -> None:
    dockerfile = "FROM base\nCOPY --from=tools:1 /opt /opt"
    tools.build(dockerfile)
    assert marks(tools.build(dockerfile)) == "**"
    tools.build("FROM base\nRUN mkdir /opt && echo 2 > /opt/tool", tag="tools:1")
    result = tools.build(dockerfile, "--explain")
    assert marks(result) == "*."
    assert "image of --from" in result.stderr
    assert tools.read("opt/tool") == "2\n"


def test_an_image_that_is_in_the_build_cache_only_stays_there(tools: Builds) -> None:
    tools.chimage.run("build-cache", "--prune=unpacked")
    assert not tools.image("tools+1").exists()
    tools.build("FROM base\nCOPY --from=tools:1 /opt /opt")
    assert tools.read("opt/tool") == "1\n"
    assert not tools.image("tools+1").exists()
    works = Path(tools.chimage.storage, "work")
    assert os.listdir(works) == []


def test_a_variable_names_the_image(tools: Builds) -> None:
    result = tools.build("FROM base\nARG v=1\nCOPY --from=tools:$v /opt /opt")
    assert marks(result) == "*.."
    assert tools.read("opt/tool") == "1\n"
    assert "not set" not in result.stderr
    result = tools.build("FROM base\nCOPY --from=$nothing /opt /opt", check=False).expect(1)
    assert "--from is empty after substitution" in result.stderr


@pytest.mark.parametrize("options", [(), ("--no-cache",)])
def test_the_image_itself_as_it_was_before(tools: Builds, options: tuple[str, ...]) -> None:
    """What the build makes must not be what it copies from while it changes."""
    for number in (2, 3):
        tools.build(f"FROM base\nRUN mkdir /opt && echo {number} > /opt/tool", tag="tools:1")
        dockerfile = "FROM base\nRUN mkdir /opt && echo no > /opt/tool\nCOPY --from=tools:1 /opt/tool /opt/before"
        tools.build(dockerfile, *options, tag="tools:1")
        assert tools.read("opt/before", "tools+1") == f"{number}\n"


def test_a_stage_wins_over_an_image_of_its_name(tools: Builds) -> None:
    tools.build("FROM base AS tools\nRUN mkdir /opt && echo stage > /opt/tool\nFROM base\nCOPY --from=tools /opt /opt")
    assert tools.read("opt/tool") == "stage\n"


def test_links_of_the_image_do_not_lead_to_the_host(tools: Builds, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("host")
    tools.build(f"FROM base\nRUN mkdir /d && ln -s {tmp_path} /d/out && ln -s {tmp_path}/secret /d/file", tag="evil")
    for source in ("/d/file", "/d/out/secret", "/d/*/secret", "/d/fi*"):
        result = tools.build(f"FROM base\nCOPY --from=evil {source} /to/", check=False).expect(1)
        assert "not found in image evil" in result.stderr


def test_a_dry_run_finds_the_image(tools: Builds) -> None:
    dockerfile = "FROM base\nCOPY --from=tools:1 /opt /opt"
    assert marks(tools.build(dockerfile, "--dry-run")) == "*."
    tools.build(dockerfile)
    assert marks(tools.build(dockerfile, "--dry-run")) == "**"
    assert "image not found" in tools.build("FROM base\nCOPY --from=x /a /b", "-n", check=False).expect(1).stderr


def test_build_contexts(builds: Builds, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "f").write_text("one")
    (other / "log").write_text("log")
    (other / ".dockerignore").write_text("log\n.dockerignore\n")
    option = f"--build-context=Other={other}"
    dockerfile = "FROM base\nCOPY --from=other . /to"
    assert marks(builds.build(dockerfile, option)) == "*."
    assert contents(builds.image() / "to").keys() == {"f"}
    assert marks(builds.build(dockerfile, option)) == "**"
    (other / "f").write_text("two!")
    assert marks(builds.build(dockerfile, option)) == "*."
    assert builds.read("to/f") == "two!"
    (other / "link").symlink_to("/etc/passwd")
    result = builds.build("FROM base\nCOPY --from=other link /to", option, check=False).expect(1)
    assert "outside the context other" in result.stderr


@pytest.mark.parametrize("value", ["other", "=/tmp", "x=", "x=/nowhere", "7=/tmp"])
def test_build_contexts_that_make_no_sense(builds: Builds, value: str) -> None:
    result = builds.build("FROM base", f"--build-context={value}", check=False).expect(2)
    assert "--build-context" in result.stderr


def test_an_image_that_the_cache_does_not_know_yet(tools: Builds) -> None:
    """It was made without cache, and only a variable tells that it is needed."""
    tools.build("FROM base\nRUN mkdir /opt && echo new > /opt/tool", "--no-cache", tag="fresh")
    tools.build("FROM base\nARG name=fresh\nCOPY --from=$name /opt /opt")
    assert tools.read("opt/tool") == "new\n"
    tools.build("FROM base\nCOPY --from=fresh /opt /opt2")
    assert tools.read("opt2/tool") == "new\n"


def test_an_image_of_a_shared_cache_stays_where_it_is(tools: Builds, tmp_path: Path) -> None:
    mine = Builds(type(tools.chimage)(tmp_path / "mine"), tools.context)
    dockerfile = "FROM base\nCOPY --from=tools:1 /opt /opt"
    option = f"--cache-shared={tools.chimage.storage}"
    mine.build(dockerfile, option)
    assert mine.read("opt/tool") == "1\n"
    assert mine.names() == ["image:latest (amd64)"]
    assert marks(mine.build(dockerfile, option)) == "**"
