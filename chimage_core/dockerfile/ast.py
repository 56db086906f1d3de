"""What a Dockerfile says: one frozen class per instruction, with the place it came from.

Nothing here is expanded: words, values and arguments are as written, quotes and escapes included, because what a
variable means is known only when the instruction is carried out (`substitute`). Two exceptions, both of the language
itself: option values have lost their quotes and escapes, and JSON lists are decoded.

Defining these classes is what costs most at every start, so: those that add no field to their base are not decorated;
nobody compares instructions, so they have no `==` of their own; and all are represented by what they have in common,
since `text` says it all.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

Form = Literal["shell", "exec"]
"""Words of a line, or a JSON list. The reference calls them so for every instruction that has both."""

OptionValue = str | Literal[True] | tuple[str, ...]
"""`--x=value`; `--x` alone (flags only); all values, in order, of an option that may be repeated."""


class SourceRange(NamedTuple):
    """Where an instruction stands in its file. Lines and columns count from 1, columns in characters."""

    line: int
    end_line: int
    """Last physical line; continuations and heredoc bodies are part of the instruction."""
    column: int = 1
    """Of the keyword."""


class Heredoc(NamedTuple):
    """A here-document: `<<NAME` and the lines up to `NAME`."""

    name: str
    """Without quotes."""
    expand: bool
    """False if any part of the name was quoted."""
    strip_tabs: bool
    """Written `<<-NAME`: leading tabs of body lines do not count."""
    body: str
    """As it stands in the file, leading tabs included; every line ends in a newline."""

    @property
    def content(self) -> str:
        """The body as a reader of the here-document sees it: without leading tabs if `strip_tabs`."""
        return re.sub(r"(?m)^\t+", "", self.body) if self.strip_tabs else self.body


class ShellCommand(NamedTuple):
    """Text for a shell."""

    text: str
    """The joined line. Trailing blanks are kept for RUN, as the cache key has always seen them."""
    heredocs: tuple[Heredoc, ...] = ()
    lone_heredoc: bool = False
    """The whole command is one here-document: its content is the command or, if it starts with `#!`, the program."""

    @property
    def script(self) -> str:
        """What to give to the shell: the content of a lone here-document, else the line and all bodies as written."""
        if self.lone_heredoc:
            return self.heredocs[0].content
        return "\n".join([self.text, *(heredoc.body + heredoc.name for heredoc in self.heredocs)])


class ExecCommand(NamedTuple):
    """A program and its arguments, decoded from a JSON list. May be empty (`CMD []`)."""

    argv: tuple[str, ...]


Command = ShellCommand | ExecCommand


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Instruction:
    """Base class: what all instructions have."""

    name: ClassVar[str]
    """The keyword in upper case; RSYNC for NSYNC."""

    range: SourceRange
    text: str
    """The instruction without its keyword, on one line, options included; ends in ` <<...` if heredoc bodies follow."""
    options: Mapping[str, OptionValue] = field(default_factory=dict)
    """Without the dashes, in the order of first use."""

    def _option(self, name: str) -> str | None:
        value = self.options.get(name)
        return value if isinstance(value, str) else None

    def _options(self, name: str) -> tuple[str, ...]:
        value = self.options.get(name)
        return value if isinstance(value, tuple) else ()

    def _flag(self, name: str) -> bool | None:
        value = self.options.get(name)
        return value.lower() == "true" if isinstance(value, str) else None if value is None else True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class _WithCommand(Instruction):
    """What RUN, CMD and ENTRYPOINT share."""

    command: Command


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class _Value(Instruction):
    """What instructions with one value share."""

    value: str
    """The rest of the line, blanks included."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class From(Instruction):
    """Start a stage."""

    name: ClassVar[str] = "FROM"

    image: str
    """Image reference or name of an earlier stage, quotes kept."""
    alias: str | None = None
    """Name of the new stage, in lower case."""

    @property
    def platform(self) -> str | None:
        """Value of `--platform`, not expanded."""
        return self._option("platform")

    @property
    def args(self) -> tuple[tuple[str, str], ...]:
        """Names and values of all `--arg=NAME=VALUE`."""
        return tuple((name, value) for name, _, value in (arg.partition("=") for arg in self._options("arg")))


class Run(_WithCommand):
    """Run a command in the image."""

    __slots__ = ()
    name: ClassVar[str] = "RUN"

    @property
    def mounts(self) -> tuple[str, ...]:
        """Values of all `--mount`: comma-separated `key=value`, not expanded."""
        return self._options("mount")

    @property
    def network(self) -> str | None:
        """Value of `--network`."""
        return self._option("network")

    @property
    def security(self) -> str | None:
        """Value of `--security`."""
        return self._option("security")

    @property
    def devices(self) -> tuple[str, ...]:
        """Values of all `--device`."""
        return self._options("device")


class Interact(_WithCommand):
    """Let somebody type commands. No Dockerfile says that: `modify` does."""

    __slots__ = ()
    name: ClassVar[str] = "RUN"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class _Transfer(Instruction):
    """What COPY and ADD share."""

    form: Form
    sources: tuple[str, ...]
    """Without the words that open heredocs."""
    dest: str
    heredocs: tuple[Heredoc, ...] = ()
    """Each is a source file of that name."""

    @property
    def chown(self) -> str | None:
        """Value of `--chown`."""
        return self._option("chown")

    @property
    def chmod(self) -> str | None:
        """Value of `--chmod`: octal or symbolic."""
        return self._option("chmod")

    @property
    def link(self) -> bool:
        """`--link` is given and not false."""
        return self._flag("link") or False

    @property
    def excludes(self) -> tuple[str, ...]:
        """Values of all `--exclude`."""
        return self._options("exclude")


