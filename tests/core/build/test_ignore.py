"""Which files do not count."""

import itertools
import os
import random
import re
import time
from pathlib import Path

import pytest

from chimage_core.build.context import open_context
from chimage_core.build.ignore import IgnoreRules, Sieve, from_patterns, parse
from chimage_core.errors import ContextError


def excluded(rules: IgnoreRules, path: str) -> bool:
    return rules.excludes(rules.at(path))


@pytest.mark.parametrize(
    ("pattern", "hits", "misses"),
    [
        ("a", ["a", "a/b", "a/b/c"], ["b", "b/a", "ab"]),
        ("/a/", ["a", "a/b"], ["b/a"]),
        ("./a/../b", ["b"], ["a"]),
        ("a/b", ["a/b", "a/b/c"], ["a", "a/c", "b"]),
        ("*", ["a", ".a", "a/b"], []),
        ("*.o", ["x.o", ".o", "x.o/y"], ["d/x.o", "x.oo"]),
        ("*/*.o", ["d/x.o"], ["x.o", "d/e/x.o"]),
        ("a?c", ["abc", "a.c"], ["ac", "a/c", "abbc"]),
        ("x[a-c]", ["xa", "xc"], ["xd", "x-"]),
        ("x[^a-c]", ["xd"], ["xa"]),
        ("x[a\\-c]", ["x-", "xa"], ["xb"]),
        ("x[.^]", ["x.", "x^"], ["xa"]),
        ("\\*", ["*"], ["a"]),
        ("\\#a", ["#a"], ["a"]),
        ("a.b", ["a.b"], ["axb"]),
        ("**", ["a", "a/b"], []),
        ("**/x", ["x", "a/x", "a/b/x", "a/x/y"], ["xx", "a/xx"]),
        ("**/*.o", ["x.o", "a/b/x.o"], ["x.c"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "b"]),
        ("a/**/c", ["a/c", "a/b/c", "a/b/b/c/d"], ["a", "a/b", "c"]),
        ("**/a/**/b", ["a/b", "x/a/y/b"], ["b", "a"]),
        ("**/**/x", ["x", "a/x"], ["y"]),
        ("**.o", ["x.o", "a/b/x.o"], ["x.c"]),
        ("a*b*c", ["abc", "axbxc"], ["acb"]),
        (".", [], ["a"]),
        ("../a", [], ["a"]),
    ],
)
def test_patterns(pattern: str, hits: list[str], misses: list[str]) -> None:
    rules = parse(pattern, "f")
    assert [path for path in hits if not excluded(rules, path)] == []
    assert [path for path in misses if excluded(rules, path)] == []


def test_the_last_rule_that_matches_decides() -> None:
    rules = parse("*.md\n!README*.md\nREADME-secret.md\n", "f")
    assert [excluded(rules, name) for name in ("a.md", "README.md", "README-secret.md")] == [True, False, True]
    assert not excluded(parse("d\n!d", "f"), "d/x")


def test_comments_blanks_and_a_byte_order_mark() -> None:
    rules = parse("\ufeff# no\n\n  a  \r\n # b\n", "f")
    assert [rule.pattern for rule in rules.rules] == ["a", "# b"]
    assert [rule.line for rule in rules.rules] == [3, 4]
    assert excluded(parse("\ufeffa", "f"), "a")


@pytest.mark.parametrize("pattern", ["!", "! ", "[a", "a[", "a\\", "[]", "x/[/y"])
def test_a_bad_pattern_is_an_error_with_file_and_line(pattern: str) -> None:
    with pytest.raises(ContextError, match=r"^\.dockerignore:2: bad pattern"):
        parse(f"fine\n{pattern}", ".dockerignore")


def reference(patterns: list[str], path: str) -> bool:
    """Decide as the original does: each pattern as one expression, tried on the path and all above it."""
    result = False
    parts = path.split("/")
    tops = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    for pattern in patterns:
        expression = re.escape(pattern.removeprefix("!"))
        expression = expression.replace(r"\*\*/", "(.*/)?").replace(r"/\*\*", "/.*").replace(r"\*", "[^/]*")
        if any(re.fullmatch(expression, top) for top in tops):
            result = not pattern.startswith("!")
    return result


