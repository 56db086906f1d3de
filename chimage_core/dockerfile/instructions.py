"""From the parse tree of one logical line to an instruction: what the grammar leaves open is decided here.

That is: JSON or not, words of COPY, which options there are, and whether variables can be expanded at all.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from chimage_core.dockerfile import ast, substitute
from chimage_core.dockerfile.context import Context, LineError, Token
from chimage_core.dockerfile.jsonlist import list_problem, looks_like_list, read_list
from chimage_core.dockerfile.options import read_options

Tokens = Sequence[Token]

USAGE: Mapping[str, str] = {
    "FROM": "FROM [--platform=OS/ARCH] [--arg=NAME=VALUE ...] IMAGE [AS STAGE]",
    "RUN": 'RUN [OPTION ...] COMMAND, or RUN [OPTION ...] ["PROGRAM", "ARGUMENT", ...]',
    "CMD": 'CMD COMMAND, or CMD ["PROGRAM", "ARGUMENT", ...]',
    "ENTRYPOINT": 'ENTRYPOINT COMMAND, or ENTRYPOINT ["PROGRAM", "ARGUMENT", ...]',
    "SHELL": 'SHELL ["PROGRAM", "ARGUMENT", ...]',
    "COPY": 'COPY [OPTION ...] SOURCE ... DESTINATION, or COPY [OPTION ...] ["SOURCE", ..., "DESTINATION"]',
    "ADD": 'ADD [OPTION ...] SOURCE ... DESTINATION, or ADD [OPTION ...] ["SOURCE", ..., "DESTINATION"]',
    "RSYNC": "RSYNC [+l|+m|+u|+z] [RSYNC-OPTION ...] SOURCE ... DESTINATION",
    "NSYNC": "NSYNC [+l|+m|+u|+z] [RSYNC-OPTION ...] SOURCE ... DESTINATION",
    "ENV": "ENV NAME=VALUE ..., or ENV NAME VALUE",
    "LABEL": "LABEL KEY=VALUE ..., or LABEL KEY VALUE",
    "ARG": "ARG NAME[=DEFAULT] ...",
    "WORKDIR": "WORKDIR DIRECTORY",
    "USER": "USER NAME",
    "EXPOSE": "EXPOSE PORT[/PROTOCOL] ...",
    "VOLUME": 'VOLUME DIRECTORY ..., or VOLUME ["DIRECTORY", ...]',
    "STOPSIGNAL": "STOPSIGNAL SIGNAL",
    "HEALTHCHECK": "HEALTHCHECK [OPTION ...] CMD COMMAND, or HEALTHCHECK NONE",
    "MAINTAINER": "MAINTAINER NAME",
    "ONBUILD": "ONBUILD INSTRUCTION",
}
"""Every keyword, and what follows it."""

_NO_TRIGGER = ("ONBUILD", "FROM", "MAINTAINER")

_T = TypeVar("_T", bound="ast.Copy | ast.Add")
_P = TypeVar("_P", bound="ast.Env | ast.Label")


def rule_of(keyword: str) -> str:
    """Return the grammar's rule for what follows a keyword (in upper case)."""
    return "rsync" if keyword == "NSYNC" else keyword.lower()


RULES = tuple(dict.fromkeys(map(rule_of, USAGE)))
"""All of them."""


def to_instruction(
    tokens: Tokens, context: Context, parse_trigger: Callable[[int], ast.Instruction]
) -> ast.Instruction:
    """Build the instruction of the context's keyword from what the grammar found behind it. Raises LineError.

    `parse_trigger` parses the rest of the line, from an offset on, as an instruction of its own.
    """
    if context.keyword == "ONBUILD":
        return _onbuild(tokens, context, parse_trigger)
    return _BUILDERS[rule_of(context.keyword)](tokens, context)


def _from(tokens: Tokens, context: Context) -> ast.From:
    options, rest = _options(tokens, context)
    image, *alias = rest
    context.check(image.text, image.start)
    return ast.From(
        range=context.range,
        text=context.text,
        options=options,
        image=image.text,
        alias=alias[0].text.lower() if alias else None,
    )


def _run(tokens: Tokens, context: Context) -> ast.Run:
    options, (token,) = _options(tokens, context)
    command = _command(token, context)
    if command == ast.ExecCommand(argv=()):
        raise LineError(token.start, "the list is empty, expected a program")
    return ast.Run(range=context.range, text=context.text, options=options, command=command)


def _cmd(tokens: Tokens, context: Context) -> ast.Cmd:
    return ast.Cmd(range=context.range, text=context.text, command=_command(tokens[0], context))


def _entrypoint(tokens: Tokens, context: Context) -> ast.Entrypoint:
    return ast.Entrypoint(range=context.range, text=context.text, command=_command(tokens[0], context))


