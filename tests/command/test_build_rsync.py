"""`build`: RSYNC beyond the manual's examples: options, errors, cache, and where it must not read or write."""

import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.support.builds import Builds, announced, marks, traces
from tests.support.cli import PATH

pytestmark = [pytest.mark.userns, pytest.mark.rsync]


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[[], list[str]]:
    """Put a program in front of rsync that notes how it was called; return what reads its last notes."""
    directory = tmp_path / "path"
    directory.mkdir()
    notes = tmp_path / "notes"
    wrapper = directory / "rsync"
    wrapper.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {notes}\nexec /usr/bin/env -i PATH={PATH} rsync "$@"\n')
    wrapper.chmod(0o755)
    return lambda: notes.read_text().splitlines()


def with_recorder(tmp_path: Path) -> dict[str, str]:
    return {"PATH": f"{tmp_path}/path:{PATH}"}


# How rsync is called


def test_the_translation_of_the_manual(builds: Builds, tmp_path: Path, recorded: Callable[[], list[str]]) -> None:
    for name in ("src1", "src2"):
        builds.write(name)
    builds.build("FROM base\nWORKDIR /foo\nRSYNC --stats src1 src2 dst", env=with_recorder(tmp_path))
    *words, destination = recorded()
    group = ["-@=-1", "-A", "-H", "-S", "-X", "-p", "-r", "--links", "--safe-links"]
    assert words == [*group, "--stats", "--", "src1", "src2"]
    assert destination.endswith("/foo/dst")
    assert sorted(os.listdir(builds.image() / "foo/dst")) == ["src1", "src2"]


def test_without_xattrs_nobody_asks_for_them(builds: Builds, tmp_path: Path, recorded: Callable[[], list[str]]) -> None:
    builds.write("f")
    builds.build("FROM base\nRSYNC -X --acls f /f", "--no-xattrs", env=with_recorder(tmp_path))
    assert recorded()[:-2] == ["-@=-1", "-H", "-S", "-p", "-r", "--links", "--safe-links", "--"]


def test_progress_only_on_a_terminal(builds: Builds, tmp_path: Path, recorded: Callable[[], list[str]]) -> None:
    builds.write("f", "content")
    builds.write("Dockerfile", "FROM base\nRSYNC f /f\nRSYNC +z f /g")
    ours, theirs = pty.openpty()
    shown = b""
    argv = builds.chimage.argv("build", "-t", "image", builds.context)
    with subprocess.Popen(
        argv, stderr=theirs, stdout=subprocess.DEVNULL, env=builds.chimage.environment(with_recorder(tmp_path))
    ) as process:
        os.close(theirs)
        while True:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # Nobody has the other end any more.
                break
    os.close(ours)
    assert process.returncode == 0
    assert b"100%" in shown
    assert "--info=progress2" not in recorded()  # +z
    result = builds.build("FROM base\nRSYNC f /new")
    assert "100%" not in result.stderr


def test_options_anywhere_and_names_behind_two_hyphens(builds: Builds) -> None:
    for name in ("f", "-v", "--", "d/x~"):
        builds.write(name)
    builds.build("FROM base\nRSYNC --exclude=*~ f -v d --stats /dst\nRSYNC -- -v -- /dst2")
    assert sorted(os.listdir(builds.image() / "dst")) == ["d", "f"]
    assert os.listdir(builds.image() / "dst/d") == []
    assert sorted(os.listdir(builds.image() / "dst2")) == ["--", "-v"]


def test_nsync_is_the_same(builds: Builds) -> None:
    builds.write("f", "f")
    result = builds.build("FROM base\nNSYNC f /f")
    assert announced(result)[-1] == "  2. RSYNC +l ['f'] -> '/f'"
    assert builds.read("f") == "f"
    assert marks(builds.build("FROM base\nRSYNC f /f")) == "**"


def test_variables(builds: Builds) -> None:
    builds.write("a", "a")
    builds.write("b", "b")
    builds.build("FROM base\nARG NAME=b\nENV TO=/to\nRSYNC --exclude=$NAME a $NAME ${TO}/")
    assert os.listdir(builds.image() / "to") == ["a"]


def test_a_destination_relative_to_a_directory_that_is_missing(builds: Builds) -> None:
    builds.write("f", "f")
    builds.build("FROM base\nWORKDIR /w\nRUN rmdir /w\nRSYNC f .\nRSYNC --mkpath f a/b/c/")
    assert builds.read("w/f") == "f"
    assert builds.read("w/a/b/c/f") == "f"