def test_random_rules_against_a_plain_implementation() -> None:
    chance = random.Random(4)
    names = ["a", "b", "ab", "ba"]
    paths = ["/".join(path) for depth in (1, 2, 3) for path in itertools.product(names, repeat=depth)]
    for _ in range(400):
        patterns = [
            chance.choice(["", "", "!"])
            + "/".join(chance.choices([*names, "*", "a*", "*b", "**"], k=chance.randint(1, 3)))
            for _ in range(chance.randint(1, 6))
        ]
        patterns = [re.sub(r"(\*\*/)+", "**/", pattern) for pattern in patterns]
        patterns = [pattern for pattern in patterns if not re.search(r"(^|/|!)\*\*(/\*\*)?$", pattern)]
        rules = parse("\n".join(patterns), "f")
        wrong = [path for path in paths if excluded(rules, path) != reference(patterns, path)]
        assert wrong == [], patterns


def test_a_pruned_directory_is_one_without_exceptions_below() -> None:
    rules = parse("a\nb\n!b/keep\n**/c\n", "f")
    assert not rules.may_include_below(rules.at("a"))
    assert rules.may_include_below(rules.at("b"))
    assert not rules.may_include_below(rules.at("b/other"))
    assert not rules.may_include_below(rules.at("c"))


def test_many_stars_do_not_take_for_ever() -> None:
    rules = parse("*a" * 40 + "b", "f")
    began = time.monotonic()
    assert not excluded(rules, "a" * 250)
    assert time.monotonic() - began < 1


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def kept(top: Path, sieve: Sieve) -> list[str]:
    """Return all files and directories that the sieve lets through, asked as a walk asks."""
    found = []
    for here, folders, files in os.walk(top):
        relative = os.path.relpath(here, top)
        prefix = "" if relative == "." else relative + "/"
        folders[:] = [name for name in folders if not sieve(prefix + name, True)]
        found += [prefix + name for name in folders]
        found += [prefix + name for name in files if not sieve(prefix + name, False)]
    return sorted(found)


def test_a_walk_keeps_the_directories_of_exceptions_and_no_others(tmp_path: Path) -> None:
    make(tmp_path, "src/deep/keep.c", "src/deep/x.o", "src/empty/x.o", "doc/x", "top")
    sieve = Sieve(str(tmp_path), [(parse("*\n!**/*.c\n", "f"), ".")])
    assert kept(tmp_path, sieve) == ["src", "src/deep", "src/deep/keep.c"]
    assert not Sieve(str(tmp_path), [(parse("*\n!**/*.c\n", "f"), ".")]).is_empty()
    assert Sieve(str(tmp_path / "src/empty"), [(parse("src\n!**/*.c\n", "f"), "src/empty")]).is_empty()


def test_several_sets_of_rules_all_exclude(tmp_path: Path) -> None:
    make(tmp_path, "d/a", "d/b", "d/c", "d/e/a")
    rules = [(parse("d/a", "f"), "d"), (from_patterns(["**/a", "b"], "--exclude"), ".")]
    assert kept(tmp_path / "d", Sieve(str(tmp_path / "d"), rules)) == ["c", "e"]


@pytest.mark.parametrize(
    ("files", "dockerfile", "expected"),
    [
        ({".dockerignore": "a"}, "Dockerfile", ".dockerignore"),
        ({".containerignore": "a"}, "Dockerfile", ".containerignore"),
        ({".containerignore": "a", ".dockerignore": "b"}, "Dockerfile", ".dockerignore"),
        ({"Dockerfile.dockerignore": "a", ".dockerignore": "b"}, "Dockerfile", "Dockerfile.dockerignore"),
        ({"Dockerfile.dockerignore": "a", ".dockerignore": "b"}, None, ".dockerignore"),
        ({"sub/x.df.dockerignore": "a"}, "sub/x.df", "x.df.dockerignore"),
        ({".dockerignore": "# nothing\n"}, "Dockerfile", None),
        ({}, "Dockerfile", None),
    ],
)
def test_which_file_counts(tmp_path: Path, files: dict[str, str], dockerfile: str | None, expected: str | None) -> None:
    for name, text in files.items():
        make(tmp_path, name)
        (tmp_path / name).write_text(text)
    path = None if dockerfile is None else str(tmp_path / dockerfile)
    found = open_context(str(tmp_path), path).ignored
    assert (found.origin if found else None) == expected
    assert open_context(str(tmp_path), path, is_filtered=False).ignored is None
