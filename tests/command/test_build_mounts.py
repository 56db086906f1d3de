"""`build`: RUN --mount, --network, --security. Secrets and agents have tests of their own."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.builds import BASE, Builds, contents, marks, traces
from tests.support.host import needs_program
from tests.support.processes import wait_until_gone

pytestmark = pytest.mark.userns

WAYS = (
    pytest.param((), id="overlay"),
    pytest.param(("--no-cache",), id="no cache"),
    pytest.param(("--runner=bwrap",), id="in place", marks=needs_program("bwrap")),
)
"""With overlays, without a cache, and where nothing can be laid over anything."""


def run(builds: Builds, instructions: str, *options: str) -> str:
    """Build on the base; return what is printed."""
    return builds.build(f"FROM {BASE}\n{instructions}", *options).stdout


def fails(builds: Builds, instructions: str, *options: str) -> str:
    """Build what cannot be built; return the messages."""
    return builds.build(f"FROM {BASE}\n{instructions}", *options, check=False).expect(1).stderr


def same_as_base(builds: Builds, *ignored: str) -> bool:
    """Tell whether the image has nothing but what the base has."""

    def seen(name: str) -> dict[str, tuple[str, int, str]]:
        return {path: what for path, what in contents(builds.image(name)).items() if not path.startswith("ch/")}

    return seen("image+latest") == seen("base+latest")


# bind


@pytest.mark.parametrize("options", WAYS)
def test_the_context_is_there_and_leaves_nothing(builds: Builds, options: tuple[str, ...]) -> None:
    builds.write("src/main.c", "int main;\n")
    before = traces(builds.context / "src")
    said = run(
        builds,
        "RUN --mount=type=bind,target=/made/for/it cat /made/for/it/src/main.c\n"
        "RUN --mount=source=src,target=/s --mount=src=src/main.c,dst=/f cat /s/main.c /f; ls /s; ls /made || echo none",
        *options,
    )
    assert said == "int main;\n" * 3 + "main.c\nnone\n"
    assert same_as_base(builds)
    assert traces(builds.context / "src") == before


@pytest.mark.parametrize("options", WAYS)
def test_a_bind_is_read_only(builds: Builds, options: tuple[str, ...]) -> None:
    builds.write("src/f", "f\n")
    messages = fails(builds, "RUN --mount=source=src,target=/s echo more >> /s/f", *options)
    assert "exited with 1" in messages
    assert "Read-only file system" in messages
    assert (builds.context / "src/f").read_text() == "f\n"


@pytest.mark.parametrize("options", WAYS)
@pytest.mark.parametrize("origin", ["", "from=one,", "from=base,"])
def test_what_is_written_to_a_writable_bind_vanishes(builds: Builds, options: tuple[str, ...], origin: str) -> None:
    for name in ("d/f", "d/gone", "d/sub/x"):
        builds.write(name, "old\n")
    (builds.context / "image").mkdir()
    source = "d" if origin != "from=base," else "/etc"
    first = "FROM base AS one\nCOPY d /d\n" if origin == "from=one," else ""
    script = "set -e; cd /s; ls | wc -l > /count; rm -r $(ls | head -1); echo new > new; mkdir sub2; cat new; ls /s/new"
    before = traces(builds.context / "d"), contents(builds.image("base+latest"))
    said = builds.build(f"{first}FROM base\nRUN --mount={origin}source={source},target=/s,rw {script}", *options)
    assert said.stdout == "new\n/s/new\n"
    assert int(builds.read("count")) > 1
    assert not (builds.image() / "s").exists()
    assert (traces(builds.context / "d"), contents(builds.image("base+latest"))) == before


def test_a_writable_bind_of_a_file(builds: Builds) -> None:
    builds.write("f", "old\n")
    assert run(builds, "RUN --mount=source=f,target=/f,rw echo new >> /f; cat /f") == "old\nnew\n"
    assert (builds.context / "f").read_text() == "old\n"


@pytest.mark.parametrize("options", WAYS)
@pytest.mark.parametrize("kind", ["", ",rw"])
def test_what_is_ignored_is_not_there(builds: Builds, options: tuple[str, ...], kind: str) -> None:
    for name in ("shown", "hidden", "dir/a", "dir/secret", "dir/deep/b", "all/of/it", "kept/no", "kept/yes"):
        builds.write(name, f"{name}\n")
    builds.write(".dockerignore", "hidden\n**/secret\nall\nkept/*\n!kept/yes\nDockerfile\n.dockerignore\n")
    os.utime(builds.context / "dir", (1_000_000_000, 1_000_000_000))
    said = run(
        builds,
        f"RUN --mount=target=/s{kind} cd /s; find . | sort; stat -c %Y dir; cat hidden 2>/dev/null || cat shown",
        *options,
    )
    names = [".", "./dir", "./dir/a", "./dir/deep", "./dir/deep/b", "./kept", "./kept/yes", "./shown"]
    assert said.splitlines() == [*names, "1000000000", "shown"]
    assert (builds.context / "hidden").exists()
    assert "excluded" in fails(builds, "RUN --mount=source=hidden,target=/s true")


def test_without_dockerignore_all_is_there(builds: Builds) -> None:
    builds.write("hidden", "x\n")
    builds.write(".dockerignore", "hidden\n")
    assert run(builds, "RUN --mount=target=/s cat /s/hidden", "--no-dockerignore") == "x\n"


def test_sources_stay_inside_their_tree(builds: Builds, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_text("outside\n")
    (builds.context / "link").symlink_to(outside)
    assert "outside the context: link" in fails(builds, "RUN --mount=source=link,target=/s true")
    assert "outside the context: ../outside" in fails(builds, "RUN --mount=source=../outside,target=/s true")
    assert "not found in context: none" in fails(builds, "RUN --mount=source=none,target=/s true")
    # In an image, a link means what it would mean in a container.
    said = builds.build(
        f"FROM base AS one\nRUN mkdir -p {outside} /in && ln -s {outside} /link && ln -s ../../../../in /up\n"
        "RUN echo in > /in/f\nFROM base\n"
        "RUN --mount=from=one,source=/link,target=/a --mount=from=one,source=up,target=/b ls /a; cat /b/f"
    )
    assert said.stdout == "in\n"


def test_a_source_is_no_pattern(builds: Builds) -> None:
    builds.write("a[1]*/f", "odd\n")
    builds.write("a1/f", "plain\n")
    assert run(builds, "RUN --mount=source=a[1]*,target=/s cat /s/f") == "odd\n"


def test_files_of_stages_and_other_directories(builds: Builds, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more/f").write_text("more\n")
    said = builds.build(
        "FROM base AS one\nRUN echo 1 > /f\nFROM base\nARG which=one dir=more\n"
        "RUN --mount=from=one,target=/a --mount=from=0,source=/f,target=/b cat /a/f /b\n"
        "RUN --mount=from=$which,target=/c cat /c/f\n"
        "RUN --mount=from=$dir,target=/d cat /d/f",
        f"--build-context=more={tmp_path}/more",
    )
    assert said.stdout == "1\n1\n1\nmore\n"
    messages = builds.build("FROM base\nRUN --mount=from=nowhere,target=/a true", check=False).expect(1).stderr
    assert "nowhere" in messages
    messages = builds.build("FROM base AS one\nRUN --mount=from=one,target=/a true", check=False).expect(1).stderr
    assert "the stage that this instruction is in" in messages


# The cache key


def test_a_changed_source_is_a_miss_and_others_are_not(builds: Builds) -> None:
    builds.write("used/f", "1\n")
    builds.write("unused", "1\n")
    dockerfile = "FROM base\nRUN --mount=source=used,target=/s cat /s/f > /f"
    builds.build(dockerfile)
    builds.write("unused", "changed\n")
    assert marks(builds.build(dockerfile)) == "**"
    builds.write("used/f", "changed\n")
    result = builds.build(dockerfile, "--explain")
    assert marks(result) == "*."
    assert "used/f" in result.stderr
    assert builds.read("f") == "changed\n"


def test_a_changed_stage_is_a_miss(builds: Builds) -> None:
    dockerfile = "FROM base AS one\nARG v\nRUN echo $v > /f\nFROM base\nRUN --mount=from=one,target=/s cat /s/f > /f"
    builds.build(dockerfile, "--build-arg=v=1")
    assert marks(builds.build(dockerfile, "--build-arg=v=1")) == "*****"
    assert marks(builds.build(dockerfile, "--build-arg=v=2")) == "*..*."
    assert builds.read("f") == "2\n"


def test_options_are_part_of_the_key_as_expanded(builds: Builds) -> None:
    dockerfile = "FROM base\nARG t=/a\nRUN --mount=type=tmpfs,target=$t ls -d /a /b; true"
    builds.build(dockerfile)
    assert marks(builds.build("FROM base\nARG t=/a\nRUN --mount=type=tmpfs,target=/a ls -d /a /b; true")) == "***"
    assert marks(builds.build(dockerfile, "--build-arg=t=/b")) == "*.."
    assert marks(builds.build("FROM base\nRUN true")) == "*."
    assert marks(builds.build("FROM base\nRUN --network=default true")) == "**"
    assert marks(builds.build("FROM base\nRUN --network=none true")) == "*."
    assert marks(builds.build("FROM base\nRUN --security=sandbox true")) == "**"


# cache


@pytest.mark.parametrize("options", WAYS)
def test_a_cache_is_kept_between_builds_and_in_no_image(builds: Builds, options: tuple[str, ...]) -> None:
    script = "RUN --mount=type=cache,target=/root/.cache/x stat -c %a /root/.cache/x; cat /root/.cache/x/*; "
    assert run(builds, f"{script} echo 1 > /root/.cache/x/f", *options) == "755\n"
    assert run(builds, f"{script} echo second", *options) == "755\n1\nsecond\n"
    assert not (builds.image() / "root/.cache").exists()
    # The same cache for everybody who names it so.
    assert run(builds, "RUN --mount=type=cache,id=/root/.cache/x,target=/y cat /y/f", *options) == "1\n"
    assert run(builds, "RUN --mount=type=cache,id=other,target=/root/.cache/x ls /root/.cache/x", *options) == ""


@pytest.mark.parametrize("options", WAYS)
def test_mounts_within_mounts(builds: Builds, options: tuple[str, ...]) -> None:
    """What is missing is made in caches, in memory, and where changes vanish."""
    builds.write("src/f", "src\n")
    mounts = "--mount=type=cache,target=/c --mount=type=cache,id=i,target=/c/d/e --mount=source=src,target=/c/d/s"
    more = "--mount=source=src,target=/w,rw --mount=type=tmpfs,target=/w/t --mount=type=cache,target=/w/t/c"
    script = "touch /c/1 /c/d/e/2 /w/t/3 /w/t/c/4; cat /c/d/s/f /w/f; ls /w"
    assert run(builds, f"RUN {mounts} {more} {script}", *options) == "src\nsrc\nf\nt\n"
    assert os.listdir(builds.context / "src") == ["f"]
    assert run(builds, "RUN --mount=type=cache,id=i,target=/x ls /x", *options) == "2\n"
    assert same_as_base(builds)


def test_a_failed_command_keeps_its_cache_and_nothing_else(builds: Builds) -> None:
    fails(builds, "RUN --mount=type=cache,target=/c touch /c/half /lost; exit 1")
    assert run(builds, "RUN --mount=type=cache,target=/c ls /c; test ! -e /lost") == "half\n"


def test_a_new_cache_is_filled_from_a_stage_once(builds: Builds) -> None:
    builds.write("seed/dir/f", "seed\n")
    dockerfile = (
        "FROM base AS seed\nCOPY seed /seed\nRUN chmod 700 /seed/dir\nFROM base\n"
        "RUN --mount=type=cache,from=seed,source=seed/dir,mode=0711,target=/c stat -c %a /c; cat /c/f; echo new > /c/f"
    )
    assert builds.build(dockerfile).stdout == "711\nseed\n"
    assert builds.build(dockerfile, "--rebuild").stdout == "711\nnew\n"


def test_a_read_only_cache(builds: Builds) -> None:
    run(builds, "RUN --mount=type=cache,target=/c echo x > /c/f")
    assert "Read-only" in fails(builds, "RUN --mount=type=cache,target=/c,ro cat /c/f; echo y > /c/f")


@pytest.mark.parametrize(
    ("sharing", "expected"), [("shared", ("2 2", "2 2")), ("private", ("2 1", "2 1")), ("locked", ("1 1", "2 2"))]
)
def test_who_shares_a_cache(builds: Builds, sharing: str, expected: tuple[str, str]) -> None:
    """Of two builds that use a cache at the same time, the second waits only for a locked one."""
    meeting = builds.context / "meeting"
    meeting.mkdir()
    script = "touch /m/$n; echo $n >> /c/f; for i in $(seq 20); do [ $(ls /m | wc -l) = 2 ] && break; sleep 0.1; done"
    mount = f"--mount=type=cache,sharing={sharing},target=/c"
    builds.write("Dockerfile", f"FROM base\nARG n\nRUN {mount} {script}; ls /m | wc -l; wc -l < /c/f")
    started = [
        builds.chimage.start("build", f"--bind={meeting}:/m", f"--build-arg=n={n}", "-t", f"i{n}", builds.context)
        for n in "12"
    ]
    said = sorted(process.communicate(timeout=60)[0].split() for process in started)
    assert said == [seen.split() for seen in expected]


def test_caches_locked_twice_or_crosswise_do_not_wait_for_ever(builds: Builds) -> None:
    one, two = (f"--mount=type=cache,sharing=locked,id={name},target=/{{}}" for name in ("one", "two"))
    said = run(
        builds,
        f"RUN {one.format('a')} {one.format('b')} {two.format('c')} touch /a/f; ls /b\n"
        f"RUN {two.format('a')} {one.format('b')} ls /b",
        "--lock-timeout=10",
    )
    assert said == "f\nf\n"


def test_a_reset_of_the_build_cache_empties_caches_and_du_counts_them(builds: Builds) -> None:
    run(builds, "RUN --mount=type=cache,target=/c head -c 3000000 /dev/urandom > /c/f; mkdir /c/d; chmod 0 /c/d")
    assert builds.chimage.run("build-cache", "--du", "--json").json()["mounts"] > 3_000_000
    builds.chimage.run("build-cache", "--reset")
    assert os.listdir(Path(builds.chimage.storage, "cache-mounts")) == []
    assert run(builds, "RUN --mount=type=cache,target=/c ls /c") == ""


# tmpfs


@pytest.mark.parametrize("options", WAYS)
def test_memory_hides_what_is_below_and_vanishes(builds: Builds, options: tuple[str, ...]) -> None:
    said = run(
        builds,
        "RUN --mount=type=tmpfs,target=/etc,size=1m ls /etc; head -c 2m /dev/zero > /etc/big || echo full; ls /etc\n"
        "RUN --mount=type=tmpfs,target=/a/b --mount=target=/a/b/c mkdir /a/b/d; ls /a/b; test -f /a/b/c/Dockerfile",
        *options,
    )
    assert said == "full\nbig\nc\nd\n"
    assert same_as_base(builds)


def test_a_target_is_relative_to_the_working_directory(builds: Builds) -> None:
    assert run(builds, "WORKDIR /w\nRUN --mount=type=tmpfs,target=t touch /w/t/f; ls /w/t") == "f\n"
    assert run(builds, "WORKDIR /w\nRUN --mount=target=. ls") == "Dockerfile\n"


# network and others


@pytest.mark.parametrize("options", WAYS)
def test_no_network(builds: Builds, options: tuple[str, ...]) -> None:
    script = "sed '1,2d; s/:.*//' /proc/net/dev; ping -c 1 127.0.0.1 | grep -o '[01] packets received'"
    assert run(builds, f"RUN --network=none {script}", *options).split() == ["lo", "1", "packets", "received"]
    host = run(builds, "RUN --network=host cat /proc/net/dev", *options)
    assert host.splitlines()[2].split()[0] == Path("/proc/net/dev").read_text().splitlines()[2].split()[0]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--network=bridge", "--network: expected default, host, none, not bridge"),
        ("--security=insecure", "--security=insecure needs privilege"),
        ("--security=x", "--security: expected sandbox, not x"),
        ("--device=nvidia.com/gpu=all", "--device is not supported"),
        ("--mount=type=bind,target=/", "the target is the root of the image"),
        ("--mount=type=volume,target=/x", "no such type: volume"),
        ("--mount=target=/x,sharing=locked", "sharing does not go with type=bind"),
        ("--mount=tarjet=/x", "did you mean target?"),
    ],
)
def test_what_is_refused_is_so_before_anything_runs(builds: Builds, option: str, message: str) -> None:
    messages = fails(builds, f"RUN touch /first\nRUN {option} true")
    assert message in messages
    assert "  3 RUN: " in messages
    assert "RUN.S touch" not in messages


def test_what_only_variables_make_wrong_is_refused_when_they_are_known(builds: Builds) -> None:
    assert "no such type: volume" in fails(builds, "ARG t=volume\nRUN --mount=type=$t,target=/x true")
    assert "root of the image" in fails(builds, "ARG t=/\nRUN --mount=type=tmpfs,target=$t true")
    assert "root of the image" in fails(builds, "RUN --mount=type=tmpfs,target=.. true")


def test_what_is_ignored_is_said_once(builds: Builds) -> None:
    mount = "--mount=type=cache,target=/c,uid=1000"
    messages = builds.build(f"FROM base\nRUN {mount} true\nRUN {mount} {mount} true").stderr
    assert messages.count("warning: not supported, ignored: uid and gid of RUN --mount") == 1


# Hostile images


@pytest.mark.parametrize("options", WAYS)
def test_links_in_the_image_lead_no_mount_out_of_it(builds: Builds, options: tuple[str, ...], tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    said = run(
        builds,
        f"RUN ln -s {outside} /run; ln -s ../../../../../../../../{outside} /up; ln -s /etc /conf\n"
        "RUN --mount=type=cache,target=/run/x --mount=type=tmpfs,target=/up/y --mount=target=/conf/made "
        f"touch /run/x/f /up/y/f; ls {outside} {outside}/x /etc/made/Dockerfile",
        *options,
    )
    assert said == f"/etc/made/Dockerfile\n\n{outside}:\nx\ny\n\n{outside}/x:\nf\n"
    assert os.listdir(outside) == []
    assert not (builds.image() / "etc/made").exists()
    assert not (builds.image() / str(outside)[1:]).exists()
    assert "/loop" in fails(builds, "RUN ln -s loop /loop\nRUN --mount=type=tmpfs,target=/loop true", *options)


def test_a_root_by_a_link_is_refused(builds: Builds) -> None:
    assert "root of the image" in fails(builds, "RUN ln -s / /r\nRUN --mount=type=tmpfs,target=/r true")


@pytest.mark.parametrize("options", WAYS)
def test_what_a_killed_command_had_mounted_is_in_no_image(builds: Builds, options: tuple[str, ...]) -> None:
    builds.write("src/f", "x\n")
    marker = f"60.{os.getpid()}{time.monotonic_ns()}"
    dockerfile = f"FROM base\nRUN --mount=source=src,target=/a/b --mount=type=tmpfs,target=/c sleep {marker}; true"
    builds.write("Dockerfile", dockerfile)
    with builds.chimage.start("build", "-t", "image", *options, builds.context) as process:
        while not wait_until_started(marker):
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
    assert wait_until_gone(marker) == []
    run(builds, "RUN true", *options)
    assert same_as_base(builds)


def wait_until_started(marker: str) -> bool:
    time.sleep(0.1)
    return subprocess.run(["pgrep", "-f", f"^sleep {marker}"], capture_output=True, check=False).returncode == 0


# Forms


def test_all_forms_have_mounts(builds: Builds) -> None:
    builds.write("f", "file\n")
    said = run(
        builds,
        'RUN --mount=source=f,target=/m ["cat", "/m"]\n'
        "RUN --mount=source=f,target=/m <<END\ncat /m\nEND\n"
        "RUN --mount=source=f,target=/m <<END\n#!/bin/cat\n$x\nEND\n"
        "RUN --mount=source=f,target=/m <<'END'\n#!/bin/awk -f\n"
        'BEGIN { while (getline < "/m") print "awk " $0 }\nEND\n'
        'SHELL ["/bin/sh", "-xc"]\nRUN --mount=source=f,target=/m cat /m <<A /dev/stdin\nhere\nA\n',
    )
    assert said == "file\nfile\n#!/bin/cat\n$x\nawk file\nfile\nhere\n"


def test_the_exit_status_is_reported(builds: Builds) -> None:
    assert "exited with 3" in fails(builds, "RUN --mount=type=tmpfs,target=/t exit 3")
    assert "exited with 3" in fails(builds, 'RUN ["sh", "-c", "exit 3"]')
    assert "exited with 3" in fails(builds, "RUN <<END\nfalse\nexit 3\nEND")
    assert "exited with 3" in fails(builds, "RUN <<END\n#!/bin/sh\nexit 3\nEND")
