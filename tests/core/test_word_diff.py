"""What differs between two texts, on one line."""

import time

import pytest

from chimage_core.text import word_diff


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("a b c", "a x c", "a [-b-]{+x+} c"),
        ("a b", "a b c", "a b {+c+}"),
        ("a b c", "b c", "[-a-] b c"),
        ("", "a", "{+a+}"),
        ("a", "", "[-a-]"),
        ("a  b\n", "a b", "(only blanks differ)"),
        ("a b", "c d", "[-a b-]{+c d+}"),
    ],
)
def test_words_are_marked(before: str, after: str, expected: str) -> None:
    assert word_diff(before, after) == expected


def test_of_what_is_the_same_only_the_neighbourhood_is_shown() -> None:
    words = [f"w{number}" for number in range(30)]
    changed = [*words[:15], "new", *words[16:]]
    assert word_diff(" ".join(words), " ".join(changed)) == "… w11 w12 w13 w14 [-w15-]{+new+} w16 w17 w18 w19 …"


def test_long_texts_take_no_long_time() -> None:
    """A script of thousands of lines, of which all changed a little."""
    before = " ".join(f"{number % 7} a b c d" for number in range(4000))
    after = " ".join(f"{number % 5} a b c e" for number in range(4000))
    began = time.process_time()
    assert word_diff(before, after)
    assert time.process_time() - began < 5
