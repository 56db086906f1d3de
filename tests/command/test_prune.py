"""`build-cache --prune`: what goes, what that gives back, and how it comes back."""

import json
import os
import random
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.builds import Builds, contents, marks, traces
from tests.support.cli import Chimage, CliResult
from tests.support.disk import du, room
from tests.support.host import needs_program
from tests.support.repository import fsck

pytestmark = pytest.mark.userns

NOISE = "head -c 500000 /dev/urandom >"
ALL = "states,large,downloads,uploads,mounts,unpacked,deleted,images"
NO_AGE = ("--older-than", "0s")


def prune(builds: Builds, kinds: str = "", *options: str, check: bool = True) -> CliResult:
    return builds.chimage.run("build-cache", f"--prune={kinds}" if kinds else "--prune", *options, check=check)


def planned(builds: Builds, kinds: str, *options: str) -> dict[str, Any]:
    found: dict[str, Any] = prune(builds, kinds, "--dry-run", "--json", *options).json()
    return found


def names(document: dict[str, Any], kind: str) -> list[str]:
    return [item["text"] for line in document["lines"] if line["kind"] == kind for item in line["items"]]


def assert_exact(builds: Builds, kinds: str, *options: str) -> dict[str, Any]:
    """Prune; the dry run, the real run and the disk say the same."""
    before = room(builds.chimage.storage)
    told = planned(builds, kinds, *options)
    done = prune(builds, kinds, "--json", *options).json()
    assert [line["frees"] for line in done["lines"]] == [line["frees"] for line in told["lines"]]
    assert done["frees"] == told["frees"] == before - room(builds.chimage.storage)
    assert told["used"] == before
    assert not prune(builds, kinds, "--json", *options).json()["frees"]
    return told


@pytest.fixture
def store(builds: Builds) -> Builds:
    """Return a storage directory that has something of every kind."""
    builds.build(f"FROM base\nRUN {NOISE} /old\nRUN {NOISE} /older", tag="app")
    builds.build(f"FROM base\nRUN {NOISE} /common\nRUN {NOISE} /app", tag="app")
    builds.build(f"FROM base\nRUN {NOISE} /common\nRUN {NOISE} /gone", tag="gone")
    builds.build(f"FROM base\nRUN {NOISE} /common", tag="other")
    builds.build("FROM base\nRUN touch /apart", "--no-cache", tag="apart")
    for name in ("one", "two"):
        builds.build(f"FROM base\nRUN --mount=type=cache,id={name},target=/c {NOISE} /c/f", "--no-cache", tag="apart")
    builds.chimage.run("delete", "gone")
    blobs = Path(builds.chimage.storage, "blobs")
    (blobs / "packed").mkdir()
    (blobs / "sha256-a").write_bytes(b"x" * 70_000)
    (blobs / "packed" / "sha256-b").write_bytes(b"x" * 50_000)
    return builds


# Sums


@needs_program("git")
def test_the_dry_run_tells_what_the_real_run_then_frees(store: Builds) -> None:
    """To the block, whatever images share and however packs are written anew, one kind after the other."""
    for kinds in ("states", "downloads,uploads", "mounts", "deleted", "unpacked", "images"):
        assert assert_exact(store, kinds, *NO_AGE)["frees"] >= 4096, kinds
        assert fsck(store.chimage.storage) in ("", "notice: No default references")
    assert store.names() == []


@needs_program("git")
@pytest.mark.parametrize("kinds", [ALL, "states,deleted", "unpacked,images"])
def test_the_sum_is_exact_for_several_kinds_that_hold_the_same_files(store: Builds, kinds: str) -> None:
    assert assert_exact(store, kinds, *NO_AGE)["frees"] > 1_000_000
    assert fsck(store.chimage.storage) in ("", "notice: No default references")


def test_unpacked_files_that_the_build_cache_holds_too_give_nothing_back(store: Builds) -> None:
    store.build("FROM base\nRUN head -c 10000 /dev/urandom > /small", tag="third")
    before = planned(store, "large,unpacked")["frees"]
    large = Path(store.chimage.storage, "cache", "large", "ab")
    large.mkdir(parents=True)
    os.link(store.image("third+latest") / "small", large / "abcdef-0644.0.0")
    assert planned(store, "unpacked")["frees"] == before - du(large / "abcdef-0644.0.0")
    assert names(planned(store, "large"), "large") == ["abcdef-0644.0.0"]
    assert planned(store, "large")["frees"] == 0, "the image still has it"
    assert assert_exact(store, "large,unpacked")["frees"] == before


