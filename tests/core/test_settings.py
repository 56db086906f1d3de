"""Settings."""

import os
import pwd
from typing import Any

import pytest

from chimage_core.errors import UsageError
from chimage_core.settings import Settings, process_environment

ALICE = {"USER": "alice"}


def resolve(environ: dict[str, str] | None = None, **options: Any) -> Settings:
    return Settings.resolve(options, {**ALICE, **(environ or {})})


def test_storage_option_beats_variable_beats_default() -> None:
    variable = {"CH_IMAGE_STORAGE": "/from/variable"}
    assert resolve(variable, storage="/from/option").storage == "/from/option"
    assert resolve(variable).storage == "/from/variable"
    assert resolve().storage == "/var/tmp/alice.ch"


def test_only_the_default_storage_directory_has_an_old_place() -> None:
    """A directory that the user chose is never filled from elsewhere."""
    assert resolve().old_storage == "/var/tmp/alice/ch-image"
    assert resolve(storage="/x").old_storage is None
    assert resolve({"CH_IMAGE_STORAGE": "/x"}).old_storage is None


def test_storage_option_may_be_relative_but_the_variable_not() -> None:
    """The variable is set in another context than the one it is used in."""
    assert resolve(storage="here/x/").storage == os.path.join(os.getcwd(), "here/x")
    for value in ("here", ""):
        with pytest.raises(UsageError, match="CH_IMAGE_STORAGE"):
            resolve({"CH_IMAGE_STORAGE": value})


def test_storage_variable_of_ch_grow_is_still_heeded() -> None:
    assert resolve({"CH_GROW_STORAGE": "/grown"}).storage == "/grown"
    assert resolve({"CH_GROW_STORAGE": "/grown", "CH_IMAGE_STORAGE": "/new"}).storage == "/new"


def test_missing_user_is_looked_up() -> None:
    name = pwd.getpwuid(os.geteuid()).pw_name
    for environ in ({}, {"USER": ""}):
        assert Settings.resolve({}, environ).storage == f"/var/tmp/{name}.ch"


@pytest.mark.parametrize("user", ["../etc", "a/b", "..", ".", "a\0b"])
def test_user_that_would_lead_elsewhere_is_refused(user: str) -> None:
    with pytest.raises(UsageError, match="not a user name"):
        Settings.resolve({}, {"USER": user})


def test_user_does_not_matter_if_storage_is_given() -> None:
    assert Settings.resolve({"storage": "/x"}, {"USER": "../etc"}).storage == "/x"


def test_cache_option_beats_variable() -> None:
    assert resolve().cache is None
    assert resolve({"CH_IMAGE_CACHE": "rebuild"}).cache == "rebuild"
    assert resolve({"CH_IMAGE_CACHE": "rebuild"}, cache="disabled").cache == "disabled"


@pytest.mark.parametrize("value", ["", "Enabled", "yes"])
def test_other_value_of_the_cache_variable_is_refused(value: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve({"CH_IMAGE_CACHE": value})
    assert repr(value) in caught.value.message
    assert "enabled, disabled, rebuild" in (caught.value.hint or "")


def test_large_file_threshold_is_in_mib() -> None:
    assert resolve().cache_large == 0
    assert resolve({"CH_IMAGE_CACHE_LARGE": "3"}).cache_large == 3 * 2**20
    assert resolve({"CH_IMAGE_CACHE_LARGE": "3"}, cache_large=4).cache_large == 4 * 2**20
    assert resolve({"CH_IMAGE_CACHE_LARGE": "3"}, cache_large=0).cache_large == 0


@pytest.mark.parametrize("value", ["", "-1", "1.5", "many", "٣"])
def test_malformed_large_file_threshold_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match="CH_IMAGE_CACHE_LARGE"):
        resolve({"CH_IMAGE_CACHE_LARGE": value})


def test_deleted_images_are_kept_for_some_days() -> None:
    assert resolve().keep_deleted == 30
    assert resolve({"CH_IMAGE_KEEP_DELETED": "7"}).keep_deleted == 7
    assert resolve({"CH_IMAGE_KEEP_DELETED": "7"}, keep_deleted=0).keep_deleted == 0


@pytest.mark.parametrize("value", ["", "-1", "1.5", "for ever", "٣"])
def test_malformed_number_of_days_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match="CH_IMAGE_KEEP_DELETED"):
        resolve({"CH_IMAGE_KEEP_DELETED": value})