def test_names_that_look_like_hosts(builds: Builds) -> None:
    builds.write("h:f", "local")
    builds.build("FROM base\nRSYNC ./h:f /one\nRSYNC h* /two")
    assert (builds.read("one"), builds.read("two")) == ("local", "local")


def test_relative_names_are_those_in_the_context(builds: Builds) -> None:
    builds.write("a/b/c", "c")
    builds.build("FROM base\nRSYNC -R a/b/c /whole\nRSYNC -R /a/./b/c /part")
    assert builds.read("whole/a/b/c") == "c"
    assert builds.read("part/b/c") == "c"


def test_strange_names_and_kinds_of_files(builds: Builds) -> None:
    names = [b"new\nline", b"\xff\xfe", b"with space", b"*", b"%41", "ä".encode()]
    top = os.fsencode(builds.context / "d")
    os.mkdir(top)
    for name in names:
        with open(top + b"/" + name, "wb") as file:
            file.write(name)
    os.link(top + b"/*", top + b"/hard")
    builds.build("FROM base\nRSYNC d/ /d\nRUN ls /d")
    image = os.fsencode(builds.image() / "d")
    assert sorted(os.listdir(image)) == sorted([*names, b"hard"])
    assert os.stat(image + b"/*").st_ino == os.stat(image + b"/hard").st_ino


def test_output_as_events(builds: Builds) -> None:
    builds.write("f")
    events = builds.build("FROM base\nRSYNC -v f /f", "--json").json_lines()
    (said,) = [event["data"] for event in events if event["type"] == "output_chunk" and event["stream"] == "stdout"][:1]
    assert "f" in said


# Files that options read


def test_files_with_patterns_from_the_context_and_from_the_image(builds: Builds) -> None:
    for name in ("d/a", "d/b", "d/c", "d/e", "d/f"):
        builds.write(name)
    builds.write("rules/exclude", "a\n")
    builds.write("rules/merge", "- c\n")
    builds.build(
        "FROM base\nRUN echo b > /exclude && ln -s /exclude /link\n"
        "RSYNC --exclude-from=rules/exclude --exclude-from=/link --filter=merge_rules/merge -f=-_e d/ /d"
    )
    assert os.listdir(builds.image() / "d") == ["f"]


def test_a_list_of_names(builds: Builds) -> None:
    for name in ("d/a/b", "d/c", "d/e"):
        builds.write(name, name)
    builds.write("list", "# a comment\n/a/b\nc\n")
    builds.build("FROM base\nRSYNC --files-from=list d /d")
    assert builds.read("d/a/b") == "d/a/b"
    assert sorted(os.listdir(builds.image() / "d")) == ["a", "c"]


def test_a_changed_file_with_patterns_is_a_miss_that_is_explained(builds: Builds) -> None:
    builds.write("d/a")
    path = builds.write("exclude", "x\n")
    dockerfile = "FROM base\nRSYNC --exclude-from=exclude d /"
    builds.build(dockerfile)
    before = path.stat()
    path.write_text("a\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    result = builds.build(dockerfile, "--explain")
    assert marks(result) == "*."
    assert "content of exclude" in result.stderr
    assert os.listdir(builds.image() / "d") == []


def test_per_directory_filter_files_count_inside_the_transfer_only(builds: Builds) -> None:
    for name in ("d/a", "d/b", "d/sub/b", "d/sub/c"):
        builds.write(name)
    builds.write("d/.rsync-filter", "- a\n")
    builds.write("d/sub/.rsync-filter", "- b\n")
    builds.write(".rsync-filter", "- c\n")
    builds.build("FROM base\nRSYNC -FF d/ /d")
    assert sorted(os.listdir(builds.image() / "d")) == ["b", "sub"]
    assert os.listdir(builds.image() / "d/sub") == ["c"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--exclude-from=-", "no standard input"),
        ("--exclude-from=../secret", "outside the context"),
        ("--exclude-from=link", "outside the context"),
        ("--exclude-from=/secret", "No such file"),
        ("--exclude-from=fifo", "not a regular file"),
        ("--exclude-from=missing", "No such file"),
        ("--filter=merge_nested", "may not name another one: . /etc/passwd"),
        ("--filter=merge_link", "outside the context"),
    ],
)
def test_files_that_cannot_be_read(builds: Builds, tmp_path: Path, option: str, message: str) -> None:
    (tmp_path / "secret").write_text("secret\n")
    builds.write("d/f")
    builds.write("nested", "- x\n. /etc/passwd\n")
    (builds.context / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(builds.context / "fifo")
    result = builds.build(f"FROM base\nRSYNC {option} d /d", check=False).expect(1)
    assert message in result.stderr
    assert f"{builds.context}/Dockerfile:2: RSYNC" in result.stderr


# Errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--daemon f /f", "disallowed rsync(1) option: --daemon"),
        ("--remove-source-files f /f", "disallowed rsync(1) option: --remove-source-files"),
        ("f -n /f", "disallowed rsync(1) option: -n"),
        ("--block-size 4M f /f", "option needs a value: --block-size"),
        ("host:f /f", "other hosts are not supported: host:f"),
        ("user@host::module /f", "other hosts"),
        ("rsync://host/module /f", "other hosts"),
        ("f host:/f", "other hosts"),
        ("--nonsense f /f", "not a known option"),
    ],
)
def test_what_is_refused_is_refused_before_anything_runs(builds: Builds, words: str, message: str) -> None:
    builds.write("f")
    result = builds.build(f"FROM base\nRUN touch /ran\nRSYNC {words}", check=False).expect(1)
    assert f"  3 RSYNC: {message}" in result.stderr
    assert "RUN" not in "".join(announced(result))


