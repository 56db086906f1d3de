"""`build`: where the Dockerfile comes from, what the image is called, and looking without doing."""

import os
import shutil
from pathlib import Path

import pytest

from tests.support.builds import Builds, announced, marks, traces
from tests.support.cli import Chimage

HELLO = "FROM base\nRUN echo hello > /hello"


# The Dockerfile


@pytest.mark.userns
def test_a_dockerfile_elsewhere(builds: Builds, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("FROM base\nCOPY f /f")
    builds.write("f", "f")
    builds.write("Dockerfile", "FROM nowhere")
    builds.chimage.run("build", "-t", "image", "-f", tmp_path / "other", builds.context)
    assert builds.read("f") == "f"


@pytest.mark.userns
def test_a_dockerfile_from_stdin_with_a_context(builds: Builds) -> None:
    builds.write("f", "f")
    builds.chimage.run("build", "-t", "image", "-f", "-", builds.context, stdin="FROM base\nCOPY f /f")
    assert builds.read("f") == "f"


@pytest.mark.userns
def test_a_dockerfile_from_stdin_without_a_context(builds: Builds) -> None:
    builds.chimage.run("build", "-t", "image", "-", stdin=HELLO)
    assert builds.read("hello") == "hello\n"


def test_a_dockerfile_file_and_no_context_do_not_go_together(builds: Builds) -> None:
    result = builds.chimage.run("build", "-t", "image", "-f", "x", "-", check=False).expect(2)
    assert "--file" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "named"),
    [
        (["{context}"], 1, "{context}/Dockerfile"),
        (["-f", "/no/such/file", "{context}"], 1, "/no/such/file"),
        (["/no/such/context"], 1, "/no/such/context"),
        (["{context}/file"], 1, "{context}/file"),
    ],
)
def test_what_is_missing_is_named(
    builds: Builds, tmp_path: Path, arguments: list[str], status: int, named: str
) -> None:
    builds.write("file")
    words = [word.format(context=builds.context) for word in arguments]
    result = builds.chimage.run("build", "-t", "image", *words, check=False).expect(status)
    assert named.format(context=builds.context) in result.stderr
    assert "Traceback" not in result.stderr


def test_syntax_errors_are_all_shown_with_their_places(chimage: Chimage, storage: Path, tmp_path: Path) -> None:
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM base\nRUM ls\nENV\n  COPY x\n")
    result = chimage.run("build", tmp_path, check=False).expect(1)
    for line in (2, 3, 4):
        assert f"can’t parse: {dockerfile}:{line}," in result.stderr
    assert "^" in result.stderr
    assert not storage.exists()


# The name


@pytest.mark.parametrize(
    ("file", "directory", "name"),
    [
        ("Dockerfile", "Some.@Project_1", "some.project_1"),
        ("Dockerfile.@FOO.bar", "c", "foo.bar"),
        ("baz.@QUX.dockerfile", "c", "baz.qux"),
        ("tool.df", "c", "tool"),
    ],
)
def test_the_name_is_inferred(builds: Builds, tmp_path: Path, file: str, directory: str, name: str) -> None:
    """The examples of the manual."""
    context = tmp_path / directory
    context.mkdir()
    (context / file).write_text("FROM base")
    result = builds.chimage.run("build", "-f", context / file, context)
    assert result.stderr.endswith(f"grown in 1 instructions: {name}\n")
    assert builds.image(f"{name}+latest").is_dir()


def test_a_relative_context_has_a_name_too(builds: Builds) -> None:
    builds.write("Dockerfile", "FROM base")
    builds.chimage.run("build", ".", cwd=builds.context)
    assert builds.image("context+latest").is_dir()


@pytest.mark.parametrize("tag", ["foo", "foo:latest"])
def test_a_name_without_tag_is_latest(builds: Builds, tag: str) -> None:
    builds.build("FROM base", tag=tag)
    assert "foo:latest (amd64)" in builds.names()
    assert os.readlink(builds.image("foo")) == "foo+latest"


@pytest.mark.parametrize("tag", ["Foo", "a b", "..", "foo:", "-t", "\x1b[31mred"])
def test_a_bad_name_is_refused_before_anything_is_done(builds: Builds, tag: str) -> None:
    before = traces(builds.chimage.storage)
    result = builds.build("FROM base", tag=tag, check=False)
    assert result.status in (1, 2)
    assert "\x1b" not in result.stderr
    assert {path for path in traces(builds.chimage.storage) if "/img" in path} == {p for p in before if "/img" in p}


# Looking without doing