def _shell(tokens: Tokens, context: Context) -> ast.Shell:
    token = tokens[0]
    argv = read_list(token.text, token.start)
    if argv is None:
        offset, message = list_problem(token.text)
        raise LineError(token.start + offset, message)
    if not argv:
        raise LineError(token.start, "the list is empty, expected a program")
    return ast.Shell(range=context.range, text=context.text, argv=argv)


def _command(token: Token, context: Context) -> ast.Command:
    argv = _list_or_warn(token, context)
    if argv is not None:
        return ast.ExecCommand(argv=argv)
    start, openers = token.start, context.line.openers
    text = context.line.text[start:]  # Of what only looks like a list, the token lacks the blanks at the end.
    is_lone = (
        len(openers) == 1
        and openers[0].start == start
        and openers[0].end == start + len(text.rstrip(substitute.BLANKS))
        and openers[0].descriptor in ("", "0")
    )
    return ast.ShellCommand(text=text, heredocs=context.heredocs, lone_heredoc=is_lone)


def _list_or_warn(token: Token, context: Context) -> tuple[str, ...] | None:
    """Return the elements of a JSON list; None for anything else, with a warning if a list was probably meant."""
    if token.type != "LIST":
        return None
    elements = read_list(token.text, token.start)
    if elements is None and looks_like_list(token.text):
        context.warnings.append(
            f"{context.keyword}: looks like a list but is not JSON, so taken as plain text: {token.text}"
        )
    return elements


def _copy(tokens: Tokens, context: Context) -> ast.Copy:
    return _transfer(ast.Copy, tokens, context)


def _add(tokens: Tokens, context: Context) -> ast.Add:
    return _transfer(ast.Add, tokens, context)


def _transfer(kind: type[_T], tokens: Tokens, context: Context) -> _T:
    options, (token,) = _options(tokens, context)
    elements = _list_or_warn(token, context)
    form: ast.Form = "shell" if elements is None else "exec"
    words = context.words(token.text, token.start) if elements is None else [(token.start, e) for e in elements]
    openers = context.line.openers
    if openers and (not words or words[-1][0] < openers[-1].start):
        raise LineError(openers[-1].start, "the destination cannot be a here-document")
    if len(words) + len(openers) < 2:
        what = "no destination" if words else "no sources"
        raise LineError(len(context.line.text), f"{what}; expected: {USAGE[context.keyword]}", is_behind=True)
    for offset, word in words:
        context.check(word, offset, exact=form == "shell")
    for opener in openers:
        context.check_body(opener)
    return kind(
        range=context.range,
        text=context.text,
        options=options,
        form=form,
        sources=tuple(word for _, word in words[:-1]),
        dest=words[-1][1],
        heredocs=context.heredocs,
    )


def _rsync(tokens: Tokens, context: Context) -> ast.Rsync:
    plus = None
    if tokens[0].type == "PLUS":
        plus = tokens[0].text[1:]
        if plus not in ("l", "m", "u", "z"):
            raise LineError(tokens[0].start, f"unknown option +{plus}; expected one of: +l, +m, +u, +z")
        tokens = tokens[1:]
    words = [token.text for token in tokens]
    for token in tokens:
        context.check(token.text, token.start)
    end = words.index("--") if "--" in words else len(words)
    paths = [word for word in words[:end] if not word.startswith("-")] + words[end + 1 :]
    if len(paths) < 2:
        what = "no destination" if paths else "no sources"
        raise LineError(len(context.line.text), f"{what}; expected: {USAGE[context.keyword]}", is_behind=True)
    return ast.Rsync(
        range=context.range,
        text=context.text,
        plus=plus,
        rsync_options=tuple(word for word in words[:end] if word.startswith("-")),
        sources=tuple(paths[:-1]),
        dest=paths[-1],
    )


def _env(tokens: Tokens, context: Context) -> ast.Env:
    return _pairs(ast.Env, tokens, context)


def _label(tokens: Tokens, context: Context) -> ast.Label:
    return _pairs(ast.Label, tokens, context)


def _pairs(kind: type[_P], tokens: Tokens, context: Context) -> _P:
    for token in tokens:
        context.check(token.text, token.start)
    legacy = tokens[0].type == "NAME"
    pairs = (
        ((tokens[0].text, tokens[1].text),)
        if legacy
        else tuple(_split_pair(token.text, context.escape) for token in tokens)
    )
    return kind(range=context.range, text=context.text, pairs=pairs, legacy=legacy)


def _arg(tokens: Tokens, context: Context) -> ast.Arg:
    args: list[tuple[str, str | None]] = []
    for token in tokens:
        context.check(token.text, token.start)
        args.append(_split_pair(token.text, context.escape) if token.type == "PAIR" else (token.text, None))
    return ast.Arg(range=context.range, text=context.text, args=tuple(args))


