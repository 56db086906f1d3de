"""`--cache-shared`: the cache of a site, which its users read and never write."""

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.builds import BASE, Builds, contents, marks, traces
from tests.support.cli import PATH, Chimage
from tests.support.host import needs_program
from tests.support.repository import fsck

SITE = "FROM base\nRUN echo site > /site\nRUN mkdir /d && echo deep > /d/file"
OWN = f"{SITE}\nRUN echo own > /own"
NOBODY = 65534
VARIABLE = "CH_IMAGE_CACHE_SHARED"

UserMaker = Callable[[str], Builds]


@pytest.fixture
def site(builds: Builds) -> Path:
    """The storage directory of a site: the image `base`, and `image` with two steps on top of it."""
    builds.build(SITE)
    return Path(builds.chimage.storage)


@pytest.fixture
def sealed(site: Path) -> Iterator[Path]:
    """The same, but for its images made unwritable; afterwards it is as it was."""
    # Large files may be files of images at the same time; in directories that are closed nothing can replace them.
    below = [path for path in (site / "cache").rglob("*") if path.is_dir() or "large" not in path.parts]
    paths = [site, *site.iterdir(), *below]
    modes = {path: stat.S_IMODE(os.lstat(path).st_mode) for path in paths}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    before = traces(site)
    try:
        yield site
        assert traces(site) == before
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


@pytest.fixture
def user(builds: Builds, site: Path, tmp_path: Path) -> UserMaker:
    """Make a user with an empty storage directory, whose environment names the cache of the site."""

    def make(name: str) -> Builds:
        context = tmp_path / f"context-{name}"
        context.mkdir()
        return Builds(Chimage(tmp_path / name, env={VARIABLE: str(site)}), context)

    return make


