"""`build`: `.dockerignore` and what else says which files of the context count."""

from pathlib import Path

import pytest

from tests.support.builds import Builds, contents, marks

pytestmark = pytest.mark.userns


def copied(builds: Builds) -> list[str]:
    return sorted(contents(builds.image() / "to"))


def test_excluded_files_are_not_copied_and_do_not_matter(builds: Builds) -> None:
    for name in ("a.c", "a.o", "d/b.o", "d/b.c", "only/x.o", "keep/x.o"):
        builds.write(name)
    builds.write(".dockerignore", "**/*.o\n!keep\nDockerfile\n.dockerignore\n")
    dockerfile = "FROM base\nCOPY . /to"
    builds.build(dockerfile)
    assert copied(builds) == ["a.c", "d", "d/b.c", "keep", "keep/x.o", "only"]
    builds.write("a.o", "changed")
    builds.write("d/new.o")
    assert marks(builds.build(dockerfile)) == "**"
    builds.write(".dockerignore", "# the same by other words\n*.o\nd/*.o\nonly/*.o\nDockerfile\n.dockerignore\n")
    assert marks(builds.build(dockerfile)) == "**"
    builds.write("d/b.c", "changed")
    assert marks(builds.build(dockerfile)) == "*."


def test_opting_out(builds: Builds) -> None:
    builds.write("d/a")
    builds.write(".dockerignore", "d/a")
    builds.build("FROM base\nCOPY d /to")
    assert copied(builds) == []
    assert marks(builds.build("FROM base\nCOPY d /to", "--no-dockerignore")) == "*."
    assert copied(builds) == ["a"]


@pytest.mark.parametrize("source", ["secret", "d/secret", "secr*", "d", "link"])
def test_a_source_that_is_excluded_is_an_error_that_says_so(builds: Builds, source: str) -> None:
    builds.write("secret")
    builds.write("d/secret")
    (builds.context / "link").symlink_to("secret")
    builds.write(".dockerignore", "# private\n\nd\n**/secret\n")
    result = builds.build(f"FROM base\nCOPY {source} /to/", check=False).expect(1)
    assert f"excluded from the context: {source}" in result.stderr
    assert (".dockerignore:3: d" if source == "d" else ".dockerignore:4: **/secret") in result.stderr
    assert "--no-dockerignore" in result.stderr
    assert "Dockerfile:2: COPY" in result.stderr


def test_what_wildcards_match_is_filtered(builds: Builds) -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        builds.write(name)
    builds.write(".dockerignore", "b.txt")
    builds.build("FROM base\nCOPY *.txt /to/")
    assert copied(builds) == ["a.txt", "c.txt"]


def test_stages_and_images_are_not_filtered(builds: Builds) -> None:
    builds.write(".dockerignore", "**")
    builds.build(
        "FROM base AS one\nRUN touch /x\nFROM base\nCOPY --from=one /x /to/\nCOPY --from=base /etc/passwd /to/"
    )
    assert copied(builds) == ["passwd", "x"]


def test_the_dockerfile_may_be_excluded(builds: Builds) -> None:
    builds.write(".dockerignore", "Dockerfile")
    builds.build("FROM base\nRUN true")
    assert "excluded" in builds.build("FROM base\nCOPY Dockerfile /", check=False).expect(1).stderr


def test_the_file_of_a_dockerfile_wins(builds: Builds, tmp_path: Path) -> None:
    builds.write("a")
    builds.write("b")
    builds.write(".dockerignore", "a")
    (tmp_path / "x.df").write_text("FROM base\nCOPY ? /to/")
    run = builds.chimage.run
    run("build", "-t", "image", "-f", tmp_path / "x.df", builds.context)
    assert copied(builds) == ["b"]
    (tmp_path / "x.df.dockerignore").write_text("b")
    run("build", "-t", "image", "-f", tmp_path / "x.df", builds.context)
    assert copied(builds) == ["a"]
    run("build", "-t", "image", "-f", "-", builds.context, stdin="FROM base\nCOPY ? /to/")
    assert copied(builds) == ["b"]


def test_names_of_podman(builds: Builds) -> None:
    builds.write("Containerfile", "FROM base\nCOPY ? /to/")
    builds.write("a")
    builds.write("b")
    builds.write(".containerignore", "b")
    result = builds.chimage.run("build", "-t", "image", builds.context)
    assert copied(builds) == ["a"]
    assert "2. COPY" in result.stderr
    builds.build("FROM base\nCOPY b /other/", "--no-dockerignore")
    assert (builds.image() / "other/b").exists()


def test_bad_patterns_are_errors_before_anything_is_done(builds: Builds) -> None:
    builds.write(".dockerignore", "fine\n[bad")
    result = builds.build("FROM base\nRUN true", check=False).expect(1)
    assert ".dockerignore:2: bad pattern: [bad" in result.stderr
    assert marks(result) == ""


def test_storage_inside_the_context_may_be_excluded(builds: Builds) -> None:
    """Or else the image would be copied into itself."""
    storage = builds.context / "storage"
    Path(builds.chimage.storage).rename(storage)
    inside = Builds(type(builds.chimage)(storage), builds.context)
    inside.write("f")
    result = inside.build("FROM base\nCOPY . /to", check=False).expect(1)
    assert "the storage directory is inside the source" in result.stderr
    inside.write(".dockerignore", "storage")
    inside.build("FROM base\nCOPY . /to")
    assert copied(inside) == [".dockerignore", "Dockerfile", "f"]


def test_known_by_content(builds: Builds) -> None:
    """A fresh checkout has new times, and the same content."""
    file = builds.write("d/f", "one")
    dockerfile = "FROM base\nCOPY d /to"
    env = {"CH_IMAGE_CACHE_BY": "content"}
    builds.build(dockerfile, "--cache-by=content")
    file.touch()
    assert marks(builds.build(dockerfile, env=env)) == "**"
    file.write_text("two")
    result = builds.build(dockerfile, "--explain", env=env)
    assert marks(result) == "*."
    assert "d/f" in result.stderr
    assert "content" in result.stderr
    assert builds.read("to/f") == "two"
    result = builds.build(dockerfile, "--cache-by=metadata", "--explain", env=env)
    assert marks(result) == "*."
    assert "--cache-by" in result.stderr
    assert "CH_IMAGE_CACHE_BY" in builds.build(dockerfile, env={"CH_IMAGE_CACHE_BY": "x"}, check=False).expect(2).stderr


def test_excluded_directories_are_not_entered(builds: Builds) -> None:
    """Not even to see whether there is an exception, if none can match there: data sets are often left out."""
    builds.write("data/closed/f")
    builds.write("data/open/keep")
    builds.write("data/open/f")
    builds.write(".dockerignore", "data\n!data/open/keep\n.dockerignore\nDockerfile\n")
    (builds.context / "data/closed").chmod(0)
    try:
        builds.build("FROM base\nCOPY . /to")
    finally:
        (builds.context / "data/closed").chmod(0o755)
    assert copied(builds) == ["data", "data/open", "data/open/keep"]