def test_the_table_says_what_losing_it_costs(store: Builds) -> None:
    lines = prune(store, "", "--dry-run").stdout.splitlines()
    assert re.fullmatch(r"used: [\d.]+ MiB, free: [\d.]+ \w+", lines[0])
    assert lines[1].split() == ["WHAT", "FREES", "COST", "OF", "LOSING", "IT"]
    rows = {line[:20].strip(): line for line in lines[2:-1]}
    assert re.search(r"2 states +\d\S* \w+  build again \(RUN\.S head .*\)$", rows["unreachable states"])
    assert re.search(r"1 file +\d\S* \w+  download again$", rows["downloads"])
    assert re.search(r"1 file +\d\S* \w+  compute again on push$", rows["packed for upload"])
    assert re.search(r"2 caches +\d\S* \w+  RUN fills them again$", rows["caches of RUN --moun"])
    assert re.search(r"3 images +\d\S* \w+  unpack again", rows["unpacked copies, in"])
    assert "deleted, can be unde" not in rows
    assert "images" not in rows
    assert lines[-1].startswith("would free: ")
    deleted = prune(store, "deleted").stdout
    assert "GONE: gone:latest (just now)" in deleted
    assert "freed: " in deleted


def test_a_dry_run_changes_nothing(store: Builds) -> None:
    before = traces(store.chimage.storage)
    planned(store, ALL, *NO_AGE)
    assert traces(store.chimage.storage) == before


def test_what_does_not_come_back_goes_only_if_it_is_named(store: Builds) -> None:
    prune(store)
    assert "gone:latest" in store.chimage.run("list", "--undeletable").stdout
    assert [name.split()[0] for name in store.names()] == ["apart:latest", "app:latest", "base:latest", "other:latest"]
    assert store.image("apart+latest").is_dir(), "it is not in the build cache"
    assert marks(store.build(f"FROM base\nRUN {NOISE} /common\nRUN {NOISE} /app", tag="app")) == "***"


@needs_program("git")
def test_packs_are_compressed_last_and_once(store: Builds) -> None:
    """What that gives back is not in the sum, and nothing else goes for it."""
    states = planned(store, "states")
    told = planned(store, "states,packs")
    assert told["frees"] == states["frees"]
    assert [line["is_estimate"] for line in told["lines"]] == [False, True]
    assert "perhaps" in prune(store, "packs", "-n").stdout
    before = room(store.chimage.storage)
    done = prune(store, "packs", "--json").json_lines()[-1]
    assert done["frees"] == 0
    assert names(planned(store, "states"), "states") == names(states, "states")
    assert done["lines"][0]["frees"] == pytest.approx(before - room(store.chimage.storage), abs=8192)
    assert planned(store, "packs")["lines"] == []
    assert_exact(store, "states,deleted")
    assert planned(store, "packs")["lines"] == [], "a pack that lost something is still compressed"
    assert fsck(store.chimage.storage) == ""


# Packed away


def test_an_image_that_is_packed_away_is_still_listed(store: Builds) -> None:
    prune(store, "unpacked")
    assert not store.image("app+latest").exists()
    assert not os.path.lexists(store.image("app"))
    assert "app:latest (amd64), not unpacked" in store.names()
    assert "apart:latest (amd64)" in store.names()
    listed = {image["reference"]: image for image in store.chimage.run("list", "--json").json()["images"]}
    assert (listed["app:latest"]["is_unpacked"], listed["apart:latest"]["is_unpacked"]) == (False, True)
    assert listed["app:latest"]["state"]
    assert "not unpacked" in store.chimage.run("list", "--long").stdout
    assert "unpacked:            no" in store.chimage.run("list", "app").stdout


def test_undelete_unpacks_it_again(store: Builds) -> None:
    before = contents(store.image("app+latest"))
    prune(store, "unpacked")
    store.chimage.run("undelete", "app")
    assert contents(store.image("app+latest")) == before
    assert os.readlink(store.image("app")) == "app+latest"
    assert "app:latest (amd64)" in store.names()


def test_a_build_in_which_everything_hits_unpacks_it_again(store: Builds) -> None:
    before = contents(store.image("app+latest"))
    prune(store, "unpacked")
    assert marks(store.build(f"FROM base\nRUN {NOISE} /common\nRUN {NOISE} /app", tag="app")) == "***"
    assert contents(store.image("app+latest")) == before


