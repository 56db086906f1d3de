"""The parse tables that come with the package."""

import hashlib
from pathlib import Path

import lark
import pytest

from chimage_core.dockerfile import parser, tables

LINES = [
    'RUN --mount=type=bind,source="a b" echo hi',
    'COPY --from=x ["a b", "c"]',
    "ENV a=b c='d e'",
    "ENV a b c",
    "FROM --platform=$P x AS y",
    "LABEL x=1",
    'HEALTHCHECK --interval=3s CMD ["a"]',
    "RSYNC +m --delete a b",
]


def test_tables_belong_to_the_grammar() -> None:
    """If this fails: python tools/grammar_tables.py."""
    grammar = Path(parser.__file__).with_name("grammar.lark").read_bytes()
    assert hashlib.sha256(grammar).hexdigest() == tables.GRAMMAR_SHA256


@pytest.mark.skipif(lark.__version__ != tables.LARK_VERSION, reason="another version of lark is installed")
@pytest.mark.parametrize("line", LINES)
def test_tables_parse_as_the_grammar_does(line: str) -> None:
    """They are only a faster way to the same parser."""
    loaded = lark.Lark.load({"data": tables.DATA, "memo": tables.MEMO})
    keyword, text = line.split(maxsplit=1)
    made = parser.build_grammar("\\")
    assert loaded.parse(text, start=keyword.lower()) == made.parse(text, start=keyword.lower())
