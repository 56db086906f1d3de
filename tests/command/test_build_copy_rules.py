"""`build`: what the manual says of COPY, rule by rule, and what hostile files must not achieve."""

import os
import stat
from pathlib import Path

import pytest

from tests.support.builds import Builds, contents, marks

pytestmark = pytest.mark.userns


def kinds(root: Path) -> dict[str, str]:
    """Return path → `d`, `f`, or the target of a link."""
    found = {}
    for path, (kind, _, content) in contents(root).items():
        found[path] = content if kind == "l" else kind.replace("-", "f")
    return found


def test_1_an_absolute_source_counts_from_the_context(builds: Builds) -> None:
    builds.write("d/f", "f")
    builds.build('FROM base\nCOPY /d/f /one\nCOPY //d/./f /two\nCOPY ["/d/../d/f", "/three"]\nCOPY /d/* /four/')
    assert [builds.read(name) for name in ("one", "two", "three", "four/f")] == ["f"] * 4


def test_2_when_destination_directories_are_made(builds: Builds) -> None:
    for name in ("a", "b", "d/f"):
        builds.write(name, name)
    builds.build(
        "FROM base\n"
        "COPY a /slash/deep/\n"
        "COPY a b /several/deep\n"
        "COPY [ab] /wild/deep\n"
        "COPY d /directory/deep\n"
        "COPY a /file/deep\n"
        "COPY ? /one/deep"
    )
    image = builds.image()
    assert kinds(image / "slash") == {"deep": "d", "deep/a": "f"}
    assert kinds(image / "several") == kinds(image / "wild") == {"deep": "d", "deep/a": "f", "deep/b": "f"}
    assert kinds(image / "directory") == {"deep": "d", "deep/f": "f"}
    assert kinds(image / "file") == {"deep": "f"}
    assert kinds(image / "one") == {"deep": "d", "deep/a": "f", "deep/b": "f", "deep/f": "f"}
    assert f"{(image / 'slash').stat().st_mode & 0o7777:o}" == "755"


@pytest.mark.parametrize(
    ("last", "problem"),
    [
        ("COPY d /etc/passwd", "not a directory"),
        ("COPY a b /etc/passwd", "not a directory"),
        ("COPY a /etc/passwd/", "not a directory"),
        ("COPY a /etc/passwd/x", "not a directory"),
        ("COPY a /in/", "a directory of the image is in the way: /in/a"),
        ('COPY ["a", ""]', "destination is empty"),
        ("COPY $nothing /x/", ""),
    ],
)
def test_destinations_that_cannot_be(builds: Builds, last: str, problem: str) -> None:
    for name in ("a", "b", "d/f"):
        builds.write(name, name)
    result = builds.build(f"FROM base\nRUN mkdir -p /in/a\n{last}", check=False)
    if last.startswith("COPY $"):  # An empty source is the whole context, as in Docker.
        result.expect(0)
        return
    assert problem in result.expect(1).stderr.lower()
    assert "Dockerfile:3: COPY" in result.stderr or "  3 COPY" in result.stderr
    assert result.stderr.count("Traceback") == 0


def test_3_symlinks_by_depth(builds: Builds) -> None:
    builds.write("real/f", "f")
    builds.write("real/sub/g", "g")
    for name, target in {
        "to_file": "real/f",
        "to_dir": "real",
        "real/deep_file": "f",
        "real/deep_dir": "sub",
        "real/dangling": "nowhere",
        "real/absolute": "/etc/passwd",
        "chain": "to_dir",
    }.items():
        (builds.context / name).symlink_to(target)
    builds.build(
        "FROM base\n"
        "RUN mkdir -p /dst/dir /dst/d2 && ln -s dir /dst/link && ln -s d2/file /dst/flink\n"
        "COPY to_file /a/named\n"
        "COPY to_* /b\n"
        "COPY chain/ /c\n"
        "COPY real /d\n"
        "COPY real/f /dst/link\n"
        "COPY real/sub /dst/link\n"
        "COPY real/f /dst/flink\n"
    )
    image = builds.image()
    deep = {"deep_file": "f", "deep_dir": "sub", "dangling": "nowhere", "absolute": "/etc/passwd"}
    whole = {"f": "f", "sub": "d", "sub/g": "f", **deep}
    assert kinds(image / "a") == {"named": "f"}
    assert kinds(image / "b") == {**whole, "to_file": "f"}
    assert kinds(image / "c") == kinds(image / "d") == whole
    assert kinds(image / "dst") == {
        "dir": "d",
        "dir/f": "f",
        "dir/g": "f",
        "d2": "d",
        "d2/file": "f",
        "link": "dir",
        "flink": "d2/file",
    }


