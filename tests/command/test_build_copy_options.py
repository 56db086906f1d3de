"""`build`: the options of COPY, and here-documents as sources."""

import os
from pathlib import Path

import pytest

from tests.support.builds import Builds, contents, marks

pytestmark = pytest.mark.userns


def modes(root: Path) -> dict[str, str]:
    return {path: f"{mode:o}" for path, (_, mode, _) in contents(root).items()}


@pytest.mark.parametrize(
    ("chmod", "directory", "program", "data"),
    [
        ("755", "755", "755", "755"),
        ("0640", "640", "640", "640"),
        ("u+rwX,go=", "700", "700", "600"),
        ("a=rX", "555", "555", "444"),
        ("go-rwx", "700", "700", "600"),
        ("+x", "755", "755", "755"),
        ("g=u,o=", "770", "770", "660"),
    ],
)
def test_chmod_is_of_all_that_is_copied(builds: Builds, chmod: str, directory: str, program: str, data: str) -> None:
    """And of nothing else: neither the destination nor what is there already."""
    builds.write("d/sub/program", mode=0o755)
    builds.write("d/data")
    builds.build(f"FROM base\nRUN mkdir -m 711 /x && touch /x/old && chmod 604 /x/old\nCOPY --chmod={chmod} d /x")
    found = {"sub": directory, "sub/program": program, "data": data, "old": "604"}
    image = builds.image() / "x"
    try:
        assert f"{image.stat().st_mode & 0o7777:o}" == "711"
        assert f"{(image / 'sub').stat().st_mode & 0o7777:o}" == directory
        (image / "sub").chmod(0o700)
        assert {**modes(image), "sub": directory} == found
    finally:
        builds.chimage.run("reset")


def test_chmod_of_a_file_and_from_a_variable(builds: Builds) -> None:
    builds.write("f", mode=0o600)
    dockerfile = "FROM base\nARG mode=4711\nCOPY --chmod=$mode f /f"
    builds.build(dockerfile)
    assert (builds.image() / "f").stat().st_mode & 0o7777 == 0o4711
    assert marks(builds.build(dockerfile)) == "***"
    result = builds.build("FROM base\nARG mode=4711\nCOPY --chmod=711 f /f", "--explain")
    assert marks(result) == "**."
    assert "--chmod" in result.stderr
    assert (builds.image() / "f").stat().st_mode & 0o7777 == 0o711
    result = builds.build("FROM base\nARG mode=rwx\nCOPY --chmod=$mode f /f", check=False).expect(1)
    assert "3 COPY: --chmod: neither octal" in result.stderr


def test_link_does_not_follow_links_of_the_image(builds: Builds, tmp_path: Path) -> None:
    builds.write("f", "new")
    setup = "FROM base\nRUN mkdir /real /real/sub && echo old > /real/f && ln -s real /link && ln -s real/f /file\n"
    builds.build(setup + "COPY f /link/\nCOPY f /file")
    assert (builds.read("real/f"), (builds.image() / "link").is_symlink()) == ("new", True)
    builds.build(setup + "COPY --link f /link/\nCOPY --link=true f /file\nCOPY --link f /real/sub/\nRUN ls -la / /real")
    assert not (builds.image() / "link").is_symlink()
    assert builds.read("link/f") == builds.read("file") == builds.read("real/sub/f") == "new"
    assert not (builds.image() / "file").is_symlink()
    assert builds.read("real/f") == "old\n"
    builds.chimage.run("delete", "image")
    result = builds.build(
        setup + "COPY --link f /link/\nCOPY --link=true f /file\nCOPY --link f /real/sub/\nRUN ls -la / /real"
    )
    assert marks(result) == "******"
    assert not (builds.image() / "link").is_symlink()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x/a.txt y/a.txt", ["x", "x/a.txt", "y", "y/a.txt"]),
        ("./x/a.txt", ["x", "x/a.txt"]),
        ("x/./sub/*.txt", ["sub", "sub/b.txt"]),
        ("/x/./a.txt", ["a.txt"]),
        ("x", ["x", "x/.hidden.txt", "x/a.txt", "x/sub", "x/sub/b.txt", "x/sub/c.md"]),
        ("**/*.txt", ["x", "x/a.txt", "x/sub", "x/sub/b.txt", "y", "y/a.txt"]),
        ("x/**/*.txt", ["x", "x/a.txt", "x/sub", "x/sub/b.txt"]),
        ("*/./*.txt", ["a.txt"]),
        ("x/./.", [".hidden.txt", "a.txt", "sub", "sub/b.txt", "sub/c.md"]),
    ],
)
def test_parents(builds: Builds, source: str, expected: list[str]) -> None:
    for name in ("x/a.txt", "x/sub/b.txt", "x/sub/c.md", "x/.hidden.txt", "y/a.txt"):
        builds.write(name, name)
    builds.build(f"FROM base\nCOPY --parents {source} /to")
    assert sorted(contents(builds.image() / "to")) == expected


def test_parents_keep_their_permissions_and_replace_what_is_in_the_way(builds: Builds) -> None:
    builds.write("a/b/f", "f")
    (builds.context / "a").chmod(0o750)
    (builds.context / "a/b").chmod(0o700)
    dockerfile = (
        "FROM base\nRUN mkdir -p /to/a /else && touch /else/keep && ln -s /else /to/a/b\nCOPY --parents a/b/f /to"
    )
    builds.build(dockerfile)
    assert modes(builds.image() / "to") == {"a": "750", "a/b": "700", "a/b/f": "644"}
    assert os.listdir(builds.image() / "else") == ["keep"]
    assert marks(builds.build(dockerfile)) == "***"
    (builds.context / "a/b").chmod(0o755)
    assert marks(builds.build(dockerfile)) == "**."


