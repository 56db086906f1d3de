"""Options of instructions: `--name`, `--name=value`; which instruction has which."""

import re
from collections.abc import Iterable, Mapping
from typing import Literal

from chimage_core.dockerfile.ast import OptionValue
from chimage_core.dockerfile.context import Context, LineError, Token

_Kind = Literal["value", "many", "flag"]

_HEALTH: Mapping[str, _Kind] = dict.fromkeys(
    ("interval", "timeout", "start-period", "start-interval", "retries"), "value"
)

_KNOWN: Mapping[str, Mapping[str, _Kind]] = {
    "FROM": {"platform": "value", "arg": "many"},
    "RUN": {"mount": "many", "network": "value", "security": "value", "device": "many"},
    "COPY": {
        "from": "value",
        "chown": "value",
        "chmod": "value",
        "link": "flag",
        "parents": "flag",
        "exclude": "many",
    },
    "ADD": {
        "chown": "value",
        "chmod": "value",
        "link": "flag",
        "keep-git-dir": "flag",
        "checksum": "value",
        "unpack": "flag",
        "exclude": "many",
    },
    "HEALTHCHECK": _HEALTH,
}


def read_options(tokens: Iterable[Token], context: Context) -> dict[str, OptionValue]:
    """Return options by name, quotes and escapes removed. Raises LineError for unknown, repeated, malformed ones."""
    known = _KNOWN.get(context.keyword, {})
    options: dict[str, OptionValue] = {}
    for token in tokens:
        offset = token.start
        name, has_value, raw_value = token.text[2:].partition("=")
        kind = known.get(name)
        if kind is None:
            raise LineError(offset, unknown_option(context.keyword, name))
        if name in options and kind != "many":
            raise LineError(offset, f"repeated option --{name}")
        if not has_value and kind == "flag":
            options[name] = True
            continue
        value_offset = offset + len(name) + 3
        value = _unquoted(raw_value, context.escape)
        if not value:
            missing = f"option --{name} needs a value: --{name}=VALUE"
            raise LineError(value_offset if has_value else offset, missing, is_behind=bool(has_value))
        _check_value(name, kind, value, value_offset)
        context.check(value, value_offset + max(raw_value.find("$"), 0), exact=False)
        options[name] = (*_earlier(options, name), value) if kind == "many" else value
    return options


def unknown_option(keyword: str, name: str) -> str:
    """Return the message for an option that `keyword` does not have."""
    import difflib

    known = _KNOWN.get(keyword, {})
    message = f"invalid option --{name}"
    near = difflib.get_close_matches(name, known, 1)
    if near:
        return f"{message}; did you mean --{near[0]}?"
    if known:
        return f"{message}; expected one of: {', '.join(f'--{option}' for option in known)}"
    return f"{message}; this instruction has no options"


def _check_value(name: str, kind: _Kind, value: str, offset: int) -> None:
    if kind == "flag" and value.lower() not in ("true", "false"):
        raise LineError(offset, f"option --{name} takes true or false, not {value}")
    if name == "arg" and not re.match("[^=]+=", value):
        raise LineError(offset, f"expected --arg=NAME=VALUE, not --arg={value}")


def _earlier(options: Mapping[str, OptionValue], name: str) -> tuple[str, ...]:
    value = options.get(name, ())
    return value if isinstance(value, tuple) else ()


def _unquoted(word: str, escape: str) -> str:
    result, quote, is_escaped = [], "", False
    for character in word:
        if is_escaped:
            result.append(character)
            is_escaped = False
        elif character == escape:
            is_escaped = True
        elif quote:
            if character == quote:
                quote = ""
            else:
                result.append(character)
        elif character in "'\"":
            quote = character
        else:
            result.append(character)
    return "".join(result)
