"""Word expansion: the tables of rules, and that no word, however hostile, is slow or breaks anything else."""

import json
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chimage_core.dockerfile.errors import ExpansionProblem
from chimage_core.dockerfile.substitute import Unset, check, expand, expand_text, expand_words

ENV = {
    "PWD": "/home",
    "SHELL": "bash",
    "NULL": "",
    "한국": "korea",
    "V": "1.2.3",
    "S": "a b",
    "STAR": "xx**",
    "T": "/t/t/x",
}

WORDS = [
    # Plain text, quotes, escapes.
    ("hello", "hello"),
    ("he'll'o", "hello"),
    ("he\\'llo", "he'llo"),
    ("abc\\tdef", "abctdef"),
    ('"abc\\tdef"', "abc\\tdef"),
    ('"abc\\\\tdef"', "abc\\tdef"),
    ("'abc\\tdef'", "abc\\tdef"),
    ("hello\\", "hello"),
    ("hello\\\\", "hello\\"),
    ('"hel\'lo"', "hel'lo"),
    ("'hello\\'", "hello\\"),
    ('"a\\"b"', 'a"b'),
    ("'a\"b'", 'a"b'),
    ("''", ""),
    ("a\\ b", "a b"),
    # Names.
    ("$PWD", "/home"),
    ("he$PWD.", "he/home."),
    ("he$PWD{}llo", "he/home{}llo"),
    ("$PWDx", ""),
    ("${PWD}x", "/homex"),
    ("$한국", "korea"),
    ("$PWD$SHELL", "/homebash"),
    ("\\$PWD", "$PWD"),
    ("\\\\$PWD", "\\/home"),
    ("'$PWD'", "$PWD"),
    ('"$PWD"', "/home"),
    ('"\\$PWD"', "$PWD"),
    ("\"'$PWD'\"", "'/home'"),
    # A dollar that starts nothing; parameters of a shell.
    ("$", "$"),
    ("a$.b", "a$.b"),
    ("$ x", "$ x"),
    ('"$"', "$"),
    ("$1a", "a"),
    ("$12a", "a"),
    ("${1}a", "a"),
    ("$@a$*b$#c$?d$-e$$f$!g", "abcdefg"),
    ("${@}x", "x"),
    # Defaults and alternatives.
    ("${PWD:-w}", "/home"),
    ("${NULL:-w}", "w"),
    ("${NULL-w}", ""),
    ("${NO:-w}", "w"),
    ("${NO-w}", "w"),
    ("${PWD:+w}", "w"),
    ("${NULL:+w}", ""),
    ("${NULL+w}", "w"),
    ("${NO+w}", ""),
    ("${PWD:?w}", "/home"),
    ("${NULL?w}", ""),
    ("${NO:-}", ""),
    ("x${NO:-${NO2:-${PWD}}}y", "x/homey"),
    ("${NO:-'$PWD'}", "$PWD"),
    ('${NO:-"a } b"}', "a } b"),
    ("${NO:-a\\}b}", "a}b"),
    ('"${NO:-"q"}"', "q"),
    ("${NO:-${NULL:=}", None),
    ("${PWD:+$V}", "1.2.3"),
    # Patterns.
    ("${V#*.}", "2.3"),
    ("${V##*.}", "3"),
    ("${V%.*}", "1.2"),
    ("${V%%.*}", "1"),
    ("${V#?}", ".2.3"),
    ("${V#x}", "1.2.3"),
    ("${V%}", "1.2.3"),
    ("${STAR%%\\**}", "xx"),
    ("${STAR#\\*}", "xx**"),
    ("${V#$NULL}", "1.2.3"),
    ("${V#${NO:-1.}}", "2.3"),
    ("${V/./-}", "1-2.3"),
    ("${V//./-}", "1-2-3"),
    ("${V//[.]/-}", "1.2.3"),
    ("${T/\\/t/}", "/t/x"),
    ("${T//\\/t/$SHELL}", "bashbash/x"),
    ("${V///}", "1.2.3"),
    ("${V//*/x}", "x"),
    ("${NO#x}", ""),
    ("${NO/a/b}", ""),
    # Errors.
    ("he'llo", None),
    ('"hello', None),
    ('"hello\\"', None),
    ("he\\\\'llo", None),
    ("${", None),
    ("${}", None),
    ("${{x}}", None),
    ("${:x}", None),
    ("${:}", None),
    ("${PWD", None),
    ("${PWD:-w", None),
    ("${PWD:-'w}", None),
    ("${PWD=w}", None),
    ("${PWD:=w}", None),
    ("${V:#w}", None),
    ("${V:}", None),
    ("${V^^}", None),
    ("${V.}", None),
    ("${NO:?w}", None),
    ("${NO?w}", None),
    ("${NULL:?w}", None),
    ("${V//x}", None),
    ("${V/x", None),
    ("${V#\\x}", None),
]