def test_a_dry_run_changes_nothing_at_all(builds: Builds, tmp_path: Path) -> None:
    builds.write("f")
    dockerfile = "FROM base AS one\nRUN touch /a\nFROM base\nCOPY --from=one /a /a\nCOPY f /\nWORKDIR /w\nRUN echo out"
    before = traces(builds.chimage.storage)
    for options in ((), ("--no-cache",), ("--rebuild",)):
        result = builds.build(dockerfile, "--dry-run", *options)
        assert result.stdout == ""
        assert marks(result).replace("*", ".") == "......."
        assert "grown" not in result.stderr
    assert traces(builds.chimage.storage) == before


@pytest.mark.userns
def test_a_dry_run_tells_hits_from_misses(builds: Builds) -> None:
    builds.build(HELLO)
    before = traces(builds.chimage.storage)
    assert marks(builds.build(f"{HELLO}\nRUN echo more", "-n")) == "**."
    assert traces(builds.chimage.storage) == before


@pytest.mark.userns
def test_a_dry_run_on_an_image_that_the_cache_does_not_know(builds: Builds) -> None:
    builds.build(HELLO, "--no-cache", tag="new")
    before = traces(builds.chimage.storage)
    assert marks(builds.build("FROM new\nRUN true", "-n")) == ".."
    assert traces(builds.chimage.storage) == before


def test_a_dry_run_makes_no_storage_directory(chimage: Chimage, storage: Path, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nENV A=1")
    assert marks(chimage.run("build", "--dry-run", "-t", "foo", tmp_path)) == "*."
    assert not storage.exists()


def test_a_dry_run_finds_mistakes(builds: Builds) -> None:
    for dockerfile in ("FROM nowhere", "FROM base\nCOPY nothing /", "FROM base\nENV =1"):
        builds.build(dockerfile, "-n", check=False).expect(1)


def test_the_parse_as_text_touches_nothing(chimage: Chimage, storage: Path, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("# syntax=x\nFROM base\nRUN a && \\\n  b\nCOPY --from=0 a b /c/\n")
    result = chimage.run("build", "--parse-only", tmp_path)
    assert "RUN" in result.stdout
    assert result.stderr == ""
    assert not storage.exists()
    assert not Path(chimage.run("gestalt", "storage-path").stdout.strip()).exists()


def test_the_parse_as_json(chimage: Chimage, storage: Path, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        "# escape=\\\nARG A=1 B\nFROM --platform=x base AS Name\nRUN --mount=type=tmpfs,target=/t a && \\\n  b\n"
        'RUN ["x", "y"]\nCOPY <<E f /d/\nbody\nE\nENV a=1 b="2"\n'
    )
    document = chimage.run("build", "--parse-only", "--json", tmp_path).json()
    assert document["directives"] == {"escape": "\\"}
    arg, from_, shell, exec_, copy, env = document["instructions"]
    assert arg == {"name": "ARG", "line": 2, "end": 2, "options": {}, "args": [["A", "1"], ["B", None]]}
    assert (from_["image"], from_["alias"], from_["options"]) == ("base", "name", {"platform": "x"})
    assert (shell["form"], shell["line"], shell["end"]) == ("shell", 4, 5)
    assert shell["options"] == {"mount": ["type=tmpfs,target=/t"]}
    assert (exec_["form"], exec_["argv"]) == ("exec", ["x", "y"])
    assert (copy["sources"], copy["dest"]) == (["f"], "/d/")
    assert copy["heredocs"] == [{"name": "E", "expand": True, "strip_tabs": False, "body": "body\n"}]
    assert env["pairs"] == [["a", "1"], ["b", '"2"']]
    assert not storage.exists()


def test_a_parse_that_fails_prints_nothing_on_stdout(chimage: Chimage, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM\n")
    for options in ((), ("--json",)):
        result = chimage.run("build", "--parse-only", *options, tmp_path, check=False).expect(1)
        assert result.stdout == "" or options


@pytest.mark.userns
def test_the_context_may_be_read_only_and_is_never_written(builds: Builds) -> None:
    builds.write("d/f", "f")
    builds.write("Dockerfile", "FROM base\nCOPY d /d\nRUN rm -r /d")
    for path in (builds.context / "d", builds.context):
        path.chmod(0o500)
    before = traces(builds.context)
    try:
        builds.chimage.run("build", "-t", "image", builds.context)
        assert traces(builds.context) == before
    finally:
        builds.context.chmod(0o700)
        (builds.context / "d").chmod(0o700)


def test_the_announcement_of_a_dry_run_has_the_usual_shape(builds: Builds) -> None:
    assert announced(builds.build(HELLO, "-n")) == ["  1* FROM base", "  2. RUN.S echo hello > /hello"]


@pytest.mark.userns
def test_a_dockerfile_with_dos_line_ends(builds: Builds) -> None:
    builds.build(HELLO.replace("\n", "\r\n") + "\r\n")
    assert shutil.which("true")
    assert builds.read("hello").strip() == "hello"
