"""Each rule: a file that it has something to say of, and one that is nearly the same, where it is silent."""

import itertools
from pathlib import Path
from typing import NamedTuple

import pytest

from chimage_core.build.context import open_context
from chimage_core.build.lint import lint
from chimage_core.build.lint.finding import Finding
from chimage_core.build.lint.subject import make_subject
from chimage_core.dockerfile.parser import parse
from tests.core.dockerfile.cases import instructions, shapes


class Rule(NamedTuple):
    """What a rule is tried with. Files begin with `FROM base:1` if they have no FROM of their own."""

    code: str
    severity: str
    bad: str
    good: str
    line: int = 2
    said: str = ""
    """Part of the text or of the suggestion."""
    build_args: tuple[tuple[str, str], ...] = ()
    """Given in the good case."""


RULES = (
    # What is ignored, refused, different.
    Rule("user-ignored", "note", "USER me", "RUN su me"),
    Rule("expose-ignored", "note", "EXPOSE 80", "LABEL expose=80"),
    Rule("healthcheck-ignored", "note", "HEALTHCHECK CMD true", "CMD true"),
    Rule("stopsignal-ignored", "note", "STOPSIGNAL INT", "LABEL signal=INT"),
    Rule("volume-ignored", "note", "VOLUME /v", "RUN mkdir /v"),
    Rule("chown-ignored", "note", "COPY --chown=1 file /", "COPY --chmod=755 file /"),
    Rule("refused", "error", "RUN --device=nvidia.com/gpu true", "RUN echo --device=x"),
    Rule("refused", "error", "RUN --security=insecure true", "RUN --security=sandbox true"),
    Rule(
        "mount-owner-ignored",
        "note",
        "RUN --mount=type=cache,target=/c,uid=7 true",
        "RUN --mount=type=cache,target=/c true",
    ),
    Rule(
        "mount-owner-ignored",
        "note",
        "RUN --mount=type=cache,target=/c,gid=7 true",
        "RUN --mount=type=cache,target=/c,gid=0 true",
    ),
    Rule("ssh-agent", "note", "RUN --mount=type=ssh true", "RUN --mount=type=tmpfs,target=/t true"),
    Rule("refused", "error", "COPY --chmod=999 file /", "COPY --chmod=777 file /"),
    Rule("parser-directive", "note", "# syntax=x\nFROM base:1", "# syntax of x\nFROM base:1", line=1),
    Rule("parser-directive", "note", "# check=skip=all\nFROM base:1", "# escape=\\\nFROM base:1", line=1),
    Rule("empty-continuation", "warning", "RUN a \\\n\n b", "RUN a \\\n# c\n b", line=3),
    Rule("not-json", "warning", "CMD ['a', 'b']", 'CMD ["a", "b"]'),
    Rule("not-json", "warning", 'RUN ["a", ]', "RUN [ -f a ]"),
    Rule(
        "arg-not-declared-again",
        "note",
        "ARG v=1\nFROM base:1\nENV a=$v",
        "ARG v=1\nFROM base:1\nARG v\nENV a=$v",
        line=3,
    ),
    Rule(
        "arg-not-declared-again",
        "note",
        "ARG v=1\nFROM base:1\nENV a=$v",
        "ARG v=1\nFROM base:$v\nENV v=2\nENV a=$v",
        line=3,
    ),
    # Stages.
    Rule("stage-case", "note", "FROM base:1 AS Build\nFROM build", "FROM base:1 AS build\nFROM build", line=1),
    Rule(
        "stage-duplicate", "warning", "FROM base:1 AS a\nFROM a AS a\nFROM a", "FROM base:1 AS a\nFROM a AS b\nFROM b"
    ),
    Rule("stage-reserved", "warning", "FROM base:1 AS scratch", "FROM base:1 AS scratches", line=1),
    Rule(
        "stage-unused",
        "note",
        "FROM base:1 AS a\nFROM base:1",
        "FROM base:1 AS a\nFROM base:1\nCOPY --from=a /x /",
        line=1,
    ),
    Rule("stage-unused", "note", "FROM base:1\nFROM base:1", "FROM base:1\nFROM base:1\nCOPY --from=0 /x /", line=1),
    Rule(
        "stage-unused",
        "note",
        "FROM base:1 AS a\nFROM base:1",
        "FROM base:1 AS a\nFROM base:1\nRUN --mount=from=a,target=/a true",
        line=1,
    ),
    Rule(
        "stage-unused",
        "note",
        "FROM base:1 AS a-arm64\nFROM base:1",
        "FROM base:1 AS a-arm64\nFROM a-$TARGETARCH",
        line=1,
    ),
    Rule("stage-unused", "note", "FROM base:1 AS a\nFROM base:1", "ARG s=a\nFROM base:1 AS a\nFROM $s", line=1),
    Rule(
        "from-unknown",
        "error",
        "COPY --from=1 /x /",
        "FROM base:1\nFROM base:1\nCOPY --from=0 /x /",
        said="no such stage",
    ),
    Rule("from-invalid", "error", "FROM base@sha256:00", "FROM base:2", line=1, said="64 hexadecimal digits"),
    Rule(
        "from-invalid",
        "error",
        "ARG N=UP\nFROM $N:1",
        "ARG N=UP\nFROM base:1 AS UP\nFROM $N",
        line=2,
        said="upper-case",
    ),
    Rule("from-unknown", "error", "COPY --from=0 /x /", "COPY --from=base:1 /x /", said="the stage that this"),
    Rule(
        "from-unknown",
        "error",
        "COPY --from=b /x /\nFROM base:1 AS b",
        "COPY --from=$b /x /\nFROM base:1 AS b",
        said="later",
    ),
    Rule(
        "from-unknown",
        "error",
        "RUN --mount=from=b,target=/b true\nFROM base:1 AS b",
        "FROM base:1 AS b\nFROM b\nRUN --mount=from=b,target=/b true",
    ),
    Rule(
        "from-image",
        "warning",
        "FROM base:1 AS builder\nFROM base:1\nCOPY --from=buildr /x /",
        "FROM base:1 AS builder\nFROM base:1\nCOPY --from=alpine:3 /x /",
        line=3,
        said="builder?",
    ),
    Rule("from-latest", "note", "FROM base", "FROM base:1", line=1),
    Rule("from-latest", "note", "FROM host:5000/base", "FROM host:5000/base@sha256:" + "0" * 64, line=1),
    Rule("from-latest", "note", "FROM base:latest", "FROM scratch", line=1),
    Rule("from-latest", "note", "FROM base AS a\nFROM a", "FROM base:1 AS a\nFROM a", line=1),
    Rule("from-latest", "note", "ARG b=base\nFROM $b", "ARG b=base:1\nFROM $b"),
    # Variables.
    Rule("variable-unset", "warning", "FROM scratch\nENV a=$b", "FROM scratch\nENV a=${b:-c}"),
    Rule(
        "variable-unset",
        "warning",
        "ARG VERSION=1\nENV a=$VERSI0N",
        "ARG VERSION=1\nENV a=$VERSION",
        line=3,
        said="$VERSION?",
    ),
    Rule("variable-unset", "error", "FROM base:$tag", "ARG tag=1\nFROM base:$tag", line=1),
    Rule("variable-unset", "error", "FROM base:1\nARG t=1\nFROM base:$t", "ARG t=1\nFROM base:1\nFROM base:$t", line=3),
    Rule(
        "variable-unset", "warning", "ENV a=$TARGETARCH", "ARG TARGETARCH\nENV a=$TARGETARCH", said="add ARG TARGETARCH"
    ),
    Rule(
        "variable-unset", "error", "FROM --platform=$PLATFORM base:1", "FROM --platform=$BUILDPLATFORM base:1", line=1
    ),
    Rule("variable-unset", "warning", 'FROM scratch\nLABEL a="$b"', "FROM scratch\nLABEL a='$b'"),
    Rule("variable-unset", "warning", "FROM scratch\nCOPY $a /x/", "FROM scratch\nRUN echo $a"),
    Rule(
        "variable-unset",
        "warning",
        "FROM scratch\nWORKDIR /$a",
        "FROM scratch\nENV http_proxy=$http_proxy PATH=$PATH:/x",
    ),
    Rule(
        "variable-unset",
        "warning",
        "FROM scratch AS s\nENV a=1\nFROM scratch\nENV b=$a",
        "FROM scratch AS s\nENV a=1\nFROM s\nENV b=$a",
        line=4,
    ),
    Rule("variable-unset", "warning", "FROM scratch\nCOPY <<E /x$a\n$b\nE", 'FROM scratch\nCMD ["$a"]'),
    Rule("variable-from-base", "note", "ENV a=$JAVA_HOME/bin", "FROM scratch\nENV JAVA_HOME=/j\nENV a=$JAVA_HOME/bin"),
    Rule("variable-without-value", "note", "ARG v\nENV a=$v", "ARG v\nENV a=$v", line=3, build_args=(("v", "1"),)),
    Rule(
        "variable-without-value",
        "error",
        "ARG v\nFROM base:$v",
        "ARG v\nFROM base:$v",
        build_args=(("v", "1"),),
        said="--build-arg v=VALUE",
    ),
    Rule("variable-without-value", "note", "ARG v\nENV a=$v", "ARG v\nENV a=${v:+x}", line=3),
    Rule("word-fails", "error", "FROM scratch\nENV a=${b:?needed}", "FROM scratch\nENV a=${b:-needed}", said="needed"),
    Rule("arg-unused", "warning", "ARG a=1\nFROM base:1", "ARG a=1\nFROM base:$a", line=1),
    Rule("arg-unused", "warning", "ARG a=1\nFROM base:1", "ARG a=1\nFROM base:1\nRUN echo $a", line=1),
    Rule("arg-unused", "warning", "ARG a=1\nFROM base:1", "ARG a=1\nFROM base:1\nARG a\nRUN make", line=1),
    Rule("arg-unused", "warning", "ARG a=1\nFROM base:1", "ARG a=1\nFROM base:1\nRUN <<E\necho $a\nE", line=1),
    # Sources.
    Rule("source-missing", "error", "COPY no /", "COPY file /", said="not found in context: no"),
    Rule(
        "source-missing", "error", "RUN --mount=src=no,target=/m x", "RUN --mount=src=file,target=/m x", said="--mount"
    ),
    Rule(
        "source-missing",
        "error",
        "RUN --mount=type=bind,source=../x,target=/m x",
        "RUN --mount=type=cache,source=../x,from=base:1,target=/m x",
        said="outside",
    ),
    Rule("source-missing", "error", "COPY ../x /", "COPY ./directory/../file /", said="outside"),
    Rule("source-missing", "error", "COPY *.c /", "COPY f* /"),
    Rule("source-missing", "error", "ADD no.tar /", "ADD https://host/no.tar /"),
    Rule("source-missing", "error", "ADD no /", "ADD git@host:no.git /"),
    Rule("source-missing", "error", "COPY no /", "COPY $no /"),
    Rule("source-missing", "error", "COPY no /", "COPY --from=base:1 no /"),
    Rule("source-missing", "error", "COPY no /", "COPY <<no /\nE\nno"),
    Rule("source-missing", "error", "ARG f=no\nCOPY $f /", "ARG f=no\nCOPY $f /", line=3, build_args=(("f", "file"),)),
    Rule("source-missing", "error", "RSYNC no /", "RSYNC directory/ /"),
    Rule("source-missing", "error", "COPY excluded /", "RSYNC excluded /", said=".dockerignore"),
    Rule("rsync-dockerignore", "note", "RSYNC file /", "COPY file /"),
    Rule("add-as-copy", "note", "ADD file /", "COPY file /"),
    Rule("add-as-copy", "note", "ADD file directory /", "ADD file a.tar.gz /"),
    Rule("add-as-copy", "note", "ADD file /", "ADD f* /"),
    Rule("add-as-copy", "note", "ADD file /", "ADD https://host/file /"),
    # Commands.
    Rule("install-asks", "warning", "RUN apt-get install a", "RUN apt-get install -y a"),
    Rule(
        "install-asks",
        "warning",
        "RUN apt-get update && apt-get -q install a",
        "RUN apt-get update && apt-get -qq install a",
    ),
    Rule(
        "install-asks",
        "warning",
        "RUN DEBIAN_FRONTEND=noninteractive apt install a",
        "RUN apt install --no-install-recommends --yes a",
    ),
    Rule("install-asks", "warning", "RUN if true; then apt-get upgrade; fi", "RUN echo 'apt-get upgrade'"),
    Rule("install-asks", "warning", "RUN apt-get install a", "RUN yes | apt-get install a"),
    Rule("install-asks", "warning", "RUN apt-get install a", "RUN apt-get install -fqy a"),
    Rule("install-asks", "warning", "RUN apt-get install a", "RUN apt-get update"),
    Rule(
        "install-asks", "warning", "RUN <<E\napt-get update\napt-get install a\nE", "RUN <<E\napt-get install -y a\nE"
    ),
    Rule("install-asks", "warning", 'RUN ["apt-get", "install", "a"]', 'RUN ["apt-get", "-y", "install", "a"]'),
    Rule("install-asks", "warning", "RUN dnf install a", "RUN dnf -y install a"),
    Rule("install-asks", "warning", "RUN yum install a", "RUN yum install --assumeyes a"),
    Rule("install-asks", "warning", "RUN zypper in a", "RUN zypper -n in a", said="--non-interactive"),
    Rule("install-asks", "warning", "RUN pacman -S a", "RUN pacman -S --noconfirm a", said="--noconfirm"),
    Rule("install-asks", "warning", "RUN apt-get install a", "RUN apk add a && npm install && make install"),
    Rule("cd-alone", "warning", "RUN cd /x", "RUN cd /x && make"),
    Rule("cd-alone", "warning", "RUN cd /x", "WORKDIR /x"),
    Rule("update-alone", "note", "RUN apt-get update", "RUN apt-get update && apt-get install -y a"),
    Rule("sudo", "warning", "RUN sudo make install", "RUN apt-get install -y sudo"),
    Rule("sudo", "warning", "RUN a && \\\n  sudo b", "RUN echo a > /etc/sudoers; echo '; sudo b'"),
    Rule("needs-privilege", "warning", "RUN mount /dev/x /y", "RUN mkdir /mount; echo > mount"),
    Rule("needs-privilege", "warning", "RUN /sbin/modprobe x", "RUN man modprobe"),
    Rule("device-faked", "note", "RUN mknod /dev/x c 1 3", "RUN mknod /x p"),
    Rule("setuid-useless", "note", "RUN chmod u+s /bin/x", "RUN chmod g+s,u+x /bin/x"),
    Rule("setuid-useless", "note", "RUN chmod 4755 /bin/x", "RUN chmod 2755 /bin/x"),
    Rule("setuid-useless", "note", "RUN chmod 04755 /bin/x", "RUN chmod 0755 /bin/x"),
    Rule("setcap-useless", "note", "RUN setcap cap_net_raw+ep /x", "RUN getcap /x"),
    Rule("no-services", "note", "RUN systemctl enable x", "RUN which systemctl"),
    Rule("exec-no-shell", "warning", 'RUN ["a", "&&", "b"]', 'RUN ["sh", "-c", "a && b"]'),
    Rule("exec-no-shell", "warning", 'RUN ["a", ">", "/b"]', 'RUN ["bash", "-c", "x", ">"]'),
    # Habits.
    Rule("old-pair", "warning", "ENV a b", "ENV a=b"),
    Rule("old-pair", "warning", "LABEL a b c", "LABEL a='b c'"),
    Rule("maintainer", "warning", "MAINTAINER me", "LABEL maintainer=me"),
    Rule("overruled", "warning", "CMD a\nCMD b", "CMD a\nFROM base:1\nCMD b"),
    Rule("overruled", "warning", 'ENTRYPOINT ["a"]\nENTRYPOINT ["b"]', 'ENTRYPOINT ["a"]\nCMD ["b"]'),
    Rule("entrypoint-shell", "warning", "ENTRYPOINT a b", 'ENTRYPOINT ["a", "b"]'),
    Rule("workdir-relative", "warning", "WORKDIR a", "WORKDIR /a\nWORKDIR b"),
    Rule("workdir-relative", "warning", "WORKDIR a", "FROM scratch\nWORKDIR a"),
    Rule("workdir-relative", "warning", "ENV a=b\nWORKDIR $a", "ENV a=/b\nWORKDIR $a", line=3),
    Rule("secret", "warning", "ENV DB_PASSWORD=x", "ENV DB_PASSWORD_FILE=/run/secrets/x"),
    Rule("secret", "warning", "ARG GITHUB_TOKEN", "ARG TOKENIZERS_PARALLELISM"),
    Rule("secret", "warning", "ENV API_KEY=x", 'ENV API_KEY=""'),
    Rule("secret", "warning", "ARG aws_secret_access_key", "ARG SECRETARY KEYBOARD"),
    Rule("path-lost", "warning", "ENV PATH=/opt/x/bin", "ENV PATH=/opt/x/bin:$PATH"),
    Rule("path-lost", "warning", "ENV PATH=/opt/x/bin", "ENV PATH=/usr/bin:/bin PYTHONPATH=/x"),
)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a build context with a few files."""
    path = tmp_path_factory.mktemp("context")
    (path / "directory").mkdir()
    for name in ("file", "excluded", "a.tar.gz", "directory/x"):
        (path / name).touch()
    (path / ".dockerignore").write_text("excluded\n")
    return path


def findings(text: str, context: Path | None, **build_args: str) -> list[Finding]:
    """Return what is said of a Dockerfile."""
    whole = text if _begins(text) else f"FROM base:1\n{text}"
    tree = None if context is None else open_context(str(context), None)
    return list(lint(make_subject(parse(whole, "-"), build_args, tree, {})))


def _begins(text: str) -> bool:
    """Say whether a text is a whole file: only what may stand there is before its first FROM."""
    head, found, _ = f"\n{text}".partition("\nFROM ")
    return bool(found) and all(line.startswith(("ARG ", "#")) for line in head.split("\n") if line.strip())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.code}: {rule.bad!r}")
def test_rule_speaks_of_the_bad_case_and_not_of_its_neighbour(rule: Rule, context: Path) -> None:
    found = [finding for finding in findings(rule.bad, context) if finding.code == rule.code]
    assert found, findings(rule.bad, context)
    assert (found[0].severity, found[0].line) == (rule.severity, rule.line)
    assert rule.said in f"{found[0].text} {found[0].suggestion}"
    near = [finding for finding in findings(rule.good, context, **dict(rule.build_args)) if finding.code == rule.code]
    assert near == []


def test_without_a_context_nothing_can_be_copied_from_it() -> None:
    codes = [finding.code for finding in findings("COPY a /\nADD https://host/a /\nCOPY --from=base:1 a /", None)]
    assert codes.count("no-context") == 1
    assert "source-missing" not in codes


def test_a_sound_file_has_nothing_to_be_said_of(context: Path) -> None:
    """A report is read only if it is short."""
    text = """\
