"""Write chimage_core/dockerfile/tables.py: the parse tables that lark makes of grammar.lark.

Making them takes longer than everything else in a build that finds all its steps in the cache, so they are made once,
here. Run this after a change of the grammar or of lark's version in constraints.txt; a test tells if it was forgotten.
"""

import hashlib
import pprint
from pathlib import Path

import lark
from lark.grammar import Rule
from lark.lexer import TerminalDef

from chimage_core.dockerfile.parser import build_grammar

DOCKERFILE = Path(__file__).parent.parent / "chimage_core" / "dockerfile"
HEADER = '''"""Parse tables of grammar.lark. Made by tools/grammar_tables.py: not to be edited."""

# fmt: off
# ruff: noqa: E501
from typing import Any

'''


def tables() -> str:
    """Return the text of the module."""
    data, memo = build_grammar("\\").memo_serialize([TerminalDef, Rule])
    # Paths of this machine are no part of the tables.
    data["options"]["source_path"] = None
    data_text, memo_text = (pprint.pformat(value, width=200, compact=True) for value in (data, memo))
    grammar = hashlib.sha256((DOCKERFILE / "grammar.lark").read_bytes()).hexdigest()
    return (
        f"{HEADER}LARK_VERSION = {lark.__version__!r}\nGRAMMAR_SHA256 = {grammar!r}\n"
        f"DATA: dict[str, Any] = {data_text}\nMEMO: dict[int, Any] = {memo_text}\n"
    )


if __name__ == "__main__":
    (DOCKERFILE / "tables.py").write_text(tables())
