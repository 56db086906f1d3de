"""`build`: COPY of ordinary files and directories, from the context and from earlier stages."""

import contextlib
import os
import socket
from pathlib import Path

import pytest

from tests.support.builds import Builds, announced, contents, marks

pytestmark = pytest.mark.userns


def test_a_file_to_a_path_into_a_directory_and_into_the_working_directory(builds: Builds) -> None:
    builds.write("f", "content\n", mode=0o750)
    builds.build("FROM base\nWORKDIR /w\nCOPY f /new/name\nCOPY f /etc/\nCOPY f /etc/motd\nCOPY f .\nCOPY /f sub/")
    for path in ("new/name", "etc/f", "etc/motd", "w/f", "w/sub/f"):
        assert builds.read(path) == "content\n"
        assert (builds.image() / path).stat().st_mode & 0o7777 == 0o750


def test_of_a_directory_the_content_is_copied(builds: Builds) -> None:
    builds.write("d/a", "a")
    builds.write("d/sub/b", "b", mode=0o600)
    (builds.context / "d/link").symlink_to("sub/b")
    builds.build("FROM base\nCOPY d /target\nCOPY d /etc")
    expected = contents(builds.context / "d")
    assert contents(builds.image() / "target") == expected
    assert expected.items() <= contents(builds.image() / "etc").items()
    assert builds.read("etc/passwd").startswith("root:")


@pytest.mark.parametrize("instruction", ["COPY", "ADD"])
def test_an_empty_source_is_everything_and_gets_a_warning(builds: Builds, instruction: str) -> None:
    builds.write("f", "content")
    result = builds.build(f"ARG NONE=\nFROM base\n{instruction} $NONE /all/")
    assert f"Dockerfile:3: {instruction}: a source is empty after substitution: everything is copied" in result.stderr
    assert set(os.listdir(builds.image() / "all")) == {"Dockerfile", "f"}


def test_several_sources_and_wildcards_go_into_a_directory(builds: Builds) -> None:
    for name in ("a.c", "b.c", "c.h", "d/e.c"):
        builds.write(name, name)
    builds.build('FROM base\nCOPY *.c c.h /src\nCOPY ["[ab].c", "*/e.?", "/json/"]')
    assert sorted(os.listdir(builds.image() / "src")) == ["a.c", "b.c", "c.h"]
    assert sorted(os.listdir(builds.image() / "json")) == ["a.c", "b.c", "e.c"]


def test_the_whole_context(builds: Builds) -> None:
    builds.write("a", "a")
    builds.build("FROM base\nCOPY . /all")
    assert sorted(os.listdir(builds.image() / "all")) == ["Dockerfile", "a"]


@pytest.mark.parametrize("source", ["from=0", "from=one", "from=ONE"])
def test_from_an_earlier_stage(builds: Builds, source: str) -> None:
    builds.build(f"FROM base AS one\nRUN echo made > /made\nFROM scratch\nCOPY --{source} /made /made")
    assert builds.read("made") == "made\n"


def test_a_stage_has_no_files_outside_of_itself(builds: Builds, tmp_path: Path) -> None:
    """A link of the image means a path in the image, also if such a path exists on the host."""
    (tmp_path / "secret").write_text("host")
    dockerfile = (
        f"FROM base\nRUN ln -s {tmp_path}/secret /absolute && ln -s {'../' * 9}{tmp_path}/secret /relative\n"
        "FROM base\nCOPY --from=0 {} /stolen"
    )
    for name in ("/absolute", "/relative", f"/..{tmp_path}/secret"):
        result = builds.build(dockerfile.replace("{}", name), check=False).expect(1)
        assert "not found in stage 0" in result.stderr or "outside the stage 0" in result.stderr
    assert not (builds.image() / "stolen").exists()