class Copy(_Transfer):
    """Copy files from the context, a stage or an image."""

    __slots__ = ()
    name: ClassVar[str] = "COPY"

    @property
    def from_(self) -> str | None:
        """Value of `--from`: stage number, stage name or image reference."""
        return self._option("from")

    @property
    def parents(self) -> bool:
        """`--parents` is given and not false."""
        return self._flag("parents") or False


class Add(_Transfer):
    """Copy files, or fetch a URL or a Git repository, or unpack an archive."""

    __slots__ = ()
    name: ClassVar[str] = "ADD"

    @property
    def checksum(self) -> str | None:
        """Value of `--checksum`."""
        return self._option("checksum")

    @property
    def keep_git_dir(self) -> bool:
        """`--keep-git-dir` is given and not false."""
        return self._flag("keep-git-dir") or False

    @property
    def unpack(self) -> bool | None:
        """`--unpack`; None if not given: then local archives are unpacked and fetched ones are not."""
        return self._flag("unpack")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Rsync(Instruction):
    """Copy with rsync(1); also spelled NSYNC. A Charliecloud extension."""

    name: ClassVar[str] = "RSYNC"

    plus: str | None
    """The letter of `+l`, `+m`, `+u`, `+z`; None if not given, which means `l`."""
    rsync_options: tuple[str, ...]
    """Words that start with a hyphen, wherever they stood before a lone `--`."""
    sources: tuple[str, ...]
    dest: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class _Pairs(Instruction):
    """What ENV and LABEL share."""

    pairs: tuple[tuple[str, str], ...]
    """Keys and values in order, at least one."""
    legacy: bool = False
    """The old form without `=`: one pair, the value is the rest of the line."""


class Env(_Pairs):
    """Set environment variables. All values see the environment before the instruction."""

    __slots__ = ()
    name: ClassVar[str] = "ENV"


class Label(_Pairs):
    """Set labels."""

    __slots__ = ()
    name: ClassVar[str] = "LABEL"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Arg(Instruction):
    """Declare build arguments."""

    name: ClassVar[str] = "ARG"

    args: tuple[tuple[str, str | None], ...]
    """Names and defaults, at least one; None: no default."""


class Workdir(_Value):
    """Set the working directory."""

    __slots__ = ()
    name: ClassVar[str] = "WORKDIR"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Shell(Instruction):
    """Set the shell of later shell-form commands."""

    name: ClassVar[str] = "SHELL"
    argv: tuple[str, ...]
    """Not empty."""


class Cmd(_WithCommand):
    """Set the default command."""

    __slots__ = ()
    name: ClassVar[str] = "CMD"


class Entrypoint(_WithCommand):
    """Set the entry point."""

    __slots__ = ()
    name: ClassVar[str] = "ENTRYPOINT"


class User(_Value):
    """Name the user who should run the image."""

    __slots__ = ()
    name: ClassVar[str] = "USER"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Expose(Instruction):
    """Name ports."""

    name: ClassVar[str] = "EXPOSE"
    ports: tuple[str, ...]
    """At least one; the value of a variable may hold several."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Volume(Instruction):
    """Name mount points."""

    name: ClassVar[str] = "VOLUME"
    form: Form
    paths: tuple[str, ...]


class StopSignal(_Value):
    """Name the signal that stops the image's program."""

    __slots__ = ()
    name: ClassVar[str] = "STOPSIGNAL"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class HealthCheck(Instruction):
    """Say how to see whether a container is well. Never acted on, so any argument is taken."""

    name: ClassVar[str] = "HEALTHCHECK"

    type: str
    """The first word: `CMD` or `NONE` in upper case; anything else as written."""
    command: Command | None = None
    """Of `CMD`, else None."""
    rest: str = ""
    """What follows a first word that is not `CMD`."""


class Maintainer(_Value):
    """Name the author. Deprecated."""

    __slots__ = ()
    name: ClassVar[str] = "MAINTAINER"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class OnBuild(Instruction):
    """Store an instruction for builds FROM this image."""

    name: ClassVar[str] = "ONBUILD"

    trigger: Instruction
    source: str
    """The trigger as the image configuration stores it: keyword, joined line, heredoc bodies. See `parse_trigger`."""


class ParseWarning(NamedTuple):
    """Something a reader of the file should know, though it is no error."""

    line: int
    text: str
    code: str
    """What kind of thing it is: `parser-directive`, `empty-continuation`, `not-json`."""


class Dockerfile(NamedTuple):
    """A Dockerfile, parsed."""

    path: str
    """As messages show it; `-` for standard input."""
    directives: Mapping[str, str]
    """Parser directives by lower-case name, first value each: `syntax`, `escape`, `check`."""
    instructions: tuple[Instruction, ...]
    warnings: tuple[ParseWarning, ...]
    """In line order."""
    escape: str = "\\"
    """The escape character: backslash or backtick. Word expansion needs it too."""
