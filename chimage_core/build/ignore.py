"""Which files do not count: the rules of `.dockerignore`, and of `COPY --exclude`.

Per line one pattern of `*`, `?`, `[a-z]` within a name and `**` for any number of directories; `!` in front makes an
exception; the last rule that matches a path or a directory above it decides. Rules are matched name by name, from the
top down: a `Place` knows which of them can still match below a directory, so most files cost one look into a dict, and
a directory below which no exception can match need not be entered. Source: Docker's reference, ".dockerignore file".
"""

import os
import posixpath
import re
from collections.abc import Iterable
from typing import NamedTuple

from chimage_core.errors import ContextError

_ANY_DEPTH = "**"
_Item = tuple[int, int]
"""A rule, and which part of its pattern the next name has to match."""


class Rule(NamedTuple):
    """One pattern."""

    pattern: str
    """As written."""
    line: int
    is_exception: bool


class Place(NamedTuple):
    """A path, as the rules see it."""

    state: "_State"
    rule: int
    """Number of the rule that decides so far; -1: none has matched."""


class IgnoreRules:
    """Rules of one file, or of one instruction. Never changes, as far as others can see."""

    def __init__(self, rules: Iterable[Rule], origin: str) -> None:
        """`origin` names the file, or the option, for messages. Raises ContextError for a bad pattern."""
        self.origin = origin
        self.rules: list[Rule] = []
        self._parts: list[list[str]] = []
        for rule in rules:
            parts = _parts_of(rule, origin)
            if parts:
                self.rules.append(rule)
                self._parts.append(parts)
        self._states: dict[frozenset[_Item], _State] = {}
        self.top = Place(self.state([(number, 0) for number in range(len(self.rules))]), -1)
        """The root of the tree that the rules are about."""

    def enter(self, place: Place, name: str) -> Place:
        """Return the place of an entry of a directory."""
        state = place.state
        if not state.items:
            return place
        matched = state.matching(name)
        if not matched:
            return Place(state.otherwise, place.rule)
        deciding, items = place.rule, list(state.staying)
        for number, at in matched:
            if at + 1 == len(self._parts[number]):
                deciding = max(deciding, number)
            else:
                items.append((number, at + 1))
        return Place(self.state(items), deciding)

    def at(self, path: str) -> Place:
        """Return the place of a path relative to the root, without `.` and `..`; the root itself is `.`."""
        place = self.top
        for name in path.split("/") if path != "." else ():
            place = self.enter(place, name)
        return place

    def excludes(self, place: Place) -> bool:
        """Return whether what is there does not count, unless something below it does."""
        return place.rule >= 0 and not self.rules[place.rule].is_exception

    def may_include_below(self, place: Place) -> bool:
        """Return whether an exception can match below a directory that is excluded."""
        return place.state.last_exception > place.rule

    def told(self, place: Place) -> str:
        """Return where the rule stands that decides, and its text."""
        rule = self.rules[place.rule]
        return f"{self.origin}:{rule.line}: {rule.pattern}" if rule.line else f"{self.origin}={rule.pattern}"

    def state(self, items: Iterable[_Item]) -> "_State":
        """Return the state of these items, and of those that they stand for. There is one object for each."""
        closed = set(items)
        closed |= {(number, at + 1) for number, at in closed if self._parts[number][at] == _ANY_DEPTH}
        key = frozenset(closed)
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = _State(self, key, self._parts)
        return state


class _State:
    """What can still match below a directory."""

    __slots__ = ("_literals", "_otherwise", "_owner", "_wild", "_wilds", "items", "last_exception", "staying")

    def __init__(self, owner: IgnoreRules, items: frozenset[_Item], parts: list[list[str]]) -> None:
        self.items = items
        self.staying: list[_Item] = []
        """Those that any name matches without getting further."""
        self.last_exception = max((number for number, _ in items if owner.rules[number].is_exception), default=-1)
        self._owner = owner
        self._otherwise: _State | None = None
        self._literals: dict[str, list[_Item]] = {}
        self._wilds: list[tuple[re.Pattern[str], _Item]] = []
        for item in items:
            part = parts[item[0]][item[1]]
            literal = _literal(part)
            if part == _ANY_DEPTH:
                self.staying.append(item)
            elif literal is not None:
                self._literals.setdefault(literal, []).append(item)
            else:
                self._wilds.append((re.compile(_expression(part), re.DOTALL), item))
        # All at once: most names match none of them.
        every = "|".join(expression.pattern for expression, _ in self._wilds)
        self._wild = re.compile(every, re.DOTALL).fullmatch if self._wilds else None

    @property
    def otherwise(self) -> "_State":
        """The state below a directory whose name nothing matches."""
        if self._otherwise is None:
            self._otherwise = self._owner.state(self.staying)
        return self._otherwise

    def matching(self, name: str) -> list[_Item]:
        """Return what a name matches, and gets further by it."""
        found = self._literals.get(name, [])
        if self._wild is not None and self._wild(name):
            found = found + [item for expression, item in self._wilds if expression.fullmatch(name)]
        return found