@pytest.mark.parametrize("mode", ["--cache", "--no-cache", "--rebuild"])
def test_it_is_a_base_as_before(store: Builds, mode: str) -> None:
    prune(store, "unpacked")
    told = store.build("FROM app\nRUN test -s /app && touch /new", "--dry-run", mode, tag="new")
    assert marks(told) == "*."
    assert not store.image("app+latest").exists()
    assert marks(store.build("FROM app\nRUN test -s /app && touch /new", mode, tag="new")) == "*."
    assert (store.image("new+latest") / "new").exists()


def test_it_can_be_deleted_and_undeleted(store: Builds) -> None:
    before = contents(store.image("app+latest"))
    prune(store, "unpacked")
    store.chimage.run("delete", "app")
    assert not [name for name in store.names() if name.startswith("app:")]
    store.chimage.run("undelete", "app")
    assert contents(store.image("app+latest")) == before


def test_clearing_the_build_cache_unpacks_it_before(store: Builds) -> None:
    before = contents(store.image("app+latest"))
    prune(store, "unpacked")
    store.chimage.run("build-cache", "--reset")
    assert contents(store.image("app+latest")) == before
    assert "app:latest (amd64)" in store.names()


def test_an_image_that_somebody_changed_stays(store: Builds) -> None:
    """`ch-run -w` and editors leave the stamp as it is; what they changed is nowhere else."""
    store.build("FROM base\nRUN touch /mine", tag="third")
    (store.image("app+latest") / "app").write_bytes(b"mine")
    (store.image("other+latest") / "common").unlink()
    (store.image("third+latest") / "mine").chmod(0o600)
    (store.image("base+latest") / "bin" / "mine").write_text("")
    assert planned(store, "unpacked")["lines"] == []
    prune(store, "unpacked")
    assert (store.image("app+latest") / "app").read_bytes() == b"mine"


def test_an_image_that_stands_on_a_shared_build_cache_stays(builds: Builds, tmp_path: Path) -> None:
    """Whoever looks after that one may drop what it needs, at any time."""
    shared = {"CH_IMAGE_CACHE_SHARED": builds.chimage.storage}
    own = Builds(Chimage(tmp_path / "own", env=shared), builds.context)
    own.build("FROM base\nRUN touch /mine", tag="mine")
    own.chimage.run("import", builds.image("base+latest"), "copy")
    assert names(planned(own, "unpacked"), "unpacked") == ["copy:latest"]


def test_an_image_with_a_closed_directory_stays(store: Builds) -> None:
    """It cannot be compared without changing it."""
    store.build("FROM base\nRUN mkdir /d && touch /d/f && chmod 000 /d", tag="closed")
    found = names(planned(store, "unpacked"), "unpacked")
    assert ("closed:latest" in found) == (os.geteuid() == 0)


# Limits


def test_what_was_used_lately_stays(store: Builds) -> None:
    assert planned(store, ALL, "--older-than", "1h")["lines"] == []
    old = time.time() - 3 * 86400
    os.utime(Path(store.chimage.storage, "blobs", "sha256-a"), (old, old))
    assert names(planned(store, ALL, "--older-than", "2d"), "downloads") == ["sha256-a"]
    assert planned(store, ALL, "--older-than", "4d")["lines"] == []


def test_the_last_ones_stay(store: Builds) -> None:
    """Of states, one with all that it was made from; of deleted images, so many of each name."""
    assert planned(store, "states", "--keep-last", "1")["lines"] == []
    store.build(f"FROM base\nRUN {NOISE} /new", tag="app")
    store.build("FROM base\nRUN touch /newer", tag="app")
    everything = names(planned(store, "states"), "states")
    assert sorted(text.rpartition("/")[2] for text in everything) == ["app", "new", "old", "older"]
    left = names(planned(store, "states", "--keep-last", "1"), "states")
    assert sorted(text.rpartition("/")[2] for text in left) == ["app", "old", "older"]
    for name in ("app", "other", "app"):
        store.build("FROM base\nRUN touch /newer", tag=name)
        store.chimage.run("delete", name)
    assert sorted(names(planned(store, "deleted"), "deleted")) == [
        "app:latest",
        "app:latest",
        "gone:latest",
        "other:latest",
    ]
    assert names(planned(store, "deleted", "--keep-last", "1"), "deleted") == ["app:latest"]
    assert_exact(store, "deleted,states", "--keep-last", "1")