def _split_pair(pair: str, escape: str) -> tuple[str, str]:
    """Split at the first `=` outside quotes."""
    key, _, value = pair.partition("=")
    if not ({"'", '"', escape} & set(key)):
        return key, value
    character = re.escape(escape)
    match = re.match(rf"""(?:[^"'={character}]|{character}.|"(?:[^"{character}]|{character}.)*"|'[^']*')+""", pair)
    assert match is not None, "the grammar has matched the key"
    return match[0], pair[match.end() + 1 :]


def _workdir(tokens: Tokens, context: Context) -> ast.Workdir:
    context.check(tokens[0].text, tokens[0].start)
    return ast.Workdir(range=context.range, text=context.text, value=tokens[0].text)


def _user(tokens: Tokens, context: Context) -> ast.User:
    return ast.User(range=context.range, text=context.text, value=tokens[0].text)


def _stopsignal(tokens: Tokens, context: Context) -> ast.StopSignal:
    return ast.StopSignal(range=context.range, text=context.text, value=tokens[0].text)


def _maintainer(tokens: Tokens, context: Context) -> ast.Maintainer:
    return ast.Maintainer(range=context.range, text=context.text, value=tokens[0].text)


def _expose(tokens: Tokens, context: Context) -> ast.Expose:
    return ast.Expose(range=context.range, text=context.text, ports=tuple(token.text for token in tokens))


def _volume(tokens: Tokens, context: Context) -> ast.Volume:
    elements = _list_or_warn(tokens[0], context)
    if elements == ():
        raise LineError(tokens[0].start, "the list is empty, expected a directory")
    words = context.words(tokens[0].text, tokens[0].start) if elements is None else []
    return ast.Volume(
        range=context.range,
        text=context.text,
        form="shell" if elements is None else "exec",
        paths=tuple(word for _, word in words) if elements is None else elements,
    )


def _healthcheck(tokens: Tokens, context: Context) -> ast.HealthCheck:
    options, (token,) = _options(tokens, context)
    match = re.fullmatch(r"([^ \t\r\v\f]+)[ \t\r\v\f]*(.*)", token.text, re.DOTALL)
    assert match is not None, "the grammar has matched text"
    word, rest = match[1], match[2]
    command: ast.Command | None = None
    if word.upper() == "CMD" and rest:
        argv = read_list(rest, token.start + match.start(2)) if rest.startswith("[") else None
        command = ast.ShellCommand(text=rest) if argv is None else ast.ExecCommand(argv=argv)
    return ast.HealthCheck(
        range=context.range,
        text=context.text,
        options=options,
        type=word.upper() if word.upper() in ("CMD", "NONE") else word,
        command=command,
        rest="" if command else rest,
    )


def _onbuild(tokens: Tokens, context: Context, parse_trigger: Callable[[int], ast.Instruction]) -> ast.OnBuild:
    start = tokens[0].start
    source = context.line.text[start:]
    for keyword in _NO_TRIGGER:
        if re.match(rf"{keyword}([ \t\r\v\f]|$)", source, re.IGNORECASE):
            raise LineError(start, f"{keyword} cannot be a trigger")
    trigger = parse_trigger(start)
    if not (isinstance(trigger, ast.Run) and isinstance(trigger.command, ast.ShellCommand)):
        source = source.rstrip(substitute.BLANKS)
    bodies = [f"{heredoc.body}{heredoc.name}\n" for heredoc in context.heredocs]
    return ast.OnBuild(
        range=context.range,
        text=context.text,
        trigger=trigger,
        source="".join([source, "\n", *bodies]) if bodies else source,
    )


def _options(tokens: Tokens, context: Context) -> tuple[dict[str, ast.OptionValue], Tokens]:
    """Return the options, and the other tokens."""
    if not tokens[0].type.endswith("_OPTION"):
        return {}, tokens
    count = sum(token.type.endswith("_OPTION") for token in tokens)
    options = read_options(tokens[:count], context)
    return options, tokens[count:]


_BUILDERS: Mapping[str, Callable[[Tokens, Context], ast.Instruction]] = {
    "from": _from,
    "run": _run,
    "cmd": _cmd,
    "entrypoint": _entrypoint,
    "shell": _shell,
    "copy": _copy,
    "add": _add,
    "rsync": _rsync,
    "env": _env,
    "label": _label,
    "arg": _arg,
    "workdir": _workdir,
    "user": _user,
    "stopsignal": _stopsignal,
    "maintainer": _maintainer,
    "expose": _expose,
    "volume": _volume,
    "healthcheck": _healthcheck,
}