def test_without_parents_two_stars_are_one(builds: Builds) -> None:
    """Python's glob, as the manual has it."""
    for name in ("a.txt", "x/b.txt", "x/y/c.txt"):
        builds.write(name)
    builds.build("FROM base\nCOPY **/*.txt /to/")
    assert sorted(contents(builds.image() / "to")) == ["b.txt"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--exclude=*.o --exclude=sub d /to", ["keep.c"]),
        ("--exclude=**/*.o d /to", ["keep.c", "sub", "sub/y.c"]),
        ("--exclude=* --exclude=!**/*.c d /to", ["keep.c", "sub", "sub/y.c"]),
        ("--exclude=*.o d/* /to/", ["keep.c", "x.o", "y.c"]),
        ("--exclude=*.o d/*.* /to/", ["keep.c"]),
        ("--exclude=d/sub --parents d /to/", ["d", "d/keep.c", "d/x.o"]),
    ],
)
def test_exclude(builds: Builds, words: str, expected: list[str]) -> None:
    """Patterns are relative to the source; of a file that is its name."""
    for name in ("d/keep.c", "d/x.o", "d/sub/x.o", "d/sub/y.c"):
        builds.write(name, name)
    builds.build(f"FROM base\nCOPY {words}")
    found = sorted(contents(builds.image() / "to"))
    assert found == (expected if words != "--exclude=*.o d/* /to/" else ["keep.c", "y.c"])


def test_excluded_files_do_not_matter_to_the_cache(builds: Builds) -> None:
    builds.write("d/keep")
    builds.write("d/log")
    dockerfile = "FROM base\nCOPY --exclude=log d /to"
    builds.build(dockerfile)
    builds.write("d/log", "more")
    assert marks(builds.build(dockerfile)) == "**"
    result = builds.build("FROM base\nCOPY --exclude=* d/log /to", check=False).expect(1)
    assert "all sources are excluded by --exclude=*" in result.stderr


def test_exclude_of_files_of_a_stage(builds: Builds) -> None:
    builds.build(
        "FROM base AS one\nRUN mkdir -p /d/e && touch /d/a.o /d/b /d/e/c.o\n"
        "FROM scratch\nCOPY --from=one --exclude=**/*.o /d /to"
    )
    assert sorted(contents(builds.image() / "to")) == ["b", "e"]


def test_here_documents_are_files(builds: Builds) -> None:
    builds.write("file")
    dockerfile = """FROM base
ARG who=world
COPY <<EOF /a/file
hello $who "quoted" \\$who
EOF
COPY --chmod=755 <<'run.sh' <<-two file /b
#!/bin/sh
echo $who
run.sh
\t\ttabs ${who:+go}
two
"""
    result = builds.build(dockerfile)
    assert builds.read("a/file") == 'hello world "quoted" $who\n'
    assert (builds.image() / "a/file").stat().st_mode & 0o777 == 0o644
    assert builds.read("b/run.sh") == "#!/bin/sh\necho $who\n"
    assert builds.read("b/two") == "tabs go\n"
    assert modes(builds.image() / "b") == {"run.sh": "755", "two": "755", "file": "755"}
    assert "  3. COPY ['<<EOF'] -> '/a/file'" in result.stderr
    assert marks(builds.build(dockerfile)) == "****"


def test_the_content_of_a_here_document_is_in_the_key(builds: Builds) -> None:
    dockerfile = "FROM base\nCOPY <<EOF /f\nline {}\nEOF\n"
    builds.build(dockerfile.format(1))
    result = builds.build(dockerfile.format(2), "--explain")
    assert marks(result) == "*."
    assert "here-document EOF" in result.stderr
    assert builds.read("f") == "line 2\n"
    assert marks(builds.build(dockerfile.format(1))) == "**"


def test_a_here_document_needs_no_context_and_cannot_lead_elsewhere(builds: Builds) -> None:
    run = builds.chimage.run
    run("build", "-t", "image", "-", stdin="FROM base\nCOPY <<../../f /d/\nx\n../../f\n")
    assert contents(builds.image() / "d").keys() == {"f"}
    result = run("build", "-t", "image", "-", stdin="FROM base\nCOPY <<.. /d/\nx\n..\n", check=False).expect(1)
    assert "can’t be a file of this name" in result.stderr
    result = builds.build("FROM base\nRUN ln -s /outside /l\nCOPY <<EOF /l\nx\nEOF\n")
    assert builds.read("outside") == "x\n"


def test_unset_variables_in_a_here_document_are_warned_of(builds: Builds) -> None:
    result = builds.build("FROM base\nCOPY <<EOF /f\n[$nothing]\nEOF\n")
    assert builds.read("f") == "[]\n"
    assert "variable is not set" in result.stderr


def test_what_the_host_passes_in_is_no_part_of_the_key(builds: Builds) -> None:
    """A proxy may have a password in it; and the next user has another name."""
    dockerfile = "FROM base\nCOPY <<EOF /f\n$http_proxy $USER ${x:-default}\nEOF\n"
    builds.build(dockerfile, env={"http_proxy": "http://me:geheim@proxy", "USER": "one"})
    assert builds.read("f") == "http://me:geheim@proxy one default\n"
    result = builds.build(dockerfile, env={"http_proxy": "http://other", "USER": "two"})
    assert marks(result) == "**"
    inputs = Path(builds.chimage.storage, "cache", "inputs")
    files = [inputs] if inputs.is_file() else [path for path in inputs.rglob("*") if path.is_file()]
    assert files
    assert not any(b"geheim" in path.read_bytes() for path in files)
    assert marks(builds.build(dockerfile.replace("COPY", "ENV USER=me\nCOPY"))) == "*.."
    assert builds.read("f") == " me default\n"
