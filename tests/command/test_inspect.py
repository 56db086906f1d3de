"""`inspect`: what is known of an image, for people and for scripts."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.builds import Builds
from tests.support.cli import Chimage

DOCKERFILE = """FROM base
ARG SIZE=3
ENV A="b c"
LABEL kind=test
WORKDIR /work
CMD ["run", "it now"]
"""


@pytest.fixture
def built(builds: Builds) -> Builds:
    builds.build(DOCKERFILE)
    return builds


def inspected(builds: Builds, name: str = "image") -> dict[str, Any]:
    return builds.chimage.run("--json", "inspect", name).json_lines()[-1]


def test_the_text(built: Builds, busybox: Path) -> None:
    text = built.chimage.run("inspect", "image").stdout
    rows = dict(line.split(":", 1) for line in text.splitlines() if ":" in line[:15])
    assert rows["image"].strip() == "image:latest"
    assert rows["architecture"].strip() == "amd64"
    assert rows["directory"].strip() == str(built.image())
    assert rows["base"].strip() == "base:latest"
    assert rows["from"].strip().startswith(f"{busybox}, 20")
    assert rows["workdir"].strip() == "/work"
    assert rows["command"].strip() == "run 'it now'"
    assert "A=b c" in text
    states = text.partition("states:\n")[2].splitlines()
    assert [line.split("  ", 3)[3].split("  ")[0] for line in states] == [
        "IMPORT base",
        *("ARG SIZE='3'", "ENV A='b c'", "LABEL kind='test'", "WORKDIR /work", 'CMD ["run", "it now"]'),
    ]
    assert states[0].endswith("(base)")
    assert states[-1].endswith("(image)")


def test_the_document(built: Builds) -> None:
    found = inspected(built)
    assert found["config"] == built.metadata()
    assert found["image"]["state"] == found["states"][-1]["state"]
    assert found["states"][-1]["images"] == ["image"]
    assert found["base"] == "base:latest"
    assert found["is_changed"] is False
    assert found["digest"] is None
    files = [path for path in built.image().rglob("*") if not path.is_dir() or path.is_symlink()]
    assert found["size"]["files"] == len(files)
    sizes = {(path.lstat().st_ino, path.lstat().st_size) for path in files if not path.is_symlink()}
    assert found["size"]["bytes"] == sum(size for _, size in sizes)


def test_an_image_that_has_no_directory(built: Builds) -> None:
    before = inspected(built)
    built.chimage.run("build-cache", "--prune=unpacked")
    after = inspected(built)
    assert (after["size"], after["image"]["is_unpacked"]) == (None, False)
    assert (after["config"], after["states"]) == (before["config"], before["states"])
    assert "not unpacked" in built.chimage.run("inspect", "image").stdout


def test_a_directory_that_somebody_changed(built: Builds) -> None:
    """The notes beside it are what tells; here they are lost."""
    for note in (Path(built.chimage.storage) / "img.d/image+latest").iterdir():
        note.unlink()
    assert inspected(built)["is_changed"] is True
    assert "may have been changed" in built.chimage.run("inspect", "image").stdout


def test_an_image_that_is_not_in_the_build_cache(chimage: Chimage, busybox: Path) -> None:
    chimage.run("--no-cache", "import", busybox, "foo")
    found = chimage.run("--json", "inspect", "foo").json_lines()[-1]
    assert (found["states"], found["base"], found["is_changed"]) == ([], None, False)
    assert "not in the build cache" in chimage.run("inspect", "foo").stdout


def test_nothing_reaches_the_terminal_raw(builds: Builds) -> None:
    builds.build('FROM base\nENV A="\x1b[2J"\nLABEL l="\u202e"')
    text = builds.chimage.run("inspect", "image").stdout
    assert "\\x1b[2J" in text
    assert not {"\x1b", "\u202e"} & set(text)


def test_what_is_not_there_is_one_error(chimage: Chimage, storage: Path) -> None:
    result = chimage.run("inspect", "nothing", check=False).expect(1)
    assert "image not found: nothing" in result.stderr
    assert not storage.exists()
