"""Patterns of `${name#pattern}` and its kin: `*`, `?` and backslash, nothing else (no brackets).

A regular expression that backtracks would take hours for `*a*a*a*a*b`. Here a pattern is cut at its stars. Where each
part occurs in the value is a set of places, kept as the bits of one number, so that a part of m characters in a value
of n costs m operations on n bits, which is next to nothing. Then the parts are put one after the other, each at the
first place it can have.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

_ANY = "?"
_STAR = "*"

_Part = tuple[str | None, ...]
"""Characters between two stars; None: any."""


class Pattern(NamedTuple):
    """A pattern, parsed."""

    parts: tuple[_Part, ...]
    """What stands between the stars: at least one part, and any of them may be empty."""

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """Read a pattern. Raises ValueError for a backslash before anything but `*`, `?`, `/`, `}` and backslash."""
        parts: list[list[str | None]] = [[]]
        characters = iter(text)
        for character in characters:
            if character == "\\":
                escaped = next(characters, "")
                if escaped not in tuple("*?\\/}"):
                    raise ValueError(f"invalid escape \\{escaped} in a pattern")
                parts[-1].append(escaped)
            elif character == _STAR:
                parts.append([])
            else:
                parts[-1].append(None if character == _ANY else character)
        # Two stars mean what one means.
        inner = [part for part in parts[1:-1] if part]
        return cls(tuple(map(tuple, [parts[0], *inner, *parts[1:][-1:]])))

    def without_prefix(self, value: str, *, longest: bool) -> str:
        """Return `value` without the shortest or longest prefix that matches; all of it if none does."""
        matcher = _Matcher(self.parts, value)
        ends = matcher.ends(0) if matcher.can_begin(0) else None
        return value if ends is None else value[ends[longest] :]

    def without_suffix(self, value: str, *, longest: bool) -> str:
        """Return `value` without the shortest or longest suffix that matches; all of it if none does."""
        mirrored = Pattern(tuple(part[::-1] for part in reversed(self.parts)))
        return mirrored.without_prefix(value[::-1], longest=longest)[::-1]

    def replaced(self, value: str, replacement: str, *, everywhere: bool, limit: int) -> str:
        """Return `value` with the first match replaced, or every one; the longest at its place.

        Raises ValueError if the result would have more than `limit` characters.
        """
        matches = list(self._matches(value)) if everywhere else [*self._matches(value, most=1)]
        if len(value) + len(matches) * len(replacement) - sum(end - start for start, end in matches) > limit:
            raise ValueError(f"the text grows to more than {limit} characters")
        result, copied = [], 0
        for start, end in matches:
            result += [value[copied:start], replacement]
            copied = end
        return "".join([*result, value[copied:]])

    def _matches(self, value: str, *, most: int | None = None) -> Iterator[tuple[int, int]]:
        """Yield begin and end of matches from left to right that do not overlap, at most so many."""
        matcher = _Matcher(self.parts, value)
        copied, found = 0, 0
        for start in matcher.begins():
            if start < copied:
                continue
            ends = matcher.ends(start)
            if ends is None or found == most:  # What does not fit here does not fit further on.
                return
            end = ends[True]
            # An empty match right after another one would insert the replacement twice.
            if not (end == start == copied and start > 0):
                yield start, end
                found += 1
                copied = end


class _Matcher:
    """A pattern and the value that it is looked for in."""

    def __init__(self, parts: tuple[_Part, ...], value: str) -> None:
        self._parts = parts
        self._places = _Places(value)

    @functools.cached_property
    def _occurrences(self) -> list[int]:
        return [self._places.of_part(part) for part in self._parts]

    def can_begin(self, start: int) -> bool:
        """Say whether the first part is there."""
        return bool(self._occurrences[0] >> start & 1)

    def begins(self) -> Iterator[int]:
        """Yield all places where the first part is, in order."""
        return (place for place, bit in enumerate(reversed(bin(self._occurrences[0])[2:])) if bit == "1")

    def ends(self, start: int) -> tuple[int, int] | None:
        """Return the first and the last end of a match, given that the first part is at `start`; None: no match."""
        end = start + len(self._parts[0])
        if len(self._parts) == 1:
            return end, end
        for part, occurrences in zip(self._parts[1:], self._occurrences[1:], strict=True):
            end = _first(occurrences, end)
            if end < 0:
                return None
            end += len(part)
        last = self._occurrences[-1].bit_length() - 1
        return end, last + len(self._parts[-1])


class _Places:
    """Where characters are in a value: the bits of one number."""

    def __init__(self, value: str) -> None:
        self._length = len(value)
        self._lists: dict[str, list[int]] = {}
        for place, character in enumerate(value):
            self._lists.setdefault(character, []).append(place)
        self._of_character: dict[str, int] = {}

    def of_part(self, part: _Part) -> int:
        """Return the set of places where a part begins."""
        found = (1 << max(self._length + 1 - len(part), 0)) - 1
        for offset, character in enumerate(part):
            if not found:
                break
            if character is not None:
                found &= self._of(character) >> offset
        return found

    def _of(self, character: str) -> int:
        if character not in self._of_character:
            bits = bytearray(self._length // 8 + 1)
            for place in self._lists.get(character, ()):
                bits[place // 8] |= 1 << place % 8
            self._of_character[character] = int.from_bytes(bits, "little")
        return self._of_character[character]


def _first(places: int, start: int) -> int:
    """Return the first place from `start` on; -1: there is none."""
    rest = places >> start
    return start + (rest & -rest).bit_length() - 1 if rest else -1
