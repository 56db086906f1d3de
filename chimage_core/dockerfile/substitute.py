"""Word expansion: quotes, escapes, and `$name` or `${name...}` with all modifiers, for every instruction.

A shell-like language that is not quite the shell's: the rules are those of the Dockerfile reference and of the
expansion tables that BuildKit is tested with. A hand-written scanner of one pass, because a word holds words
(`${a:-"${b}"}`) whose end is known only by reading them.

Tried alone from the command line, this module reads JSON lines; see `main`.
"""

import enum
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from chimage_core.dockerfile.errors import ExpansionProblem
from chimage_core.dockerfile.patterns import Pattern

BLANKS = " \t\r\v\f"
"""What separates words."""

MAX_DEPTH = 25
"""How deep `${a:-${b:-…}}` may nest. Far beyond any use; it keeps hostile files from exhausting the stack."""

MAX_GROWTH = 128 * 1024
"""How many characters the variables in one word may come to. No program can be given a longer variable (Linux,
execve(2), MAX_ARG_STRLEN); it keeps `ENV a=$a$a`, forty times, from filling the memory."""

_SPECIAL = "@*#?-$!0"
"""Parameters of a shell that have no value here."""

Lookup = Callable[[str], str | None] | Mapping[str, str]
"""Where values come from; None or a missing key: unset."""


class Unset(enum.Enum):
    """What becomes of a variable that is not set, when no modifier says so."""

    EMPTY = "empty"
    """Nothing remains of it; its name is reported."""
    KEEP = "keep"
    """The text stays, and so does all else that is not the plain use of a set variable: a shell will read it later."""
    ERROR = "error"
    """Raise ExpansionProblem."""


class Expanded(NamedTuple):
    """A word after expansion."""

    value: str
    unset: tuple[str, ...] = ()
    """Names of unset variables that came out empty or were kept, each once, in order."""


class ExpandedWords(NamedTuple):
    """A text after expansion and splitting."""

    values: tuple[str, ...]
    unset: tuple[str, ...] = ()


def expand(word: str, lookup: Lookup, *, escape: str = "\\", unset: Unset = Unset.EMPTY) -> Expanded:
    """Expand one word, removing quotes and escapes. Raises ExpansionProblem, with the offset of the `$` or quote."""
    if _is_plain(word, escape):
        return Expanded(word)
    scanner = _Scanner(word, lookup, escape, unset)
    pieces = scanner.scan()
    return Expanded("".join(text for text, _ in pieces), scanner.unset_names())


def expand_words(
    text: str, lookup: Lookup, *, escape: str = "\\", unset: Unset = Unset.EMPTY, split_values: bool = False
) -> ExpandedWords:
    """Expand a text and split it at blanks outside quotes; words that come out empty vanish.

    `split_values` also splits the values of unquoted variables, as EXPOSE does. Raises as `expand`.
    """
    scanner = _Scanner(text, lookup, escape, unset, split_values=split_values)
    words, parts = list[str](), list[str]()
    for piece, may_split in scanner.scan():
        first, *others = re.split(rf"[{BLANKS}\n]", piece) if may_split else [piece]
        parts.append(first)
        for other in others:
            words.append("".join(parts))
            parts = [other]
    words.append("".join(parts))
    return ExpandedWords(tuple(word for word in words if word), scanner.unset_names())


def expand_text(text: str, lookup: Lookup, *, escape: str = "\\", unset: Unset = Unset.EMPTY) -> Expanded:
    """Expand only variables: quotes stay, and an escape character counts only before `$`.

    For bodies of heredocs, and with `Unset.KEEP` for arguments in exec form. Raises as `expand`.
    """
    scanner = _Scanner(text, lookup, escape, unset, has_quotes=False)
    pieces = scanner.scan()
    return Expanded("".join(piece for piece, _ in pieces), scanner.unset_names())


def check(word: str, *, escape: str = "\\", has_quotes: bool = True) -> None:
    """Raise ExpansionProblem if `word` cannot be expanded whatever the variables' values are."""
    if not _is_plain(word, escape):
        _Scanner(word, {}, escape, Unset.EMPTY, has_quotes=has_quotes, check_only=True).scan()


def _is_plain(word: str, escape: str) -> bool:
    # Most words are, and the scanner is slow.
    return "$" not in word and escape not in word and "'" not in word and '"' not in word


_Piece = tuple[str, bool]
"""Text, and whether blanks in it separate words."""