@pytest.mark.parametrize(("word", "expected"), WORDS, ids=[word for word, _ in WORDS])
def test_word_expands_by_the_rules_of_the_reference(word: str, expected: str | None) -> None:
    """None: an error. Dockerfiles in the wild depend on each of these."""
    if expected is None:
        with pytest.raises(ExpansionProblem):
            expand(word, ENV)
    else:
        assert expand(word, ENV).value == expected


SPLITS = [
    ("hello", False, ["hello"]),
    ("hello  there\tyou", False, ["hello", "there", "you"]),
    ("'a b' c", False, ["a b", "c"]),
    ('a" "b c\\ d', False, ["a b", "c d"]),
    ("", False, []),
    ("  ", False, []),
    ("$NULL a '' b", False, ["a", "b"]),
    ("$S", False, ["a b"]),
    ("x$S", False, ["xa b"]),
    ("$S", True, ["a", "b"]),
    ("x${S}y", True, ["xa", "by"]),
    ('"$S" c', True, ["a b", "c"]),
    ("${NO:-a b} c", True, ["a", "b", "c"]),
]


@pytest.mark.parametrize(("text", "split_values", "expected"), SPLITS)
def test_text_is_split_outside_quotes(text: str, split_values: bool, expected: list[str]) -> None:
    """Only EXPOSE splits the values of variables; a value with a blank must not become two paths elsewhere."""
    assert list(expand_words(text, ENV, split_values=split_values).values) == expected


