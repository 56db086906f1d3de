"""Which value a variable has where: files of several stages, and what LABEL shows of it."""

from collections.abc import Sequence
from typing import NamedTuple


class Scoping(NamedTuple):
    """A file whose LABELs show values."""

    name: str
    text: str
    shown: tuple[str, ...]
    """What the LABELs of the file come to, in order."""
    build_args: tuple[str, ...] = ()


SCOPINGS: Sequence[Scoping] = (
    Scoping(
        "global without redeclaring",
        "ARG a=1\nFROM scratch\nLABEL k=$a\nFROM scratch\nLABEL k=$a\n",
        ("k='1'", "k='1'"),
    ),
    Scoping("bare ARG keeps the global value", "ARG a=1\nFROM scratch\nARG a\nLABEL k=$a\n", ("k='1'",)),
    Scoping(
        "a stage's default wins in that stage",
        "ARG a=1\nFROM scratch\nLABEL k=$a\nARG a=2\nLABEL k=$a\nFROM scratch\nLABEL k=$a\n",
        ("k='1'", "k='2'", "k='1'"),
    ),
    Scoping("defaults see what is known", "ARG a=1\nARG b=${a}2\nFROM scratch\nARG c=$b$a\nLABEL k=$c\n", ("k='121'",)),
    Scoping(
        "several in one ARG see the state before", "ARG a=1\nFROM scratch\nARG a=2 b=$a\nLABEL k=$a$b\n", ("k='21'",)
    ),
    Scoping("a child stage inherits", "FROM scratch AS s\nARG a=1\nENV b=2\nFROM s\nLABEL k=$a$b\n", ("k='12'",)),
    Scoping("a stranger does not", "FROM scratch AS s\nARG a=1\nENV b=2\nFROM scratch\nLABEL k=x$a$b\n", ("k='x'",)),
    Scoping("ENV wins over a later ARG", "FROM scratch\nENV a=1\nARG a=2\nLABEL k=$a\n", ("k='1'",)),
    Scoping("ENV wins over an earlier ARG", "FROM scratch\nARG a=2\nENV a=1\nLABEL k=$a\n", ("k='1'",)),
    Scoping("ENV from ARG", "FROM scratch\nARG a=2\nENV a=${a}1\nLABEL k=$a\n", ("k='21'",)),
    Scoping("pairs see the environment before", "FROM scratch\nENV a=1\nENV a=2 b=$a\nLABEL k=$a$b\n", ("k='21'",)),
    Scoping("old form", 'FROM scratch\nENV a "b  c"  d\nLABEL k="$a"\n', ("k='b  c  d'",)),
    Scoping("old form, escaped quotes", 'FROM scratch\nENV a \\"b\\"\nLABEL k=$a\n', ("k='\"b\"'",)),
    Scoping("values are not split", "FROM scratch\nENV a='b=c d=e'\nLABEL k=$a\n", ("k='b=c d=e'",)),
    Scoping("values are not expanded again", "FROM scratch\nENV a='$b' b=1\nLABEL k=$a\n", ("k='$b'",)),
    Scoping("keys of LABEL", "FROM scratch\nENV a=1\nLABEL \"k $a\"=v 'l$a'=w\n", ("k 1='v' l$a='w'",)),
    Scoping(
        "build argument over default", "ARG a=1\nFROM scratch\nARG b=1\nLABEL k=$a$b\n", ("k='23'",), ("a=2", "b=3")
    ),
    Scoping("build argument with equals signs", "FROM scratch\nARG a\nLABEL k=$a\n", ("k='b=c=d'",), ("a=b=c=d",)),
    Scoping("build argument is expanded", "ARG a=1\nFROM scratch\nARG b\nLABEL k=$b\n", ("k='x1'",), ("b=x$a",)),
    Scoping("empty build argument", "FROM scratch\nARG a=1\nLABEL k=x${a}${a-y}\n", ("k='x'",), ("a=",)),
    Scoping("FROM --arg", "FROM --arg=a=1 scratch\nLABEL k=$a\n", ("k='1'",)),
    Scoping("FROM --arg over a global", "ARG a=1\nFROM --arg=a=2 scratch\nLABEL k=$a\n", ("k='2'",)),
    Scoping("predefined", "FROM scratch\nLABEL k=$TAR_OPTIONS\n", ("k='--no-same-owner'",)),
    Scoping("escape directive", "# escape=`\nFROM scratch\nENV a=1 w=C:\\x\nLABEL k=`$a$w\n", ("k='$aC:\\x'",)),
)