@pytest.mark.parametrize("value", ["--daemon", "host:x"])
def test_what_is_refused_is_refused_from_a_variable_too(builds: Builds, value: str) -> None:
    name = value.lstrip("-")
    words = "--$X d /d" if value.startswith("-") else "$X /d"
    result = builds.build(f"FROM base\nARG X={name}\nRSYNC {words}", check=False).expect(1)
    assert "  3 RSYNC: " in result.stderr


def test_sources_that_are_missing(builds: Builds) -> None:
    builds.write("f", "f")
    for word in ("missing", "miss*", "f/", "f/x"):
        result = builds.build(f"FROM base\nRSYNC {word} /d", check=False).expect(1)
        assert f"not found in context: {word}" in result.stderr
    builds.build("FROM base\nRSYNC --ignore-missing-args missing f /d/")
    assert os.listdir(builds.image() / "d") == ["f"]


def test_without_a_context_there_is_nothing_to_copy(builds: Builds) -> None:
    result = builds.chimage.run("build", "-t", "image", "-", stdin="FROM base\nRSYNC f /", check=False).expect(1)
    assert "no context" in result.stderr


def test_a_host_without_rsync(builds: Builds, tmp_path: Path) -> None:
    """It is told at the instruction, and only if something has to be copied."""
    builds.write("f", "f")
    (tmp_path / "empty").mkdir()
    dockerfile = "FROM base\nRSYNC f /f"
    env = {"PATH": f"{tmp_path}/empty"}
    result = builds.build(dockerfile, check=False, env=env).expect(1)
    assert "the host has no rsync(1)" in result.stderr
    assert "Dockerfile:2: RSYNC" in result.stderr
    builds.build(dockerfile)
    assert marks(builds.build(dockerfile, env=env)) == "**"


def test_the_exit_status_of_rsync_is_explained(builds: Builds) -> None:
    builds.write("f", "f")
    result = builds.build("FROM base\nRSYNC f /a/b/c/", check=False).expect(1)
    assert "rsync(1) exited with 11: input/output error" in result.stderr or "exited with 3" in result.stderr
    builds.write("big", "x" * 1000)
    result = builds.build("FROM base\nRSYNC --chmod=nonsense big /big", check=False).expect(1)
    assert "rsync(1) exited with 1: wrong syntax or usage" in result.stderr
    assert not (builds.image() / "big").exists()


# Build cache