class Sieve:
    """Says for the entries of a directory tree, asked from the top down, which to leave out with all that is below.

    A directory that is excluded stays if something below it counts: an exception needs its directories.
    """

    def __init__(self, top: str, rules: Iterable[tuple[IgnoreRules, str]]) -> None:
        """`top` is the host path of a directory; each set of rules comes with the path of `top` as it sees it."""
        self._top = top
        self._inside = {"": [(each, each.at(path)) for each, path in rules]}
        """Of directories that were asked for: how each set of rules sees them."""
        self._counts: dict[str, bool] = {}
        """Of directories that were looked into: is there something in it that counts?"""

    def __call__(self, path: str, is_directory: bool) -> bool:
        """Return whether to leave out an entry by its path relative to the top. Raises OSError."""
        parent, _, name = path.rpartition("/")
        is_excluded = is_hopeless = False
        here = []
        for rules, above in self._inside[parent]:
            place = rules.enter(above, name)
            here.append((rules, place))
            if place.rule >= 0 and rules.excludes(place):
                is_excluded = True
                is_hopeless = is_hopeless or not rules.may_include_below(place)
        if is_directory:
            self._inside[path] = here
        return is_excluded and (not is_directory or is_hopeless or not self._has_content(path))

    def is_empty(self) -> bool:
        """Return whether nothing at all in the top directory counts. Raises OSError."""
        return not self._has_content("")

    def _has_content(self, path: str) -> bool:
        known = self._counts.get(path)
        if known is None:
            prefix = f"{path}/" if path else ""
            with os.scandir(os.path.join(self._top, path)) as entries:
                listed = [(prefix + entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
            known = self._counts[path] = any(not self(below, is_directory) for below, is_directory in listed)
        return known


def parse(text: str, origin: str) -> IgnoreRules:
    """Return the rules of an ignore file. Raises ContextError for a pattern that makes no sense."""
    rules = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        if line.strip() and not line.startswith("#"):
            rules.append(_rule(line.strip(), number))
    return IgnoreRules(rules, origin)


def from_patterns(patterns: Iterable[str], origin: str) -> IgnoreRules:
    """Return rules that were given one by one, as by `COPY --exclude`. Raises ContextError."""
    return IgnoreRules([_rule(pattern, 0) for pattern in patterns], origin)


def _rule(text: str, line: int) -> Rule:
    return Rule(text, line, text.startswith("!"))


def _parts_of(rule: Rule, origin: str) -> list[str]:
    """Return the parts that names of a path are compared with; none for a pattern that stands for nothing."""
    written = rule.pattern.removeprefix("!").strip()
    if not written:
        raise _bad(rule, origin, "nothing behind “!”")
    path = posixpath.normpath(written).lstrip("/")
    if path == ".":  # For historical reasons, as the reference says.
        return []
    parts: list[str] = []
    for part in path.split("/"):
        if part.startswith(_ANY_DEPTH) and parts[-1:] != [_ANY_DEPTH]:
            parts.append(_ANY_DEPTH)
        if part != _ANY_DEPTH:
            # `**.o` is any name that ends so, at any depth.
            parts.append(part.removeprefix("*") if part.startswith(_ANY_DEPTH) else part)
    if parts[-1] == _ANY_DEPTH:  # Whatever is in a directory: with that, all below is said, too.
        parts[-1] = "*"
    for part in parts:
        try:
            re.compile(_expression(part))
        except (ValueError, re.error) as error:
            raise _bad(rule, origin, str(error)) from None
    return parts


def _bad(rule: Rule, origin: str, problem: str) -> ContextError:
    place = f"{origin}:{rule.line}" if rule.line else origin
    return ContextError(
        f"{place}: bad pattern: {rule.pattern}: {problem}", hint="“\\” in front makes a character plain"
    )


def _literal(part: str) -> str | None:
    return None if any(character in part for character in "*?[\\") else part


def _expression(part: str) -> str:
    """Return the regular expression that a whole name has to match. Raises ValueError."""
    pieces = [""]
    at = 0
    while at < len(part):
        character = part[at]
        at += 1
        if character == "*":
            pieces.append("")
        elif character == "?":
            pieces[-1] += "."
        elif character == "[":
            text, at = _character_class(part, at)
            pieces[-1] += text
        elif character == "\\":
            if at == len(part):
                raise ValueError("“\\” at the end")
            pieces[-1] += re.escape(part[at])
            at += 1
        else:
            pieces[-1] += re.escape(character)
    if len(pieces) == 1:
        return pieces[0]
    # Atomic: the first place where a piece fits is as good as any other, and many stars must not take for ever.
    middle = "".join(f"(?>.*?{piece})" for piece in pieces[1:-1] if piece)
    return f"{pieces[0]}{middle}.*{pieces[-1]}"


def _character_class(part: str, at: int) -> tuple[str, int]:
    """Return the expression of what is between brackets, and where it ends; `at` is behind the opening one."""
    negated = part[at : at + 1] == "^"
    at += negated
    text = ""
    while at < len(part) and part[at] != "]":
        character = part[at]
        if character == "\\":
            at += 1
            if at == len(part):
                break
            text += re.escape(part[at])
        else:
            text += "-" if character == "-" else re.escape(character)
        at += 1
    if at >= len(part):
        raise ValueError("no “]” for “[”")
    if not text:
        raise ValueError("nothing between “[” and “]”")
    return f"[{'^' if negated else ''}{text}]", at + 1
