"""`build`: all examples of the manual's section on RSYNC, with the listings that it prints.

The umask is 0007, as the manual says; RUN has one of its own, so that is set where the manual's listing shows what a
RUN made.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.builds import BASE
from tests.support.cli import Chimage, CliResult
from tests.support.listings import listed, printed

pytestmark = [pytest.mark.userns, pytest.mark.rsync]


@dataclass(frozen=True, slots=True)
class Examples:
    """The manual's context directory, and images built from it."""

    chimage: Chimage
    top: Path

    @property
    def context(self) -> Path:
        return self.top / "ctx"

    def file(self, name: str, mode: int = 0o660) -> None:
        """Write a file with its own name as content, and the directory it is in."""
        path = self.context / name
        if not path.parent.exists():
            path.parent.mkdir()
            path.parent.chmod(0o770)
        path.write_text(f"{path.name}\n")
        path.chmod(mode)

    def build(self, instructions: str, *, check: bool = True) -> CliResult:
        """Build an image as the manual's text has it."""
        dockerfile = self.top / "Dockerfile"
        dockerfile.write_text(f"FROM {BASE}\nRUN mkdir /dst\n{instructions}\n")
        return self.chimage.run("build", "-t", "image", "-f", dockerfile, self.context, check=check)

    def dst(self, instructions: str) -> list[str]:
        """Build an image and list its directory dst."""
        self.build(instructions)
        return listed(Path(self.chimage.storage, "img/image+latest/dst"), "dst")


@pytest.fixture
def examples(chimage: Chimage, busybox: Path, tmp_path: Path) -> Iterator[Examples]:
    chimage.run("import", busybox, BASE)
    before = os.umask(0o007)
    top = tmp_path / "top"
    (top / "ctx").mkdir(parents=True)
    yield Examples(chimage, top)
    os.umask(before)


@pytest.fixture
def basic(examples: Examples) -> Examples:
    """Return the context with two directories of one regular file each."""
    examples.file("basic1/file-basic1", 0o604)
    (examples.context / "basic1").chmod(0o705)
    examples.file("basic2/file-basic2")
    assert listed(examples.context, "./ctx") == printed("""
       ./ctx:
       drwx---r-x 2  60 Oct 11 13:20 basic1
       drwxrwx--- 2  60 Oct 11 13:20 basic2
       ./ctx/basic1:
       -rw----r-- 1 12 Oct 11 13:20 file-basic1
       ./ctx/basic2:
       -rw-rw---- 1 12 Oct 11 13:20 file-basic2
    """)
    return examples


@pytest.fixture
def symlinks(examples: Examples) -> Examples:
    """Return the context with a variety of links, and what some lead to outside."""
    for name in (
        *("file-top", "dir-top/dir-top.file", "sym1/file-sym1", "sym2/file-sym2", "sym1/dir-sym1/dir-sym1.file"),
        *("../file-out", "../dir-out/dir-out.file"),
    ):
        examples.file(name)
    top, sym1 = examples.top.resolve(), examples.context / "sym1"
    for name, target in {
        "dir-out_rel": "../../dir-out",
        "dir-sym1_direct": "dir-sym1",
        "dir-top_rel": "../dir-top",
        "file-out_abs": f"{top}/file-out",
        "file-out_rel": "../../file-out",
        "file-sym1_abs": f"{top}/ctx/sym1/file-sym1",
        "file-sym1_direct": "file-sym1",
        "file-sym1_upover": "../sym1/file-sym1",
        "file-sym2_abs": f"{top}/ctx/sym2/file-sym2",
        "file-sym2_upover": "../sym2/file-sym2",
        "file-top_abs": f"{top}/ctx/file-top",
        "file-top_rel": "../file-top",
    }.items():
        (sym1 / name).symlink_to(target)
        assert (sym1 / name).exists(), "all of these links are valid on the host"
    return examples


def test_a_file_into_a_directory(basic: Examples) -> None:
    assert basic.dst("RSYNC /basic1/file-basic1 /dst") == printed("""
       dst:
       -rw----r-- 1 12 Oct 11 13:26 file-basic1
    """)


def test_a_new_name_and_no_metadata(basic: Examples) -> None:
    assert basic.dst("RSYNC +z /basic1/file-basic1 /dst/file-basic1_nom") == printed("""
       dst:
       -rw------- 1 12 Sep 21 15:51 file-basic1_nom
    """)


def test_a_slash_at_the_end_of_the_destination(basic: Examples) -> None:
    assert basic.dst("RSYNC /basic1/file-basic1 /dst/new/") == printed("""
       dst:
       drwxrwx--- 1 22 Oct 11 13:26 new
       dst/new:
       -rw----r-- 1 12 Oct 11 13:26 file-basic1
    """)


def test_several_files_need_no_slash(basic: Examples) -> None:
    assert basic.dst("RSYNC /basic1/file-basic1 /basic2/file-basic2 /dst/newB") == printed("""
       dst:
       drwxrwx--- 1 44 Oct 11 13:26 newB
       dst/newB:
       -rw----r-- 1 12 Oct 11 13:26 file-basic1
       -rw-rw---- 1 12 Oct 11 13:26 file-basic2
    """)