def test_4_directories_on_both_sides_get_the_metadata_of_the_source(builds: Builds) -> None:
    """But not the destination itself, which is at the first level."""
    builds.write("d/sub/deep/f")
    for name, mode in (("d", 0o700), ("d/sub", 0o751), ("d/sub/deep", 0o711)):
        (builds.context / name).chmod(mode)
    os.utime(builds.context / "d/sub", ns=(0, 10**18))
    builds.build("FROM base\nRUN mkdir -p /to/sub/deep && chmod 775 /to /to/sub /to/sub/deep\nCOPY d /to\nCOPY d /new")
    image = builds.image()
    modes = {path: f"{mode:o}" for path, (_, mode, _) in contents(image / "to").items()}
    assert modes == {"sub": "751", "sub/deep": "711", "sub/deep/f": "644"}
    assert (image / "to/sub").stat().st_mtime_ns == 10**18
    assert f"{(image / 'to').stat().st_mode & 0o7777:o}" == "775"
    assert f"{(image / 'new').stat().st_mode & 0o7777:o}" == "755"


def test_5_what_is_of_another_type_is_replaced(builds: Builds) -> None:
    """At the second level or deeper, every type by every other."""
    made = {
        "file": "touch {0}",
        "dir": "mkdir -p {0}/x && touch {0}/x/y",
        "link": "ln -s /keep {0}",
        "dangle": "ln -s no {0}",
    }
    commands = ["mkdir /keep", "touch /keep/kept", "mkdir -p /to/sub"]
    expected = {}
    for old in made:
        for new in made:
            name = f"sub/{old}_{new}"
            commands.append(made[old].format(f"/to/{name}"))
            path = builds.context / "d" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if new == "file":
                path.write_text("new")
            elif new == "dir":
                path.mkdir()
                (path / "z").write_text("new")
                expected[f"{name}/z"] = "f"
            else:
                path.symlink_to("new")
            expected[name] = {"file": "f", "dir": "d"}.get(new, "new")
            if (old, new) == ("dir", "dir"):
                expected.update({f"{name}/x": "d", f"{name}/x/y": "f"})
    dockerfile = f"FROM base\nRUN {' && '.join(commands)}\nCOPY d /to\nRUN find /to /keep > /found"
    builds.build(dockerfile)
    assert kinds(builds.image() / "to") == {"sub": "d", **expected}
    assert kinds(builds.image() / "keep") == {"kept": "f"}
    builds.chimage.run("delete", "image")
    assert marks(builds.build(dockerfile)) == "****"
    assert kinds(builds.image() / "to") == {"sub": "d", **expected}


def test_wildcards_are_those_of_python(builds: Builds) -> None:
    for name in ("a1", "b2", ".hidden", "x[1]", "d/.h/f", "d/v/f", "-dash"):
        builds.write(name, name)
    builds.build(
        "FROM base\n"
        "COPY [!b][0-9] /negated/\n"
        "COPY .h* /dot/\n"
        "COPY x[[]1] /literal/\n"
        "COPY d/*/f /below/\n"
        "COPY d/.*/f /hidden\n"
        "COPY -* /dash/"
    )
    image = builds.image()
    found = [os.listdir(image / name) for name in ("negated", "dot", "literal", "below", "dash")]
    assert found == [["a1"], [".hidden"], ["x[1]"], ["f"], ["-dash"]]
    assert builds.read("below/f") == "d/v/f"
    assert builds.read("hidden") == "d/.h/f"
    result = builds.build("FROM base\nCOPY [^a]* /x/\nCOPY ?1 *.c /y/", check=False).expect(1)
    assert "not found in context: *.c" in result.stderr