def test_a_copy_through_a_link_of_the_image_stays_inside(builds: Builds, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    builds.write("f", "f")
    builds.build(f"FROM base\nRUN ln -s {tmp_path}/outside /link\nCOPY f /link/\nCOPY f /link/g")
    assert os.listdir(tmp_path / "outside") == []
    assert builds.read(f"{tmp_path}/outside/g") == "f"


@pytest.mark.parametrize("source", ["../f", "/../f", "d/../../f", "link", "link/f"])
def test_nothing_outside_the_context_can_be_copied(builds: Builds, tmp_path: Path, source: str) -> None:
    (tmp_path / "f").write_text("outside")
    builds.write("d/file")
    (builds.context / "link").symlink_to("..")
    result = builds.build(f"FROM base\nCOPY {source} /f", check=False).expect(1)
    assert "outside the context" in result.stderr
    assert builds.names() == ["base:latest (amd64)"]


def test_what_is_not_there_is_an_error(builds: Builds) -> None:
    for source in ("nothing", "nothing*", "--from=7 /x"):
        result = builds.build(f"FROM base\nCOPY {source} /", check=False).expect(1)
        assert "COPY" in result.stderr
        assert result.stderr.count("error:") == 1


def test_without_a_context_there_is_nothing_to_copy(builds: Builds) -> None:
    result = builds.chimage.run("build", "-t", "image", "-", stdin="FROM base\nCOPY f /", check=False).expect(1)
    assert "no context" in result.stderr


def test_a_directory_in_the_way_of_a_file_is_an_error_and_not_deleted(builds: Builds) -> None:
    builds.write("f")
    result = builds.build("FROM base\nRUN mkdir -p /x/f && touch /x/f/keep\nCOPY f /x/", check=False).expect(1)
    assert "directory" in result.stderr


def test_chown_is_ignored_with_a_warning(builds: Builds) -> None:
    builds.write("f", "f")
    result = builds.build("FROM base\nCOPY --chown=nobody:nobody f /f")
    assert builds.read("f") == "f"
    assert "not supported, ignored: COPY --chown" in result.stderr


def test_replacing_a_file_leaves_its_other_names_alone(builds: Builds) -> None:
    """COPY replaces a file; it does not write through a hard link."""
    builds.write("f", "new")
    builds.build("FROM base\nRUN echo old > /one && ln /one /two\nCOPY f /one")
    assert (builds.read("one"), builds.read("two")) == ("new", "old\n")


def test_unchanged_sources_hit_wherever_the_context_is(builds: Builds, tmp_path: Path) -> None:
    builds.write("d/f", "f")
    builds.build("FROM base\nCOPY d /d\nRUN true")
    builds.context.rename(tmp_path / "moved")
    moved = Builds(builds.chimage, tmp_path / "moved")
    assert marks(moved.build("FROM base\nCOPY d /d\nRUN true")) == "***"


@pytest.mark.parametrize("change", ["content", "mode", "name", "mtime", "new file", "link"])
def test_changed_sources_miss_and_the_new_ones_are_copied(builds: Builds, change: str) -> None:
    file = builds.write("d/f", "f")
    (builds.context / "d/link").symlink_to("f")
    dockerfile = "FROM base\nRUN true\nCOPY d /d\nRUN ls /d"
    builds.build(dockerfile)
    match change:
        case "content":
            file.write_text("other")
        case "mode":
            file.chmod(0o700)
        case "name":
            file.rename(file.with_name("g"))
        case "mtime":
            os.utime(file, ns=(0, 1))
        case "new file":
            builds.write("d/g")
        case "link":
            (builds.context / "d/link").unlink()
            (builds.context / "d/link").symlink_to("nowhere")
    assert marks(builds.build(dockerfile)) == "**.."
    assert contents(builds.image() / "d") == contents(builds.context / "d")


def test_a_changed_earlier_stage_misses(builds: Builds) -> None:
    dockerfile = "FROM base AS one\nRUN echo {} > /made\nFROM base\nCOPY --from=one /made /made"
    builds.build(dockerfile.format(1))
    result = builds.build(dockerfile.format(2))
    assert marks(result) == "*.*."
    assert builds.read("made") == "2\n"
    assert announced(result)[3] == "  4. COPY ['/made'] -> '/made'"


def test_names_that_are_not_utf8(builds: Builds) -> None:
    """ch-image ends with a traceback."""
    folder = os.fsencode(builds.context / "d")
    os.mkdir(folder)
    with open(folder + b"/caf\xe9", "wb") as file:
        file.write(b"x")
    result = builds.build("FROM base\nCOPY d /d\nCOPY d/caf* /e/")
    assert (
        os.listdir(os.fsencode(builds.image() / "d")) == os.listdir(os.fsencode(builds.image() / "e")) == [b"caf\xe9"]
    )
    assert marks(result) == "*.."
    assert marks(builds.build("FROM base\nCOPY d /d\nCOPY d/caf* /e/")) == "***"


def test_git_names_in_the_image(builds: Builds) -> None:
    """The cache is a Git repository, which must be of no concern to the image: these names end a build of ch-image."""
    for name in (".git/config", ".Git", "git~1", ".gitignore", "sub/.git/HEAD", "a\\.git\\b"):
        builds.write(f"d/{name}", name)
    builds.write("d/.gitignore", "*\n")
    builds.build("FROM base\nCOPY d /d\nRUN touch /d/more", env={"GIT_DIR": "/nowhere", "GIT_WORK_TREE": "/nowhere"})
    builds.chimage.run("delete", "image")
    assert marks(builds.build("FROM base\nCOPY d /d\nRUN touch /d/more")) == "***"
    found = contents(builds.image() / "d")
    assert found.pop("more")
    assert found == contents(builds.context / "d")


@pytest.mark.parametrize("mode", ["000", "555"])
def test_directories_that_a_run_took_the_permissions_from(builds: Builds, mode: str) -> None:
    """`/` of some distributions is 0555, which is nothing to a real root."""
    builds.write("f", "f")
    try:
        builds.build(
            f"FROM base\nRUN mkdir -p /a/b/c && chmod {mode} /a/b/c /a/b && chmod 555 /\n"
            "COPY f /a/b/c/\nCOPY . /a/b/c/d\nWORKDIR /a/b/w\nCOPY f /top\n"
            "RUN cat /a/b/c/f /a/b/c/d/f /top > /root/seen"
        )
        assert builds.read("root/seen") == "fff"
        assert (builds.image() / "a/b").stat().st_mode & 0o777 == int(mode, 8)
        (builds.image() / "a/b").chmod(0o700)
        assert (builds.image() / "a/b/w").is_dir()
    finally:
        builds.chimage.run("reset")  # pytest cannot remove such directories.


def test_a_link_at_the_destination_is_followed_to_where_nothing_is_yet(builds: Builds, tmp_path: Path) -> None:
    builds.write("f", "content\n")
    elsewhere = tmp_path / "elsewhere"
    builds.build(f"FROM base\nRUN ln -s {elsewhere}/new /link\nCOPY f /link")
    assert builds.read(f"{elsewhere}/new") == "content\n"
    assert not elsewhere.exists()


def test_an_unreadable_directory_of_the_context_is_named(builds: Builds) -> None:
    """And not the context that it is somewhere in."""
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    builds.write("d/closed/f")
    (builds.context / "d/closed").chmod(0)
    try:
        result = builds.build("FROM base\nCOPY . /all", check=False).expect(1)
    finally:
        (builds.context / "d/closed").chmod(0o755)
    assert f"error: can't read: {builds.context}/d/closed: Permission denied\n" in result.stderr


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ("COPY --from=nope /a /b", "image not found in storage directory: nope"),
        ("COPY --from=nope /a /b", "no earlier stage and no --build-context is called nope"),
        ("COPY --from=Bad%Name /a /b", "invalid image reference"),
        ("COPY --from=7 /a /b", "--from=7: no such stage"),
        ("COPY --from=1 /a /b", "--from=1: the stage that this instruction is in"),
        ("COPY --from=TWO /a /b", "--from=TWO: the stage that this instruction is in"),
        ("COPY --from=late /a /b\nFROM base AS late", "--from=late: a later stage"),
        ("COPY --exclude=[a Dockerfile /b", "--exclude: bad pattern: [a: no “]” for “[”"),
        ("COPY --chmod=u+rwX,q=r Dockerfile /b", "COPY: --chmod: neither octal (755) nor symbolic"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is(builds: Builds, last: str, message: str) -> None:
    """An hour of building may be before it."""
    result = builds.build(f"FROM base AS one\nRUN echo done\nFROM one AS two\n{last}", check=False).expect(1)
    assert message in result.stderr
    assert "Dockerfile:4: " in result.stderr
    assert result.stdout == ""
    assert marks(result) == ""


def test_sockets_are_left_out_and_named(builds: Builds) -> None:
    """Nobody could answer on a copy; but nothing is left out silently."""
    builds.write("d/file", "x")
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(builds.context):
        server.bind("d/sock")
    result = builds.build("FROM base\nCOPY d /d")
    assert "warning: sockets left out of d: sock" in result.stderr
    assert sorted(os.listdir(builds.image() / "d")) == ["file"]
