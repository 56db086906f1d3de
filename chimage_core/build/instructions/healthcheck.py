"""The argument of HEALTHCHECK, as image configurations have it.

Source: Docker Image Specification v1.3, "Healthcheck"; durations as Go's time.ParseDuration reads them.
"""

import re
from fractions import Fraction
from typing import Any

from chimage_core.build.scope import Expander
from chimage_core.dockerfile.ast import ExecCommand, HealthCheck

_DURATIONS = {
    "interval": "Interval",
    "timeout": "Timeout",
    "start-period": "StartPeriod",
    "start-interval": "StartInterval",
}
"""Keys of options."""
_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_PART = re.compile(r"([0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})(ns|us|µs|ms|s|m|h)")
_LEAST = 10**6
"""Durations of less than a millisecond are refused, but for 0, which means: inherit."""
_LONGEST = 2**63


def read(instruction: HealthCheck, expander: Expander) -> dict[str, Any]:
    """Return the `Healthcheck` object. Raises ValueError if the argument makes no sense."""
    if instruction.type == "NONE":
        if instruction.rest or instruction.options:
            raise ValueError("NONE takes no argument and no options")
        return {"Test": ["NONE"]}
    command = instruction.command
    if command is None:
        raise ValueError("expected NONE, or CMD and a command")
    if isinstance(command, ExecCommand):
        if not command.argv:
            raise ValueError("the list is empty")
        test = ["CMD", *map(expander.expand_variables, command.argv)]
    else:
        test = ["CMD-SHELL", command.text.strip()]
    check: dict[str, Any] = {"Test": test}
    for option, value in instruction.options.items():
        text = expander.expand(str(value))
        if option == "retries":
            if not re.fullmatch("[0-9]{1,9}", text):
                raise ValueError(f"--retries: expected a number, not {text!r}")
            check["Retries"] = int(text)
        else:
            check[_DURATIONS[option]] = _duration(option, text)
    return check


def _duration(option: str, text: str) -> int:
    """Read `1m30s` as nanoseconds."""
    nanoseconds = sum(Fraction(number) * _NANOSECONDS[unit] for number, unit in _PART.findall(text))
    if text != "0" and (not text or _PART.sub("", text)):
        raise ValueError(f"--{option}: expected a duration such as 1m30s, not {text!r}")
    if 0 < nanoseconds < _LEAST or nanoseconds >= _LONGEST:
        raise ValueError(f"--{option}: too short or too long: {text}")
    return int(nanoseconds)