def test_hits_look_at_metadata_only(builds: Builds) -> None:
    path = builds.write("d/f", "one")
    dockerfile = "FROM base\nRSYNC d /"
    builds.build(dockerfile)
    before = path.stat()
    path.write_text("two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert marks(builds.build(dockerfile)) == "**"
    path.write_text("two")
    assert marks(builds.build(dockerfile)) == "*."
    assert builds.read("d/f") == "two"
    path.chmod(0o600)
    assert marks(builds.build(dockerfile)) == "*."


def test_options_and_umask_count(builds: Builds) -> None:
    builds.write("d/f")
    builds.build("FROM base\nRSYNC d /")
    assert marks(builds.build("FROM base\nRSYNC -t d /")) == "*."
    assert marks(builds.build("FROM base\nRSYNC +l d /")) == "**"
    assert marks(builds.build("FROM base\nRSYNC d /", "--no-xattrs")) == "*."
    before = os.umask(0o077)
    try:
        assert marks(builds.build("FROM base\nRSYNC d /")) == "*."
    finally:
        os.umask(before)


def test_what_is_copied_through_links_counts(builds: Builds, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "sub").mkdir(parents=True)
    (outside / "sub/f").write_text("one")
    (outside / "sub/up").symlink_to("..")  # A loop, for those who follow it.
    (builds.context / "d").mkdir()
    (builds.context / "d/link").symlink_to(outside / "sub")
    builds.build("FROM base\nRSYNC d /\nRSYNC +u --exclude=up d /u")
    assert not (builds.image() / "d/link").exists()
    assert builds.read("u/d/link/f") == "one"
    (outside / "sub/f").write_text("another")
    assert marks(builds.build("FROM base\nRSYNC d /\nRSYNC +u --exclude=up d /u")) == "**."
    assert builds.read("u/d/link/f") == "another"


def test_content_counts_if_asked_for(builds: Builds) -> None:
    path = builds.write("d/f", "one")
    dockerfile = "FROM base\nRSYNC d /"
    builds.build(dockerfile, "--cache-by=content")
    path.touch()
    assert marks(builds.build(dockerfile, "--cache-by=content")) == "**"


def test_later_changes_in_the_image_are_remembered(builds: Builds) -> None:
    """What the cache is told to look at is all that rsync changes: an image brought back is what it was."""
    for name in ("a/x", "a/sub/y", "b/x", "b/z"):
        builds.write(name, name)
    (builds.context / "b").chmod(0o750)
    dockerfile = (
        "FROM base\nRUN mkdir -p /d/sub && echo old > /d/x && ln /d/x /hard && echo k > /d/keep\n"
        "RSYNC a/ /d\nRSYNC -b b/ /d\nRSYNC --delete b/ /e\nRSYNC --delete a/ /e\nRSYNC -R a/sub/y /r\nRSYNC b/ /\n"
    )
    builds.build(dockerfile)
    found = _described(builds)
    assert found["d/x"][1] == "b/x"
    assert found["d/x~"][1] == "a/x"
    assert found["hard"][1] == "old\n"
    assert "e/z" not in found
    assert found["."][0] & 0o777 == 0o750
    builds.chimage.run("build-cache", "--check")
    builds.chimage.run("delete", "image")
    builds.chimage.run("undelete", "image")
    assert _described(builds) == found


def _described(builds: Builds) -> dict[str, tuple[int, str, int]]:
    top = builds.image()
    found = {}
    for path in [top, *(path for path in top.rglob("*") if not path.is_relative_to(top / "ch"))]:
        status = path.lstat()
        content = path.read_text() if path.is_file() and path.name != "busybox" and not path.is_symlink() else ""
        found[str(path.relative_to(top))] = (status.st_mode, content, status.st_mtime_ns if content else 0)
    return found


# Staying inside


@pytest.mark.parametrize("source", ["../secret", "/../secret", "d/../../secret", "link/", "link/secret", "l*/"])
def test_nothing_outside_the_context_is_a_source(builds: Builds, tmp_path: Path, source: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    (tmp_path / "secret").write_text("secret")
    builds.write("d/f")
    (builds.context / "link").symlink_to("../outside")
    result = builds.build(f"FROM base\nRSYNC {source} /stolen", check=False).expect(1)
    assert "outside the context" in result.stderr
    assert not (builds.image() / "stolen").exists()


def test_a_list_of_names_does_not_lead_out_of_the_context(builds: Builds, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    (builds.context / "link").symlink_to("../outside")
    builds.write("list", "link/secret\n")
    result = builds.build("FROM base\nRSYNC --files-from=list . /d", check=False).expect(1)
    assert "outside the context: link/secret" in result.stderr


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return a directory of the host that links of images lead to."""
    path = tmp_path / "outside"
    (path / "d").mkdir(parents=True)
    (path / "d/mine").write_text("mine")
    return path


@pytest.mark.parametrize(
    "instruction",
    [
        "RSYNC d /link",
        "RSYNC d/ /link/",
        "RSYNC d/f /link/d/f",
        "RSYNC d/f /link/d/new/",
        "RSYNC --delete d/ /link/d",
        "RSYNC --mkpath d /link/a/b/",
        "RSYNC d/ /up",
        "RSYNC d /holds",
        "RSYNC --existing d /holds",
        "RSYNC -b d /holds",
        "RSYNC --inplace d /holds",
        "RSYNC --delete --force d /holds",
        "RSYNC -R d/f /holds",
        "RSYNC -K d /holds",
        "RSYNC -rK --no-safe-links d/ /holds/d",
        "RSYNC -K deep /holds",
        "RSYNC --ignore-existing d /holds",
        "RSYNC -R --no-implied-dirs d/f /holds",
        "RSYNC --files-from=list --no-implied-dirs . /holds",
        "RSYNC --files-from=list --ignore-existing . /holds",
        "RSYNC d/f /file",
        "RSYNC --inplace d/f /file",
        "RSYNC --append d/f /file",
    ],
)
def test_nothing_is_written_outside_the_image(builds: Builds, outside: Path, instruction: str) -> None:
    """Whether it is an error, or goes to a path of that name in the image."""
    for name in ("d/f", "d/mine", "deep/d/f"):
        builds.write(name, "from the context")
    builds.write("list", "d/f\n")
    prepare = (
        f"mkdir -p /holds/deep && ln -s {outside} /link && ln -s {'../' * 20}{outside} /up"
        f" && ln -s {outside}/d /holds/d && ln -s {outside}/d /holds/deep/d && ln -s {outside}/d/mine /file"
    )
    before = traces(outside)
    result = builds.build(f"FROM base\nRUN {prepare}\n{instruction}", check=False)
    assert traces(outside) == before
    assert result.status in (0, 1)


@pytest.mark.parametrize("option", ["-K", "--ignore-existing -K"])
def test_links_that_stay_inside_can_be_kept(builds: Builds, option: str) -> None:
    """What `--keep-dirlinks` is for: images whose /lib is a link to usr/lib."""
    builds.write("tree/lib/f", "f")
    builds.write("tree/var/run/g", "g")
    builds.build(f"FROM base\nRUN mkdir -p /usr/lib /var/run && ln -s usr/lib /lib\nRSYNC {option} tree/ /")
    assert (builds.image() / "lib").is_symlink()
    assert builds.read("usr/lib/f") == "f"


def test_a_kept_link_that_leads_elsewhere_on_the_host_is_an_error(builds: Builds, outside: Path) -> None:
    builds.write("tree/lib/f", "f")
    dockerfile = f"FROM base\nRUN mkdir -p {outside} && ln -s {outside} /lib\nRSYNC -K tree/ /"
    result = builds.build(dockerfile, check=False).expect(1)
    assert f"would leave the image by its link /lib -> {outside}" in result.stderr
    builds.build(dockerfile.replace("-K", ""))
    assert not (builds.image() / "lib").is_symlink()


def test_the_storage_directory_is_not_copied_into_itself(builds: Builds) -> None:
    storage = builds.context / "storage"
    builds.chimage.run("import", builds.image("base+latest"), "base", env={"CH_IMAGE_STORAGE": str(storage)})
    result = builds.build("FROM base\nRSYNC . /all", "--storage", str(storage), check=False).expect(1)
    assert "the storage directory is inside the source" in result.stderr


@pytest.mark.parametrize("options", ["--inplace", "--append", "-t", ""])
def test_files_that_images_share_with_the_cache_are_not_written_to(builds: Builds, options: str) -> None:
    """Large files are hard links to the store of large files: other images have them, too.

    With `-t`, rsync takes the file for up to date, and changes its mode only.
    """
    content = Random(1).randbytes(512 << 10)
    path = builds.write("f")
    path.write_bytes(content)
    other = builds.write("g", mode=0o600)
    other.write_bytes(content[::-1] if options == "-t" else content[::-1] + b"more")
    os.utime(other, ns=(0, path.stat().st_mtime_ns))
    first = "FROM base\nCOPY f /d/f\n"
    builds.build(first, tag="one")
    builds.chimage.run("delete", "one")
    builds.chimage.run("undelete", "one")
    image = builds.image("one+latest") / "d/f"
    if image.stat().st_nlink == 1:
        pytest.skip("nothing is shared here")
    builds.build(f"{first}RSYNC {options} g /d/f", tag="two")
    assert image.read_bytes() == content
    assert image.stat().st_mode & 0o777 == 0o644
    builds.chimage.run("build-cache", "--check")


def test_extended_attributes_are_kept_unless_told_otherwise(builds: Builds) -> None:
    path = builds.write("f")
    try:
        os.setxattr(path, "user.note", b"1")
    except OSError:
        pytest.skip("file system without user xattrs")
    builds.build("FROM base\nRSYNC f /f")
    assert os.getxattr(builds.image() / "f", "user.note") == b"1"
    builds.build("FROM base\nRSYNC f /f", "--no-xattrs")
    assert os.listxattr(builds.image() / "f") == []