ARG VERSION=12.1
FROM debian:${VERSION} AS build
ARG VERSION
ARG PREFIX=/opt/tool
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN apt-get update \\
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends gcc make \\
 # what it takes
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY file directory ./
RUN if [ -f file ]; then ./configure --prefix="$PREFIX" && make -j"$(nproc)" install; fi
RUN <<EOF
set -e
for name in a b; do
  echo "$name" > "/opt/$name"
done
EOF
FROM debian:${VERSION}
ENV PATH=/opt/tool/bin:$PATH LANG=C.UTF-8
COPY --from=build /opt/tool /opt/tool
LABEL org.opencontainers.image.title="tool" version=${VERSION:-none}
ENTRYPOINT ["tool"]
CMD ["--help"]
"""
    said = [finding for finding in findings(text, context) if finding.code != "arg-not-declared-again"]
    assert said == []


def test_errors_are_rare_in_files_that_parse(context: Path) -> None:
    """All that the tests make by combination, which knows no context: nothing else may be called an error."""
    expected = {"source-missing", "variable-unset", "from-unknown", "from-invalid", "refused"}
    errors = set()
    for case in itertools.islice(itertools.chain(instructions.cases(), shapes.parsed_cases()), 0, None, 3):
        for finding in findings(case.text.removeprefix("\ufeff"), context):
            errors |= {finding.code} if finding.severity == "error" else set()
    assert errors <= expected
