"""The exec form: text in brackets that may be a JSON list of strings, and may be something else.

JSON as Go reads it, not as Python does by default: no NaN, and half a surrogate pair becomes U+FFFD.
"""

import json
import re

from chimage_core.dockerfile.context import LineError

# A first element in quotes, then a comma; or one element without blanks inside the brackets, which no shell test has.
_LOOKS_LIKE_LIST = r"""\[\s*(?:"[^"]*"|'[^']*')\s*,|\[(?:"[^"]*"|'[^']*')\]\s*$"""
_SURROGATE = "[\ud800-\udfff]"
_BLANK = " \t\r\v\f"


def read_list(text: str, offset: int) -> tuple[str, ...] | None:
    """Return the elements, or None if `text` is no JSON list.

    `offset` is where `text` begins in its line. Raises LineError at an element that is no string, or that holds a NUL.
    """
    try:
        elements = _load(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(elements, list):
        return None
    for index, element in enumerate(elements):
        if not isinstance(element, str):
            raise LineError(offset + _start(text, index), f"a list holds strings only, not {json.dumps(element)[:40]}")
        if "\0" in element:
            raise LineError(offset + _start(text, index), "a NUL cannot be passed to a program")
    return tuple(re.sub(_SURROGATE, "\ufffd", element) for element in elements)


def list_problem(text: str) -> tuple[int, str]:
    """Return offset and message for `text` that had to be a JSON list and is none."""
    try:
        _load(text)
    except json.JSONDecodeError as error:
        return error.pos, f"not a JSON list: {error.msg[:1].lower()}{error.msg[1:]}"
    except (ValueError, RecursionError):
        pass
    return 0, "not a JSON list"


def looks_like_list(text: str) -> bool:
    """Say whether text that is no JSON list was probably meant to be one: `['a', 'b']`."""
    return re.match(_LOOKS_LIKE_LIST, text) is not None and text.rstrip(_BLANK).endswith("]")


def _load(text: str) -> object:
    return json.loads(text, parse_constant=_refuse)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _start(text: str, index: int) -> int:
    """Return the offset of an element of a list that is known to be JSON."""
    decoder, position = json.JSONDecoder(), 1
    for _ in range(index):
        _, position = decoder.raw_decode(text, _skip(text, position))
        position = text.index(",", position) + 1
    return _skip(text, position)


def _skip(text: str, position: int) -> int:
    while text[position] in " \t\r\n":
        position += 1
    return position