def test_a_directory_without_slash_is_placed_into_the_destination(basic: Examples) -> None:
    assert basic.dst("RSYNC /basic1 /dst/basic1_new") == printed("""
       dst:
       drwxrwx--- 1 12 Oct 11 13:28 basic1_new
       dst/basic1_new:
       drwx---r-x 1 22 Oct 11 13:28 basic1
       dst/basic1_new/basic1:
       -rw----r-- 1 12 Oct 11 13:28 file-basic1
    """)


def test_of_a_directory_with_slash_contents_and_metadata(basic: Examples) -> None:
    assert basic.dst("RSYNC /basic1/ /dst/basic1_renamed") == printed("""
       dst:
       drwx---r-x 1 22 Oct 11 13:28 basic1_renamed
       dst/basic1_renamed:
       -rw----r-- 1 12 Oct 11 13:28 file-basic1
    """)


def test_a_directory_without_options_is_skipped(basic: Examples) -> None:
    assert basic.dst("RSYNC +z /basic1 /dst/basic1_newC") == ["dst:"]


def test_a_directory_with_recursion_only(basic: Examples) -> None:
    assert basic.dst("RSYNC +z -r /basic1/ /dst/basic1_newD") == printed("""
       dst:
       drwx------ 1 22 Oct 11 13:28 basic1_newD
       dst/basic1_newD:
       -rw------- 1 12 Oct 11 13:28 file-basic1
    """)


def test_wildcards_and_merging(basic: Examples) -> None:
    assert basic.dst(
        "RUN umask 0007 && mkdir /dst/dstC && echo file-dstC > /dst/dstC/file-dstC\nRSYNC /basic* /dst/dstC"
    ) == printed("""
       dst:
       drwxrwx--- 1 42 Oct 11 13:33 dstC
       dst/dstC:
       drwx---r-x 1 22 Oct 11 13:33 basic1
       drwxrwx--- 1 22 Oct 11 13:33 basic2
       -rw-rw---- 1 10 Oct 11 13:33 file-dstC
       dst/dstC/basic1:
       -rw----r-- 1 12 Oct 11 13:33 file-basic1
       dst/dstC/basic2:
       -rw-rw---- 1 12 Oct 11 13:33 file-basic2
    """)


def test_slashes_of_each_source(basic: Examples) -> None:
    assert basic.dst(
        "RUN umask 0007 && mkdir /dst/dstF && echo file-dstF > /dst/dstF/file-dstF\nRSYNC /basic1 /basic2/ /dst/dstF"
    ) == printed("""
       dst:
       drwxrwx--- 1 52 Oct 11 13:33 dstF
       dst/dstF:
       drwx---r-x 1 22 Oct 11 13:33 basic1
       -rw-rw---- 1 12 Oct 11 13:33 file-basic2
       -rw-rw---- 1 10 Oct 11 13:33 file-dstF
       dst/dstF/basic1:
       -rw----r-- 1 12 Oct 11 13:33 file-basic1
    """)


def test_the_whole_context(basic: Examples) -> None:
    assert basic.dst("RSYNC / /dst") == printed("""
       dst:
       drwx---r-x 1  22 Oct 11 13:33 basic1
       drwxrwx--- 1  22 Oct 11 13:33 basic2
       dst/basic1:
       -rw----r-- 1 12 Oct 11 13:33 file-basic1
       dst/basic2:
       -rw-rw---- 1 12 Oct 11 13:33 file-basic2
    """)


def test_replacing_instead_of_merging(basic: Examples) -> None:
    """The directory gets the metadata of the first source with a slash."""
    assert basic.dst(
        "RUN umask 0007 && mkdir /dst/dstG && echo file-dstG > /dst/dstG/file-dstG\nRSYNC --delete /basic*/ /dst/dstG"
    ) == printed("""
       dst:
       drwx---r-x 1 44 Oct 11 14:00 dstG
       dst/dstG:
       -rw----r-- 1 12 Oct 11 14:00 file-basic1
       -rw-rw---- 1 12 Oct 11 14:00 file-basic2
    """)


def test_safe_links_are_preserved_and_others_ignored(symlinks: Examples) -> None:
    assert symlinks.dst("RSYNC /sym1 /dst") == printed("""
       dst:
       drwxrwx--- 1 206 Oct 11 17:10 sym1
       dst/sym1:
       drwxrwx--- 1 26 Oct 11 17:10 dir-sym1
       lrwxrwxrwx 1  8 Oct 11 17:10 dir-sym1_direct -> dir-sym1
       lrwxrwxrwx 1 10 Oct 11 17:10 dir-top_rel -> ../dir-top
       -rw-rw---- 1 10 Oct 11 17:10 file-sym1
       lrwxrwxrwx 1  9 Oct 11 17:10 file-sym1_direct -> file-sym1
       lrwxrwxrwx 1 17 Oct 11 17:10 file-sym1_upover -> ../sym1/file-sym1
       lrwxrwxrwx 1 17 Oct 11 17:10 file-sym2_upover -> ../sym2/file-sym2
       lrwxrwxrwx 1 11 Oct 11 17:10 file-top_rel -> ../file-top
       dst/sym1/dir-sym1:
       -rw-rw---- 1 14 Oct 11 17:10 dir-sym1.file
    """)