def test_no_more_goes_than_the_size_asks_for(store: Builds) -> None:
    """Cheapest first: the unreachable states suffice; then everything that comes back does not."""
    used = planned(store, "states")["used"]
    told = assert_exact(store, "", "--max-size", str(used - 400_000))
    assert [line["kind"] for line in told["lines"]] == ["states"]
    assert len(names(told, "states")) == 1, "the newer one of two would do, but the older needs it"
    assert room(store.chimage.storage) <= used - 400_000
    told = planned(store, "", "--max-size", "1")
    assert told["short"] == told["goal"] - told["frees"] > 0
    assert {"deleted", "images"}.isdisjoint(line["kind"] for line in told["lines"])
    assert "goal is missed by" in prune(store, "", "--max-size", "1", "-n").stdout
    assert planned(store, "", "--max-size", "1T")["lines"] == []


def test_no_more_goes_than_free_space_asks_for(store: Builds) -> None:
    assert planned(store, "", "--min-free", "1k")["lines"] == []
    told = planned(store, "", "--min-free", "1000T")
    assert told["frees"] == planned(store, "")["frees"]


def test_images_go_least_recently_used_first(store: Builds) -> None:
    told = assert_exact(store, "images", "--keep-last", "2")
    left = {name.split(":")[0] for name in store.names()}
    assert left == {"app", "apart", "base", "other"} - {name.split(":")[0] for name in names(told, "images")}
    gone = names(told, "images")[0]
    assert "no longer in the build cache" in store.chimage.run("undelete", gone, check=False).expect(1).stderr


# Use


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--prune=states,nonsense",), "--prune: no such kind: 'nonsense'"),
        (("--prune=images",), "--prune=images without limit would delete all images"),
        (("--dry-run",), "--dry-run says how to prune, but there is no --prune"),
        (("--older-than", "1d"), "--older-than says how to prune"),
        (("--prune", "--older-than", "1y"), "expected a number with s, m, h, d or w"),
        (("--prune", "--max-size", "many"), "expected a size"),
        (("--prune", "--max-size", "infinity"), "expected a size"),
        (("--prune", "--keep-last", "-1"), "--keep-last"),
    ],
)
def test_wrong_use(chimage: Chimage, options: tuple[str, ...], message: str) -> None:
    assert message in chimage.run("build-cache", *options, check=False).expect(2).stderr


def test_it_needs_the_build_cache(chimage: Chimage) -> None:
    chimage.run("build-cache", "--prune", "--no-cache", check=False).expect(1)


def test_without_storage_directory(chimage: Chimage, storage: Path) -> None:
    assert "would free: 0 Bytes" in chimage.run("build-cache", "--prune", "-n").stdout
    assert not storage.exists()


def test_it_never_runs_beside_a_build(store: Builds) -> None:
    store.write("Dockerfile", "FROM base\nRUN sleep 20")
    with store.chimage.start("build", "-t", "slow", store.context) as build:
        assert build.stderr
        while "RUN" not in build.stderr.readline():
            pass
        busy = prune(store, "states", "--lock-timeout", "0", check=False).expect(1)
        assert "storage directory is in use by" in busy.stderr
        assert names(planned(store, "states"), "states")
        build.send_signal(signal.SIGTERM)
        build.wait()


@needs_program("git")
def test_whenever_it_is_killed_nothing_is_lost(store: Builds) -> None:
    """What was not to go is there, and what was goes with the next try."""
    expected = {name: contents(store.image(f"{name}+latest")) for name in ("app", "other", "base")}
    for attempt in range(5):
        with store.chimage.start("build-cache", "--prune=states,deleted,downloads,unpacked") as process:
            time.sleep(random.uniform(0.1, 0.8))
            process.kill()
            process.communicate()
        store.chimage.run("list")
        for name, content in expected.items():
            if not store.image(f"{name}+latest").is_dir():
                store.chimage.run("undelete", name)
            assert contents(store.image(f"{name}+latest")) == content, f"attempt {attempt}"
        store.build(f"FROM base\nRUN echo {attempt} && {NOISE} /x\nRUN touch /y", tag="new")
        store.chimage.run("delete", "new")
        assert fsck(store.chimage.storage) == ""
    prune(store, "states,deleted")
    assert json.loads(prune(store, "states,deleted", "-n", "--json").stdout)["lines"] == []
