"""Options of RSYNC: which are passed on, how they are read, and why others are refused."""

import re

import pytest

from chimage_core.build.rsync import rules
from chimage_core.build.rsync.options import GROUPS, Option, OptionProblem, parse_options


def arguments(*words: str) -> list[str]:
    return [option.argument for option in parse_options(words)]


def test_groups_are_those_of_the_manual() -> None:
    metadata = ["-@=-1", "-A", "-H", "-S", "-X", "-p", "-r"]
    assert arguments(*GROUPS["m"]) == metadata
    assert arguments(*GROUPS["l"]) == [*metadata, "--links", "--safe-links"]
    assert arguments(*GROUPS["u"]) == [*metadata, "--links", "--copy-unsafe-links"]
    assert arguments(*GROUPS["z"]) == []


def test_letters_are_options_of_their_own() -> None:
    assert arguments("-avz", "-rB=4", "--exclude=a=b c") == ["-a", "-v", "-z", "-r", "-B=4", "--exclude=a=b c"]
    assert parse_options(["-B=4M"]) == (Option("block-size", "-B", "4M"),)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("-B4M", "option needs a value: -B"),
        ("--block-size", "option needs a value: --block-size"),
        ("--exclude=", "option needs a value: --exclude"),
        ("--recursive=yes", "option takes no value: --recursive=yes"),
        ("-r=", "option takes no value: -r="),
        ("-", "not an option of rsync(1): -"),
        ("--recursiv", "not a known option of rsync(1): --recursiv"),
        ("--no-such", "not a known option"),
        ("-Q", "not a known option of rsync(1): -Q"),
    ],
)
def test_words_that_are_no_options(word: str, message: str) -> None:
    with pytest.raises(OptionProblem, match=re.escape(message)):
        parse_options([word])


def test_a_misspelled_option_has_a_near_match() -> None:
    with pytest.raises(OptionProblem) as problem:
        parse_options(["--recursiv"])
    assert problem.value.hint == "did you mean --recursive?"


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("--daemon", "daemon mode"),
        ("-n", "nothing would be copied"),
        ("--dry-run", "nothing would be copied"),
        ("-rn", "nothing would be copied"),
        ("--list-only", "nothing would be copied"),
        ("--info=HELP", "nothing would be copied"),
        ("-V", "nothing would be copied"),
        ("--remove-source-files", "alter the context"),
        ("--remove-sent-files", "alter the context"),
        *((word, "no remote side") for word in ("-e=ssh", "--rsh=ssh", "--rsync-path=x", "-M=x", "--port=1", "-4")),
        *((word, "no remote side") for word in ("--server", "--sender", "--password-file=x", "--from=stage")),
        *(
            (word, "outside the destination")
            for word in ("--log-file=x", "--write-batch=x", "--only-write-batch=x", "-T=/", "--temp-dir=/")
        ),
        *((word, "outside the destination") for word in ("--partial-dir=x", "--backup-dir=../x")),
        *((f"--{word}-dest=/etc", "build cache does not know") for word in ("compare", "copy", "link")),
        ("--read-batch=x", "build cache does not know"),
        ("--write-devices", "devices"),
        ("--insecure-links", "not for an instruction"),
    ],
)
def test_options_that_are_refused(word: str, reason: str) -> None:
    with pytest.raises(OptionProblem, match=r"^disallowed rsync\(1\) option: -") as problem:
        parse_options([word])
    assert reason in problem.value.message


def test_negated_options() -> None:
    assert arguments("--no-p", "--no-perms", "--no-i-d") == ["--no-p", "--no-perms", "--no-i-d"]
    with pytest.raises(OptionProblem):
        parse_options(["--no-daemon"])


@pytest.mark.parametrize(
    ("word", "path"),
    [
        ("--exclude-from=x", "x"),
        ("--files-from=/x", "/x"),
        ("--filter=merge x y", "x y"),
        ("-f=._x", "x"),
        ("--filter=.,- x", "x"),
        ("--filter=- x", None),
        ("--filter=protect x", None),
        ("--filter=dir-merge x", None),
        ("--filter=:C", None),
        ("--exclude=. x", None),
        ("-r", None),
    ],
)
def test_which_file_an_option_reads(word: str, path: str | None) -> None:
    (option,) = parse_options([word])
    assert rules.file_of(option) == path


@pytest.mark.parametrize(
    "word", ["--exclude-from=-", "--filter=merge -", "--include-from=../x", "--filter=: /x", "--filter=dir-merge a/b"]
)
def test_files_that_no_option_may_read(word: str) -> None:
    (option,) = parse_options([word])
    with pytest.raises(OptionProblem):
        rules.file_of(option)


def test_the_path_of_a_file_can_be_replaced() -> None:
    words = [rules.with_file(option, "/p q").argument for option in parse_options(["--exclude-from=x", "-f=.,- x"])]
    assert words == ["--exclude-from=/p q", "-f=.,- /p q"]


def test_names_in_a_list() -> None:
    """As rsync reads them."""
    assert list(rules.listed_names(b"a\n#b\n;c\r\n\n/d e\n", is_nul_separated=False)) == ["a", "d e"]
    assert list(rules.listed_names(b"a\nb\0#c\0", is_nul_separated=True)) == ["a\nb", "#c"]