def test_what_is_copied_is_sorted(builds: Builds) -> None:
    """Of files of one name the last one stays, and it is always the same."""
    for name in ("b/f", "a/f", "c/f"):
        builds.write(name, name)
    builds.build("FROM base\nCOPY */f /to/\nCOPY c/f a/f /order/")
    assert (builds.read("to/f"), builds.read("order/f")) == ("c/f", "a/f")


def test_hostile_links_in_the_image(builds: Builds, tmp_path: Path) -> None:
    """In front of the destination, at it, and below it; with and without options that make directories."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("untouched")
    builds.write("f", "f")
    builds.write("d/sub/victim", "attack")
    builds.write("d/victim", "attack")
    up = "../" * 20
    builds.build(
        "FROM base\n"
        f"RUN mkdir /to /in && ln -s {outside} /abs && ln -s {up}{outside} /rel && ln -s {outside} /to/sub "
        f"&& ln -s {outside}/victim /to/victim && ln -s {outside}/victim /vic && ln -s {outside} /in/d\n"
        "COPY f /abs/x/y\n"
        "COPY f /rel/\n"
        "COPY d /to\n"
        "COPY d/victim /vic\n"
        "COPY --link d /abs\n"
        "COPY --parents d/sub/victim /in\n"
        "COPY <<victim /rel/\ntext\nvictim\n"
    )
    assert os.listdir(outside) == ["victim"]
    assert (outside / "victim").read_text() == "untouched"
    image = builds.image()
    assert kinds(image / "to") == {"sub": "d", "sub/victim": "f", "victim": "f"}
    assert kinds(image / "in") == {"d": "d", "d/sub": "d", "d/sub/victim": "f"}
    assert kinds(image / "abs") == {"sub": "d", "sub/victim": "f", "victim": "f"}
    assert (image / str(outside).lstrip("/") / "victim").read_text() == "text\n"


def test_a_loop_of_links_is_an_error(builds: Builds) -> None:
    builds.write("f")
    (builds.context / "loop").symlink_to("loop")
    assert "loop" in builds.build("FROM base\nCOPY loop /x", check=False).expect(1).stderr
    result = builds.build("FROM base\nRUN ln -s /b /a && ln -s /a /b\nCOPY f /a/x", check=False).expect(1)
    assert "Too many levels of symbolic links" in result.stderr


@pytest.mark.parametrize(
    "source", ["out/f", "out", "--parents out/f", "--parents in/out/f", "--parents **/f", "o*/f", "in/out"]
)
def test_hostile_links_in_the_context(builds: Builds, tmp_path: Path, source: str) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "f").write_text("PRIVATE")
    builds.write("in/x")
    (builds.context / "out").symlink_to(secret)
    (builds.context / "in/out").symlink_to("../../secret")
    result = builds.build(f"FROM base\nCOPY {source} /to/", check=False).expect(1)
    assert "outside the context" in result.stderr or "not found in context" in result.stderr
    assert "PRIVATE" not in result.text()
    assert builds.names() == ["base:latest (amd64)"]


def test_deep_links_out_of_the_context_are_copied_as_links(builds: Builds) -> None:
    builds.write("d/f")
    (builds.context / "d/out").symlink_to("/etc/shadow")
    builds.build("FROM base\nCOPY d /to\nCOPY . /all")
    assert kinds(builds.image() / "to") == {"f": "f", "out": "/etc/shadow"}
    assert kinds(builds.image() / "all/d")["out"] == "/etc/shadow"


def test_special_files(builds: Builds) -> None:
    builds.write("d/f")
    os.mkfifo(builds.context / "d/fifo", 0o640)
    builds.build("FROM base\nCOPY --chmod=600 d /to")
    status = os.lstat(builds.image() / "to/fifo")
    assert stat.S_ISFIFO(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o600
    result = builds.build("FROM base\nCOPY d/fifo /x", check=False).expect(1)
    assert "not a regular file" in result.stderr