TEXTS = [
    ("say \"$V\" '$V'", "say \"1.2.3\" '1.2.3'"),
    ('\\$V \\n \\\\ \\"', '$V \\n \\\\ \\"'),
    ("\\\\$V \\\\\\$V", "\\1.2.3 \\$V"),
    ("it's $NO.", "it's ."),
    ('${NO:-"q"}', '"q"'),
    ("${NO:-a\\}b}", "a}b"),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_heredoc_text_keeps_quotes_and_escapes(text: str, expected: str) -> None:
    """A heredoc body is a file or a script: only variables are ours."""
    assert expand_text(text, ENV).value == expected


KEPT = [
    ("echo $i $V", "echo $i 1.2.3", ("i",)),
    ("echo ${i:-5} ${V#*.}", "echo ${i:-5} 2.3", ("i",)),
    ("$ErrorActionPreference = 'Stop'", "$ErrorActionPreference = 'Stop'", ("ErrorActionPreference",)),
    ("echo \\$V ${V^^} ${V", "echo \\$V ${V^^} ${V", ()),
    ("${x:?m} ${NULL:?m}", "${x:?m} ${NULL:?m}", ("x",)),
    ("$((1+1)) $$", "$((1+1)) $$", ("$",)),
]


@pytest.mark.parametrize(("text", "expected", "unset"), KEPT)
def test_exec_form_keeps_what_is_not_ours(text: str, expected: str, unset: tuple[str, ...]) -> None:
    """The argument may be a script of another shell, whose own variables must survive."""
    assert expand_text(text, ENV, unset=Unset.KEEP).value == expected
    assert expand_text(text, ENV, unset=Unset.KEEP).unset == unset


def test_unset_variables_are_reported_once_and_only_if_used() -> None:
    result = expand("$A ${B} $A ${C:-c} ${D+d} ${V:-$E} ${V+$F}", ENV)
    assert result.value == "   c  1.2.3 "
    assert result.unset == ("A", "B", "F")


def test_unset_variable_is_an_error_where_asked_for() -> None:
    """In FROM; but not in a default that is not used."""
    with pytest.raises(ExpansionProblem, match="undefined variable \\$os") as caught:
        expand("x:$os", ENV, unset=Unset.ERROR)
    assert caught.value.offset == 2
    assert expand("${V:-$os}", ENV, unset=Unset.ERROR).value == "1.2.3"


@pytest.mark.parametrize(
    ("word", "offset"), [("ab${", 2), ("a'b", 1), ('abc"d', 3), ("a${b:-${c=d}}", 6), ("a${b:-x", 1), ("x$a${b//c}", 3)]
)
def test_error_points_at_the_dollar_or_quote(word: str, offset: int) -> None:
    with pytest.raises(ExpansionProblem) as caught:
        check(word)
    assert caught.value.offset == offset


def test_required_variable_fails_with_its_message() -> None:
    with pytest.raises(ExpansionProblem, match="NO: set it to bash please"):
        expand("${NO:?set it to $SHELL please}", ENV)
    check("${NO:?only when expanded}")


def test_backtick_escapes_when_the_file_says_so() -> None:
    assert expand("C:\\x`$PWD`\\", ENV, escape="`").value == "C:\\x$PWD\\"
    assert expand('"a`"b\\n"', ENV, escape="`").value == 'a"b\\n'
    assert expand("${T#`/t}", ENV, escape="`").value == "/t/x"


def test_lookup_may_be_a_function() -> None:
    assert expand("$a", lambda name: name * 2).value == "aa"


def test_many_stars_do_not_take_exponential_time() -> None:
    """A regular expression that backtracks needs hours for this."""
    value = "a" * 500
    assert expand("${V##" + "*a" * 30 + "b}", {"V": value}).value == value


@pytest.mark.parametrize("unset", list(Unset))
def test_deep_nesting_is_an_error_and_not_a_crash(unset: Unset) -> None:
    for text in ("${a:-" * 2000, "${a:-" * 2000 + "}" * 2000, '"${a:-' * 2000):
        if unset is Unset.KEEP:
            assert expand_text(text, {}, unset=unset).value
        else:
            with pytest.raises(ExpansionProblem):
                expand(text, {}, unset=unset)


@settings(max_examples=300, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.text(alphabet="${}ab:-+?#%/*\\\"' `=", max_size=40), st.sampled_from(["\\", "`"]), st.sampled_from(list(Unset))
)
def test_any_word_expands_or_is_refused(word: str, escape: str, unset: Unset) -> None:
    """And `check` refuses nothing that could be expanded, and points into the word."""
    env = {"a": "a/b*a", "b": ""}
    refused = _offset_of_problem(word, escape)
    assert refused is None or 0 <= refused <= len(word)
    try:
        one = expand(word, env, escape=escape, unset=unset).value
    except ExpansionProblem:
        # Whether `?` is fulfilled, and what a pattern made of values is, depends on the values.
        assert refused is not None or unset is Unset.ERROR or {"?", "#", "%", "/"} & set(word)
        return
    assert refused is None or unset is Unset.KEEP
    words = expand_words(word, env, escape=escape, unset=unset).values
    assert "".join(words).replace(" ", "") == one.replace(" ", "")


def _offset_of_problem(word: str, escape: str) -> int | None:
    try:
        check(word, escape=escape)
    except ExpansionProblem as problem:
        return problem.offset
    return None


def test_words_can_be_tried_from_the_command_line() -> None:
    """Scripts and other implementations' test tables use it."""
    requests = [
        {"word": "${a:-b} c", "env": {}},
        {"word": "$a", "env": {"a": "x y"}, "split": True},
        {"word": "${", "env": {}},
        {"env": {}},
    ]
    done = subprocess.run(
        [sys.executable, "-m", "chimage_core.dockerfile.substitute"],
        input="".join(json.dumps(request) + "\n" for request in requests) + "no json\n",
        capture_output=True,
        text=True,
        check=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers[:2] == [{"value": "b c"}, {"value": ["x", "y"]}]
    assert [list(answer) for answer in answers[2:]] == [["error"]] * 3