@pytest.mark.parametrize(
    ("environ", "processors"),
    [
        ({}, None),
        ({"SLURM_CPUS_ON_NODE": "64"}, 64),
        ({"SLURM_CPUS_ON_NODE": "64", "SLURM_CPUS_PER_TASK": "4"}, 4),
        ({"SLURM_CPUS_ON_NODE": "0", "SLURM_CPUS_PER_TASK": "4(x2)"}, None),
    ],
)
def test_processors_are_what_slurm_gives(environ: dict[str, str], processors: int | None) -> None:
    """On a shared node the others belong to somebody else."""
    assert resolve(environ).processors == processors


def test_shared_caches_are_a_list_and_the_option_beats_the_variable() -> None:
    variable = {"CH_IMAGE_CACHE_SHARED": "/one:/two/../three:"}
    assert resolve().cache_shared == ()
    assert resolve(variable).cache_shared == ("/one", "/three")
    assert not resolve(variable).cache_shared_required
    assert resolve(variable, cache_shared="/four").cache_shared == ("/four",)
    assert resolve(cache_shared="here").cache_shared == (os.path.join(os.getcwd(), "here"),)
    assert resolve(cache_shared="here").cache_shared_required
    assert resolve(variable, cache_shared="").cache_shared == ()


def test_shared_caches_of_the_variable_are_absolute_paths() -> None:
    with pytest.raises(UsageError, match="CH_IMAGE_CACHE_SHARED"):
        resolve({"CH_IMAGE_CACHE_SHARED": "/one:two"})


def test_authentication_is_asked_for_by_option_or_variable() -> None:
    assert not resolve().auth
    assert resolve(auth=True).auth
    assert resolve({"CH_IMAGE_AUTH": "yes"}).auth
    assert not resolve({"CH_IMAGE_AUTH": "no"}).auth


def test_secrets_are_not_in_the_representation() -> None:
    """Tracebacks with local variables find their way into bug reports."""
    settings = resolve({"CH_IMAGE_USERNAME": "alice", "CH_IMAGE_PASSWORD": "hunter2"})
    assert (settings.username, settings.password) == ("alice", "hunter2")
    assert "hunter2" not in repr(settings)


def test_debug_comes_from_option_or_variable_unless_quiet() -> None:
    assert not resolve().debug
    assert resolve(debug=True).debug
    assert resolve({"CH_IMAGE_DEBUG": "1"}).debug
    assert not resolve({"CH_IMAGE_DEBUG": ""}).debug
    assert not resolve(debug=True, quiet=1).debug


def test_log_file_makes_verbose_unless_verbosity_was_chosen() -> None:
    environ = {"CH_LOG_FILE": "/tmp/log"}
    assert resolve(environ).log_file == "/tmp/log"
    assert resolve(environ).verbosity == 1
    assert resolve(environ, verbose=3).verbosity == 3
    assert resolve(environ, quiet=2).verbosity == -2
    assert resolve().verbosity == 0
    assert resolve({"CH_LOG_FILE": ""}).log_file is None


def test_festoon_and_color_are_switched_by_variables() -> None:
    assert resolve({"CH_LOG_FESTOON": ""}).log_festoon
    assert not resolve().log_festoon
    assert resolve().color
    assert not resolve({"NO_COLOR": "1"}).color
    assert resolve({"NO_COLOR": ""}).color


def test_xattrs_are_kept_unless_an_option_says_no() -> None:
    assert resolve().xattrs
    assert resolve({"CH_XATTRS": "1"}).xattrs
    assert not resolve({"CH_XATTRS": "1"}, xattrs=False).xattrs


def test_locking_can_be_limited_and_switched_off() -> None:
    assert (resolve().lock, resolve().lock_timeout) == (True, None)
    assert (resolve(no_lock=True).lock, resolve(lock_timeout=0).lock_timeout) == (False, 0)


def test_variables_for_builds_are_passed_as_they_were() -> None:
    environ = {"http_proxy": "http://p", "SSH_AUTH_SOCK": "/s", "OTHER": "x"}
    settings = resolve(environ)
    assert settings.passed_variables == {"http_proxy": "http://p", "SSH_AUTH_SOCK": "/s", "USER": "alice"}
    assert settings.proxies == {"http_proxy": "http://p"}
    assert settings.environment["OTHER"] == "x"


def test_environment_of_the_process_is_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a build arg is must not change while the command runs."""
    monkeypatch.setenv("SOME_ARG", "before")
    snapshot = process_environment()
    monkeypatch.setenv("SOME_ARG", "after")
    assert snapshot["SOME_ARG"] == "before"