def git(storage: str, *arguments: str) -> str:
    """Run git on the cache of a storage directory."""
    environment = {"PATH": PATH, "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
    repository = os.path.join(storage, "cache/git")
    done = subprocess.run(
        ["git", "-C", repository, *arguments], check=True, capture_output=True, text=True, env=environment
    )
    return done.stdout


def stored(storage: Path) -> int:
    """Return the bytes of contents in the cache of a storage directory."""
    paths = [*(storage / "cache/git/objects/pack").glob("*.pack"), *(storage / "cache/large").rglob("*")]
    return sum(path.stat().st_size for path in paths if path.is_file())


@pytest.mark.userns
def test_what_the_site_has_built_is_not_built_again(sealed: Path, user: UserMaker) -> None:
    alice = user("alice")
    result = alice.build(SITE)
    assert marks(result) == "***"
    assert contents(alice.image()) == contents(sealed / "img/image+latest")
    assert alice.names() == ["image:latest (amd64)"], "the images of the site are not hers"
    assert fsck(alice.chimage.storage) == ""


@pytest.mark.userns
def test_own_steps_go_on_top_and_into_the_own_cache(sealed: Path, user: UserMaker) -> None:
    alice = user("alice")
    assert marks(alice.build(OWN)) == "***."
    assert (alice.read("site"), alice.read("d/file"), alice.read("own")) == ("site\n", "deep\n", "own\n")
    assert marks(alice.build(OWN)) == "****"
    shutil.rmtree(alice.image())
    assert marks(alice.build(OWN)) == "****"
    assert alice.read("d/file") == "deep\n"
    assert fsck(alice.chimage.storage) == ""
    size, base = (stored(storage) for storage in (Path(alice.chimage.storage), sealed))
    assert size < base / 20


@pytest.mark.userns
@pytest.mark.usefixtures("sealed")
def test_the_option_names_it_too_and_an_empty_one_names_none(site: Path, user: UserMaker) -> None:
    alice = user("alice")
    assert marks(alice.build(SITE, "--cache-shared", str(site), env={VARIABLE: ""})) == "***"
    result = alice.build("FROM base", "--cache-shared=", tag="other", check=False).expect(1)
    assert "image not found" in result.stderr


@pytest.mark.usefixtures("sealed")
def test_where_a_base_comes_from_is_said_when_asked(site: Path, user: UserMaker) -> None:
    alice = user("alice")
    assert str(site) not in alice.build("FROM base").stderr
    assert f"image is from a shared cache: {site}/cache/git" in alice.build("FROM base", "-v").stderr


def test_an_own_image_of_that_name_wins(sealed: Path, user: UserMaker, tmp_path: Path) -> None:
    alice = user("alice")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/mine").touch()
    for option in ("--cache", "--no-cache"):
        alice.chimage.run("import", option, tmp_path / "tree", BASE)
        alice.build("FROM base\nLABEL a=1")
        assert alice.image().joinpath("mine").exists()
    alice.chimage.run("delete", BASE)
    assert marks(alice.build("FROM base\nLABEL a=1")) == "*."
    assert not alice.image().joinpath("mine").exists()
    assert alice.image().joinpath("bin").exists()


@pytest.mark.usefixtures("sealed")
def test_without_cache_nothing_is_shared(user: UserMaker) -> None:
    alice = user("alice")
    result = alice.build("FROM base", "--no-cache", check=False).expect(1)
    assert "image not found" in result.stderr
    alice.chimage.run("list", "--no-cache", env={VARIABLE: "/nowhere"})


@pytest.mark.userns
@pytest.mark.usefixtures("sealed")
def test_rebuild_takes_the_base_and_no_step(user: UserMaker) -> None:
    alice = user("alice")
    assert marks(alice.build(SITE, "--rebuild")) == "*.."


@pytest.mark.usefixtures("sealed")
def test_a_dry_run_writes_nothing(user: UserMaker) -> None:
    alice = user("alice")
    assert marks(alice.build(OWN, "--dry-run")) == "***."
    assert not os.path.exists(alice.chimage.storage)


@pytest.mark.userns
@pytest.mark.usefixtures("sealed")
def test_once_it_was_used_images_work_without_naming_it(user: UserMaker) -> None:
    alice = user("alice")
    alice.build(OWN)
    bare = Builds(Chimage(alice.chimage.storage), alice.context)
    assert marks(bare.build("FROM image\nRUN cat /site /own")) == "*."
    bare.chimage.run("build-cache")
    assert "echo site" in bare.chimage.run("build-cache", "--tree").stdout


@pytest.mark.userns
@pytest.mark.usefixtures("sealed")
def test_a_deleted_image_comes_back(user: UserMaker) -> None:
    alice = user("alice")
    for dockerfile in (SITE, OWN):
        alice.build(dockerfile)
        before = contents(alice.image())
        alice.chimage.run("delete", "image")
        assert alice.names() == []
        alice.chimage.run("undelete", "image")
        assert contents(alice.image()) == before


@needs_program("git")
@pytest.mark.userns
@pytest.mark.usefixtures("sealed")
def test_git_can_clean_up_the_own_cache(user: UserMaker) -> None:
    alice = user("alice")
    alice.build(OWN)
    git(alice.chimage.storage, "gc", "--prune=now", "-q")
    assert fsck(alice.chimage.storage) == ""
    shutil.rmtree(alice.image())
    assert marks(alice.build(OWN)) == "****"
    assert alice.read("d/file") == "deep\n"


@pytest.mark.userns
@pytest.mark.usefixtures("sealed")
def test_upkeep_of_the_own_cache_leaves_the_shared_one_alone(user: UserMaker, busybox: Path) -> None:
    """It takes nothing over, and gives up nothing of what does not stand on the shared cache."""
    alice = user("alice")
    for number in range(3):
        alice.build(f"{OWN}\nRUN echo {number} > /number")
    alice.chimage.run("import", busybox, "independent")
    packs = Path(alice.chimage.storage, "cache/git/objects/pack")
    before = sum(path.stat().st_size for path in packs.iterdir())
    for operation in ("--check", "--repair", "--check"):
        alice.chimage.run("build-cache", operation)
    assert sum(path.stat().st_size for path in packs.iterdir()) <= before
    assert fsck(alice.chimage.storage) == ""
    shutil.rmtree(alice.image())
    assert marks(alice.build(f"{OWN}\nRUN echo 2 > /number")) == "*****"
    assert alice.read("d/file") == "deep\n"
    Path(alice.chimage.storage, "cache/git/objects/info/alternates").unlink()
    alone = Builds(Chimage(alice.chimage.storage), alice.context)
    shutil.rmtree(alone.image("independent+latest"))
    alone.build("FROM independent", tag="copy")
    assert alone.image("copy+latest").joinpath("bin/busybox").exists()


@pytest.mark.userns
def test_a_repair_gives_up_what_stood_on_a_cache_only_if_that_is_gone_for_good(site: Path, user: UserMaker) -> None:
    alice = user("alice")
    alice.build(OWN)
    alice.chimage.run("delete", "image")
    alice.build(OWN)
    site.rename(f"{site}.away")
    result = alice.chimage.run("build-cache", "--check", check=False).expect(1)
    assert "Traceback" not in result.stderr
    assert str(site) in result.stderr
    away = alice.chimage.run("build-cache", "--repair", check=False).expect(1)
    listing = Path(alice.chimage.storage, "cache/git/objects/info/alternates")
    assert str(site) in away.stderr
    assert str(listing) in away.stderr
    assert "Traceback" not in away.stderr
    Path(f"{site}.away").rename(site)
    assert marks(alice.build(OWN)) == "****"
    site.rename(f"{site}.away")
    listing.write_text("")
    alice.chimage.run("build-cache", "--repair")
    alice.chimage.run("build-cache", "--check")
    assert alice.read("d/file") == "deep\n"


def test_a_directory_that_is_none_of_ours_is_wrong_use(user: UserMaker, tmp_path: Path) -> None:
    alice = user("alice")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").touch()
    (tmp_path / "newer").mkdir()
    (tmp_path / "newer/version").write_text("chimage 99\n")
    for name, reason in (("nowhere", "no storage directory"), ("other", "not a storage"), ("newer", "version 99")):
        path = tmp_path / name
        result = alice.build("FROM base", "--cache-shared", str(path), check=False).expect(2)
        assert str(path) in result.stderr
        assert reason in result.stderr
        assert "hint: " in result.stderr
        assert "Traceback" not in result.stderr


def test_a_wrong_variable_is_a_warning(user: UserMaker, tmp_path: Path) -> None:
    """A site sets it for everybody, also on hosts where that directory is not mounted."""
    alice = user("alice")
    env = {VARIABLE: str(tmp_path / "nowhere")}
    alice.chimage.run("import", alice.context, "own", env=env)
    result = alice.build("FROM own", env=env)
    assert result.stderr.count("warning: shared build cache") == 1
    assert f"{tmp_path}/nowhere" in result.stderr
    alice.build("FROM own", env={VARIABLE: "relative"}, check=False).expect(2)


def test_several_can_be_named(site: Path, user: UserMaker, tmp_path: Path) -> None:
    alice, bob = user("alice"), user("bob")
    (tmp_path / "tree").mkdir()
    alice.chimage.run("import", tmp_path / "tree", "alices")
    for name in ("alices", "base"):
        bob.build(f"FROM {name}", env={VARIABLE: f"{alice.chimage.storage}:{site}"})


@pytest.mark.userns
def test_who_looks_after_it_may_have_the_variable_set_too(builds: Builds, site: Path) -> None:
    assert marks(builds.build(OWN, env={VARIABLE: str(site)})) == "***."
    assert not (site / "cache/git/objects/info/alternates").exists()


@pytest.mark.userns
def test_when_it_is_gone_the_build_starts_anew(site: Path, user: UserMaker, busybox: Path) -> None:
    alice = user("alice")
    alice.build(OWN)
    site.rename(f"{site}.away")
    result = alice.build(OWN, check=False).expect(1)
    assert "image not found in storage directory: base" in result.stderr
    assert "warning: shared build cache can’t be used" in result.stderr
    assert "Traceback" not in result.stderr
    # Her own image is there: the cache, which has lost it, takes it in again.
    result = alice.build("FROM image\nRUN cat /d/file", tag="next")
    assert result.stdout == "deep\n"
    alice.chimage.run("import", busybox, BASE)
    assert marks(alice.build(OWN)) == "*..."
    assert alice.read("d/file") == "deep\n"
    assert marks(alice.build(OWN)) == "****"
    for command in (["list"], ["build-cache"], ["build-cache", "--tree"], ["delete", "next"]):
        alice.chimage.run(*command)


@needs_program("git")
@pytest.mark.userns
def test_what_the_site_gave_up_is_built_again(builds: Builds, site: Path, user: UserMaker) -> None:
    alice = user("alice")
    alice.build(OWN)
    builds.chimage.run("delete", "image")
    for kind in ("states", "deleted"):
        shutil.rmtree(site / "cache/git/refs" / kind)
    # What its clean-up leaves, without waiting for the limit of age: only the image `base`.
    git(str(site), "repack", "-adq")
    git(str(site), "prune", "--expire=now")
    assert marks(alice.build(OWN)) == "*..."
    assert alice.read("d/file") == "deep\n"
    shutil.rmtree(alice.image())
    assert marks(alice.build(OWN)) == "****"
    assert alice.read("d/file") == "deep\n"
    assert "warning" not in alice.build(OWN).stderr


@pytest.mark.userns
def test_users_build_on_it_at_the_same_time_while_it_is_cleaned_up(site: Path, user: UserMaker) -> None:
    people = [user("alice"), user("bob")]
    dockerfile = OWN + "".join(f"\nRUN echo {number} > /{number}" for number in range(5))
    running = []
    for person in people:
        person.write("Dockerfile", dockerfile)
        running.append(person.chimage.start("build", "-t", "image", str(person.context)))
    while any(process.poll() is None for process in running):
        git(str(site), "repack", "-adFq")
        git(str(site), "pack-refs", "--all")
    for person, process in zip(people, running, strict=True):
        stderr = process.communicate()[1]
        assert process.returncode == 0, stderr
        assert [line[3] for line in stderr.splitlines() if line[:2] == "  "] == [*"***", *"......"], stderr
        assert (person.read("d/file"), person.read("4")) == ("deep\n", "4\n")
        assert fsck(person.chimage.storage) == ""


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that every user can enter: tests' own are closed."""
    path = Path(tempfile.mkdtemp(dir="/var/tmp"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


@pytest.mark.root
def test_the_site_is_another_user_and_the_directory_is_mounted_read_only(busybox: Path, public: Path) -> None:
    """Nobody else can read a cache until its owner permits it: images may have files that only their owner may read."""
    site, mounted, home = public / "site", public / "mounted", public / "home"
    for path in (mounted, home):
        path.mkdir()
    os.chown(home, NOBODY, NOBODY)
    Chimage(site).run("import", busybox, BASE)
    subprocess.run(["mount", "--bind", site, mounted], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", mounted], check=True)
        alice = Chimage(home / "storage", env={VARIABLE: str(mounted), "HOME": str(home), "TMPDIR": str(home)})
        (home / "file").write_text("content")
        (home / "Dockerfile").write_text("FROM base\nCOPY file /")

        def build() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                alice.argv("build", "-t", "image", home),
                capture_output=True,
                text=True,
                check=False,
                env=alice.environment(),
                user=NOBODY,
                group=NOBODY,
                extra_groups=[],
            )

        refused = build()
        assert refused.returncode == 1
        assert f"chmod a+rX {mounted}/cache/git" in refused.stderr
        (site / "cache/git").chmod(0o755)
        for expected in ("*.", "**"):
            done = build()
            assert done.returncode == 0, done.stderr
            assert "warning" not in done.stderr
            assert [line[3] for line in done.stderr.splitlines() if line[:2] == "  "] == [*expected]
        assert Path(alice.storage, "img/image+latest/file").read_text() == "content"
        assert {path.lstat().st_uid for path in (site, *site.rglob("*"))} == {0}
        os.chown(Path(alice.storage, "cache/git"), 0, 0)  # Or git(1) refuses to look into it.
        assert fsck(alice.storage) == ""
    finally:
        subprocess.run(["umount", mounted], check=True)