def test_a_slash_moves_the_top_of_transfer(symlinks: Examples) -> None:
    assert symlinks.dst("RSYNC /sym1/ /dst/sym1") == printed("""
       dst:
       drwxrwx--- 1 96 Oct 11 17:10 sym1
       dst/sym1:
       drwxrwx--- 1 26 Oct 11 17:10 dir-sym1
       lrwxrwxrwx 1  8 Oct 11 17:10 dir-sym1_direct -> dir-sym1
       -rw-rw---- 1 10 Oct 11 17:10 file-sym1
       lrwxrwxrwx 1  9 Oct 11 17:10 file-sym1_direct -> file-sym1
       dst/sym1/dir-sym1:
       -rw-rw---- 1 14 Oct 11 17:10 dir-sym1.file
    """)


def test_unsafe_links_are_followed_on_request(symlinks: Examples) -> None:
    assert symlinks.dst("RSYNC +u /sym1/ /dst/sym1") == printed("""
       dst:
       drwxrwx--- 1 352 Oct 11 17:10 sym1
       dst/sym1:
       drwxrwx--- 1 24 Oct 11 17:10 dir-out_rel
       drwxrwx--- 1 26 Oct 11 17:10 dir-sym1
       lrwxrwxrwx 1  8 Oct 11 17:10 dir-sym1_direct -> dir-sym1
       drwxrwx--- 1 24 Oct 11 17:10 dir-top_rel
       -rw-rw---- 1  9 Oct 11 17:10 file-out_abs
       -rw-rw---- 1  9 Oct 11 17:10 file-out_rel
       -rw-rw---- 1 10 Oct 11 17:10 file-sym1
       -rw-rw---- 1 10 Oct 11 17:10 file-sym1_abs
       lrwxrwxrwx 1  9 Oct 11 17:10 file-sym1_direct -> file-sym1
       -rw-rw---- 1 10 Oct 11 17:10 file-sym1_upover
       -rw-rw---- 1 10 Oct 11 17:10 file-sym2_abs
       -rw-rw---- 1 10 Oct 11 17:10 file-sym2_upover
       -rw-rw---- 1  9 Oct 11 17:10 file-top_abs
       -rw-rw---- 1  9 Oct 11 17:10 file-top_rel
       dst/sym1/dir-out_rel:
       -rw-rw---- 1 13 Oct 11 17:10 dir-out.file
       dst/sym1/dir-sym1:
       -rw-rw---- 1 14 Oct 11 17:10 dir-sym1.file
       dst/sym1/dir-top_rel:
       -rw-rw---- 1 13 Oct 11 17:10 dir-top.file
    """)


def test_links_as_sources_are_like_any_other(symlinks: Examples) -> None:
    assert symlinks.dst("RSYNC /sym1/file-sym1_direct /sym1/file-sym1_upover /dst") == printed("""
       dst:
       lrwxrwxrwx 1 9 Oct 11 17:10 file-sym1_direct -> file-sym1
    """)


def test_a_link_to_a_file_as_destination_is_replaced(symlinks: Examples) -> None:
    assert symlinks.dst(
        "RUN umask 0007 && touch /dst/file-dst && ln -s file-dst /dst/file-dst_direct\n"
        "RSYNC /file-top /dst/file-dst_direct"
    ) == printed("""
       dst:
       -rw-rw---- 1 0 Oct 11 17:42 file-dst
       -rw-rw---- 1 9 Oct 11 17:42 file-dst_direct
    """)


def test_a_directory_onto_a_link_to_a_file_is_an_error(symlinks: Examples) -> None:
    instructions = "RUN touch /dst/file-dst && ln -s file-dst /dst/file-dst_direct\nRSYNC /sym1 /dst/file-dst_direct"
    assert "build failed: rsync(1) exited with " in symlinks.build(instructions, check=False).expect(1).stderr


def test_a_link_to_a_directory_as_destination_is_followed(symlinks: Examples) -> None:
    assert symlinks.dst(
        "RUN umask 0007 && mkdir /dst/dir-dst && ln -s dir-dst /dst/dir-dst_direct\nRSYNC /file-top /dst/dir-dst_direct"
    ) == printed("""
       dst:
       drwxrwx--- 1 16 Oct 11 17:50 dir-dst
       lrwxrwxrwx 1  7 Oct 11 17:50 dir-dst_direct -> dir-dst
       dst/dir-dst:
       -rw-rw---- 1 9 Oct 11 17:50 file-top
    """)


def test_metadata_without_links(symlinks: Examples) -> None:
    """`+m` skips links with a warning."""
    result = symlinks.build("RSYNC +m /sym1 /dst")
    assert 'skipping non-regular file "sym1/file-sym1_direct"' in result.stderr
    assert sorted(os.listdir(Path(symlinks.chimage.storage, "img/image+latest/dst/sym1"))) == ["dir-sym1", "file-sym1"]