class _Scanner:
    """Reads one word from left to right."""

    def __init__(
        self,
        word: str,
        lookup: Lookup,
        escape: str,
        unset: Unset,
        *,
        has_quotes: bool = True,
        split_values: bool = False,
        check_only: bool = False,
    ) -> None:
        self._word = word
        self._get = lookup.get if isinstance(lookup, Mapping) else lookup
        self._escape = escape
        self._unset = unset
        self._has_quotes = has_quotes
        self._split_values = split_values
        self._check_only = check_only
        self._position = 0
        self._depth = 0
        self._growth = 0
        self._read_again = 0
        """Characters that were read in vain because they turned out to be no variable of ours."""
        self._names: dict[str, None] = {}
        # What means nothing anywhere, so that long texts are read in large steps.
        self._plain_text = re.compile(rf"""[^$"'/}}{re.escape(escape)}]+""")

    def unset_names(self) -> tuple[str, ...]:
        return tuple(self._names)

    def scan(self, stop: str | None = None, *, start: int = 0, raw_escapes: bool = False) -> list[_Piece]:
        """Read up to and over `stop`, or to the end if it is None.

        `start` is where what `stop` ends began, for messages; `raw_escapes` keeps escape characters.
        """
        word, pieces = self._word, list[_Piece]()
        while self._position < len(word):
            character = word[self._position]
            if character == stop:
                self._position += 1
                return pieces
            if character == "$":
                pieces.append((self._dollar(), self._split_values))
            elif character == self._escape:
                pieces.append((self._escaped(stop, raw_escapes), False))
            elif character in "'\"" and self._has_quotes:
                pieces.append((self._single() if character == "'" else self._double(), False))
            else:
                pieces.append((self._plain_run(), True))
        if stop is not None:
            raise ExpansionProblem(word, start, f"expected {stop} before the end")
        return pieces

    def _plain_run(self) -> str:
        """Read at least one character that means nothing here, and those after it that mean nothing anywhere."""
        start = self._position
        match = self._plain_text.match(self._word, start + 1)
        self._position = match.end() if match else start + 1
        return self._word[start : self._position]

    def _escaped(self, stop: str | None, raw_escapes: bool) -> str:
        following = self._word[self._position + 1 : self._position + 2]
        if raw_escapes:
            self._position += 1 + len(following)
            # Patterns know backslash only, whatever the file's escape character is.
            return "\\" + following
        if self._has_quotes:
            self._position += 1 + len(following)
            return following
        return self._escaped_in_text(stop)

    def _escaped_in_text(self, stop: str | None) -> str:
        # As in a here-document of the shell, but escape characters count only in a run that ends at a `$`.
        run = 1
        while self._word.startswith(self._escape, self._position + run):
            run += 1
        following = self._word[self._position + run : self._position + run + 1]
        if (following == "$" and self._unset is not Unset.KEEP) or (stop is not None and following == stop):
            self._position += run + run % 2
            return self._escape * (run // 2) + following * (run % 2)
        self._position += run
        if following == "$" and run % 2:
            self._position += 1
            return self._escape * run + "$"
        return self._escape * run

    def _single(self) -> str:
        start = self._position
        end = self._word.find("'", start + 1)
        if end < 0:
            raise ExpansionProblem(self._word, start, "single quote is not closed")
        self._position = end + 1
        return self._word[start + 1 : end]

    def _double(self) -> str:
        word, start, pieces = self._word, self._position, list[str]()
        self._position += 1
        while self._position < len(word):
            character = word[self._position]
            if character == '"':
                self._position += 1
                return "".join(pieces)
            if character == "$":
                pieces.append(self._dollar())
                continue
            following = word[self._position + 1 : self._position + 2]
            if character == self._escape and following and following in '"$' + self._escape:
                self._position += 2
                pieces.append(following)
                continue
            pieces.append(self._plain_run())
        raise ExpansionProblem(word, start, "double quote is not closed")

    def _dollar(self) -> str:
        start = self._position
        self._position += 1
        if self._word[self._position : self._position + 1] != "{":
            name = self._name()
            return self._plain(name, start) if name else "$"
        depth = self._depth
        self._depth += 1
        try:
            return self._braced(start)
        except ExpansionProblem:
            # Only the outermost level gives up: if each did, each would read the rest again, 2^depth times in all.
            if self._unset is not Unset.KEEP or depth > 0 or self._growth > MAX_GROWTH:
                raise
            return self._kept(start)
        finally:
            self._depth = depth

    def _kept(self, start: int) -> str:
        """Return text from a `$` on that is not ours; reading goes on behind it."""
        self._read_again += self._position - start
        # The text can be full of them, each of which looks like a variable up to the end.
        self._position = start + 1 if self._read_again <= len(self._word) else len(self._word)
        return self._word[start : self._position]

    def _name(self) -> str:
        word, start = self._word, self._position
        end, first = start, word[start : start + 1]
        if first.isdecimal():
            while end < len(word) and word[end].isdecimal():
                end += 1
        elif first and first in _SPECIAL:
            end += 1
        else:
            while end < len(word) and (word[end].isalpha() or word[end].isdecimal() or word[end] == "_"):
                end += 1
        self._position = end
        return word[start:end]

    def _plain(self, name: str, start: int) -> str:
        value = self._get(name)
        return self._missing(name, start) if value is None else self._grown(value, start)

    def _grown(self, value: str, start: int) -> str:
        """Return a value that becomes part of the text, unless it is too much."""
        self._growth += len(value)
        if self._growth > MAX_GROWTH:
            raise ExpansionProblem(self._word, start, f"variables come to more than {MAX_GROWTH} characters")
        return value

    def _missing(self, name: str, start: int) -> str:
        if self._unset is Unset.ERROR:
            raise ExpansionProblem(self._word, start, f"undefined variable ${name}")
        self._names.setdefault(name)
        return self._word[start : self._position] if self._unset is Unset.KEEP else ""

    def _braced(self, start: int) -> str:
        if self._depth > MAX_DEPTH:
            raise ExpansionProblem(self._word, start, f"variables nested more than {MAX_DEPTH} deep")
        self._position += 1
        name = self._name()
        modifier = self._modifier(name, start)
        if modifier == "}":
            return self._plain(name, start)
        value = self._get(name)
        if modifier[0] in "#%/":
            return self._with_pattern(name, value, modifier, start)
        is_set = value is not None and (value != "" or modifier[0] != ":")
        is_kept = value is None and self._unset is Unset.KEEP
        word = self._inner("}", start, is_used=is_set is (modifier[-1] == "+") and not is_kept)
        if is_kept:
            return self._missing(name, start)
        if modifier[-1] == "+":
            return word if is_set else ""
        if value is not None and is_set:
            return self._grown(value, start)
        if modifier[-1] == "-" or self._check_only:
            return word
        reason = word or ("is not allowed to be unset" if value is None else "is not allowed to be empty")
        raise ExpansionProblem(self._word, start, f"{name}: {reason}")

    def _modifier(self, name: str, start: int) -> str:
        """Read what follows the name in `${name`: `}`, or the operator."""
        rest = self._word[self._position : self._position + 2]
        if not rest:
            raise ExpansionProblem(self._word, start, "expected } before the end")
        if not name:
            raise ExpansionProblem(self._word, start, "bad substitution, expected a name after ${")
        if rest[0].isspace():
            raise ExpansionProblem(self._word, start, f"expected }} or a modifier after ${{{name}")
        for operator in (":-", ":+", ":?", "##", "%%", "//", "}", "-", "+", "?", "#", "%", "/"):
            if rest.startswith(operator):
                self._position += len(operator)
                return operator
        raise ExpansionProblem(self._word, start, f"unsupported modifier {rest[0]} in ${{{name}...}}")

    def _inner(self, stop: str, start: int, *, raw_escapes: bool = False, is_used: bool = True) -> str:
        """Read a word inside `${...}`; one that is not used must be well formed, but its variables do not matter."""
        if is_used:
            return "".join(text for text, _ in self.scan(stop, start=start, raw_escapes=raw_escapes))
        saved = self._unset, self._check_only, self._names
        self._unset, self._check_only, self._names = Unset.EMPTY, True, {}
        try:
            self.scan(stop, start=start, raw_escapes=raw_escapes)
        finally:
            self._unset, self._check_only, self._names = saved
        return ""

    def _with_pattern(self, name: str, value: str | None, modifier: str, start: int) -> str:
        is_used = value is not None or self._check_only
        is_replacement = modifier[0] == "/"
        word = self._inner("/" if is_replacement else "}", start, raw_escapes=True, is_used=is_used)
        replacement = self._inner("}", start, raw_escapes=True, is_used=is_used) if is_replacement else ""
        pattern = self._pattern(word, start)
        if value is None:
            return self._missing(name, start)
        self._grown(value, start)  # Whatever becomes of it: reading it takes time.
        is_double = len(modifier) == 2
        if is_replacement:
            return self._replaced(pattern, value, replacement, start, everywhere=is_double)
        shortened = pattern.without_prefix if modifier[0] == "#" else pattern.without_suffix
        return shortened(value, longest=is_double)

    def _replaced(self, pattern: Pattern, value: str, replacement: str, start: int, *, everywhere: bool) -> str:
        try:
            result = pattern.replaced(value, replacement, everywhere=everywhere, limit=MAX_GROWTH)
        except ValueError as error:
            raise ExpansionProblem(self._word, start, str(error)) from None
        return self._grown(result, start)

    def _pattern(self, word: str, start: int) -> Pattern:
        try:
            return Pattern.parse(word)
        except ValueError as error:
            raise ExpansionProblem(self._word, start, str(error)) from None


def main() -> None:
    """Expand words given as JSON lines on standard input, one JSON line of output each.

    Input: `{"word": "$a b", "env": {"a": "1"}, "split": false}`; `env` and `split` may be missing. With `split` the
    value is the list of words, values of variables split as well. Output: `{"value": ...}` or `{"error": "..."}`.
    """
    import json
    import sys

    for line in sys.stdin:
        try:
            request = json.loads(line)
            word, env = request["word"], request.get("env", {})
            if request.get("split", False):
                result: object = list(expand_words(word, env, split_values=True).values)
            else:
                result = expand(word, env).value
            answer = {"value": result}
        except ExpansionProblem as problem:
            answer = {"error": problem.message}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            answer = {"error": f"bad request: {error!r}"}
        sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
