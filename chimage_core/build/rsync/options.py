"""Options of rsync(1): all that RSYNC lets through, and why it refuses the others.

rsync runs on the host, as us. So only options are passed on of which it is known that they neither write outside the
destination nor read what a cache lookup cannot know of; those of later versions have to be added here. A value is
always behind `=`. Sources: ch-image manual, "RSYNC", "Arguments" and "Disallowed rsync(1) features"; rsync(1) 3.5.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

Kind = Literal["flag", "value", "file", "filter"]

_METADATA = ("-@=-1", "-A", "-H", "-S", "-X", "-p", "-r")
GROUPS: dict[str, tuple[str, ...]] = {
    "m": _METADATA,
    "l": (*_METADATA, "--links", "--safe-links"),
    "u": (*_METADATA, "--links", "--copy-unsafe-links"),
    "z": (),
}
"""What the letter of the instruction option stands for."""
DEFAULT_GROUP = "l"

_SHORT = {
    "v": "verbose", "q": "quiet", "c": "checksum", "a": "archive", "r": "recursive", "R": "relative", "b": "backup",
    "u": "update", "d": "dirs", "l": "links", "L": "copy-links", "k": "copy-dirlinks", "K": "keep-dirlinks",
    "H": "hard-links", "p": "perms", "E": "executability", "A": "acls", "X": "xattrs", "o": "owner", "g": "group",
    "D": "D", "t": "times", "U": "atimes", "N": "crtimes", "O": "omit-dir-times", "J": "omit-link-times",
    "S": "sparse", "n": "dry-run", "W": "whole-file", "x": "one-file-system", "B": "block-size", "e": "rsh",
    "I": "ignore-times", "@": "modify-window", "T": "temp-dir", "y": "fuzzy", "z": "compress", "C": "cvs-exclude",
    "f": "filter", "F": "F", "0": "from0", "s": "secluded-args", "8": "8-bit-output", "h": "human-readable", "P": "P",
    "i": "itemize-changes", "M": "remote-option", "m": "prune-empty-dirs", "4": "ipv4", "6": "ipv6", "V": "version",
}  # fmt: skip

_FLAG_NAMES = (
    "8-bit-output D F P acls append append-verify archive atimes backup checksum compress copy-dirlinks copy-links "
    "copy-unsafe-links crtimes cvs-exclude del delay-updates delete delete-after delete-before delete-delay "
    "delete-during delete-excluded delete-missing-args devices dirs drop-D executability existing fake-super force "
    "from0 fsync fuzzy group hard-links human-readable i-d i-r ignore-errors ignore-existing ignore-missing-args "
    "ignore-non-existing ignore-times implied-dirs inc-recursive inplace itemize-changes keep-dirlinks links mkpath "
    "munge-links numeric-ids old-args old-d old-dirs omit-dir-times omit-link-times one-file-system open-noatime owner "
    "partial perms preallocate progress protect-args prune-empty-dirs quiet recursive relative safe-links "
    "secluded-args size-only sparse specials stats super times trust-sender update verbose whole-file xattrs"
)
_VALUE_NAMES = (
    "block-size bwlimit cc checksum-choice checksum-seed chmod chown compress-choice compress-level compress-threads "
    "debug exclude groupmap iconv include info max-alloc max-delete max-size min-size modify-window out-format outbuf "
    "protocol skip-compress stderr stop-after stop-at suffix time-limit timeout usermap zc zl zt"
)
_FLAGS, _VALUES = frozenset(_FLAG_NAMES.split()), frozenset(_VALUE_NAMES.split())
_FILES = frozenset(("exclude-from", "include-from", "files-from"))

_REFUSED = {
    "there is no remote side, RSYNC copies from the context only": (
        "address blocking-io config contimeout early-input from ipv4 ipv6 no-motd password-file port remote-option rsh "
        "rsync-path sender server sockopts"
    ),
    "daemon mode does not make sense for building an image": "daemon",
    "nothing would be copied": "dry-run help list-only version",
    "it would alter the context": "remove-sent-files remove-source-files",
    "it would write outside the destination": (
        "backup-dir log-file log-file-format only-write-batch partial-dir temp-dir write-batch"
    ),
    "it reads what the build cache does not know of": "compare-dest copy-dest link-dest read-batch",
    "contents of devices have no place in an image": "copy-devices write-devices",
    "whose files are written, and where, is not for an instruction to say": "confine-root copy-as insecure-links",
}
_REASONS = {name: reason for reason, names in _REFUSED.items() for name in names.split()}


class OptionProblem(Exception):
    """An option that RSYNC does not take."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Option(NamedTuple):
    """One option."""

    name: str
    """The long name without dashes, also if the letter was given; of letters without one, the letter."""
    word: str
    """As rsync gets it, without value: `-B`, `--block-size`."""
    value: str | None = None

    @property
    def argument(self) -> str:
        """As rsync gets it."""
        return self.word if self.value is None else f"{self.word}={self.value}"

    @property
    def kind(self) -> Kind:
        """What its value is."""
        if self.name == "filter":
            return "filter"
        return "file" if self.name in _FILES else "value" if self.name in _VALUES else "flag"


def parse_options(words: Iterable[str]) -> tuple[Option, ...]:
    """Return options one by one: of `-rB=4M`, both. Raises OptionProblem."""
    return tuple(option for word in words for option in _parse_word(word))


def _parse_word(word: str) -> list[Option]:
    if word.startswith("--"):
        name, equals, value = word[2:].partition("=")
        return [_checked(Option(name, f"--{name}", value if equals else None))]
    letters, equals, value = word[1:].partition("=")
    if not letters:
        raise OptionProblem(f"not an option of rsync(1): {word}")
    options = [Option(_SHORT.get(letter, letter), f"-{letter}") for letter in letters]
    if equals:
        options[-1] = options[-1]._replace(value=value)
    return [_checked(option) for option in options]


def _checked(option: Option) -> Option:
    name, word = option.name, option.word
    if name in _REASONS:
        hint = "COPY --from copies from other stages and images" if name == "from" else None
        raise OptionProblem(f"disallowed rsync(1) option: {word}: {_REASONS[name]}", hint)
    if name in ("info", "debug") and "help" in (option.value or "").lower():
        raise OptionProblem(f"disallowed rsync(1) option: {option.argument}: nothing would be copied")
    if option.kind != "flag":
        if not option.value:
            raise OptionProblem(
                f"option needs a value: {word}", f"write {word}=VALUE: only what is behind the “=” is the option’s"
            )
        return option
    if not _is_flag(name):
        raise OptionProblem(f"not a known option of rsync(1): {word}", _near(name))
    if option.value is not None:
        raise OptionProblem(f"option takes no value: {option.argument}")
    return option


def _is_flag(name: str) -> bool:
    if name in _FLAGS:
        return True
    if not name.startswith("no-"):
        return False
    negated = _SHORT.get(name[3:], name[3:])
    return negated in _FLAGS or negated in _VALUES


def _near(name: str) -> str | None:
    import difflib

    near = difflib.get_close_matches(name, (*_FLAGS, *_VALUES, *_FILES, "filter"), 1)
    return f"did you mean --{near[0]}?" if near else None
