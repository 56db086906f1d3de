"""What is remembered about a machine, and the choice that is made from it."""

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chimage_core.errors import DependencyMissing, RunnerError, UsageError
from chimage_core.runner import probe
from chimage_core.runner.choose import choose
from chimage_core.runner.namespace import NamespaceRunner
from chimage_core.runner.probe import Abilities

ALL = Abilities(namespaces=True, pid_namespace=True, seccomp=True, overlay=True, problem="")
NONE = Abilities(namespaces=False, pid_namespace=False, seccomp=True, overlay=False, problem="not for you")


@pytest.mark.parametrize("value", [ALL, NONE])
def test_abilities_survive_json(value: Abilities) -> None:
    assert Abilities.from_json(json.loads(json.dumps(value.to_json()))) == value


@pytest.mark.parametrize(
    "value",
    [None, [], "x", {}, ALL.to_json() | {"new": 1}, ALL.to_json() | {"overlay": "yes"}, ALL.to_json() | {"overlay": 1}],
)
def test_anything_else_is_forgotten(value: object) -> None:
    """A file of another version, or a damaged one, must lead to a new probe and not to an error."""
    assert Abilities.from_json(value) is None


def test_the_key_names_kernel_user_and_file_system(tmp_path: Path) -> None:
    key = probe.key(str(tmp_path))
    assert os.uname().release in key
    assert f"uid={os.geteuid()}" in key
    assert probe.key("/proc") != key
    assert "fs=proc" in probe.key("/proc")


@pytest.mark.userns
class TestHere:
    @pytest.fixture
    def runner(self) -> Iterator[NamespaceRunner]:
        runner = NamespaceRunner()
        yield runner
        runner.close()

    def test_a_probe_finds_namespaces_and_leaves_nothing_behind(self, runner: NamespaceRunner, tmp_path: Path) -> None:
        found = runner.probe(str(tmp_path))
        assert found.namespaces
        assert found.problem == ""
        assert list(tmp_path.iterdir()) == []

    def test_a_place_that_cannot_be_written_is_no_place_for_an_overlay(self, runner: NamespaceRunner) -> None:
        assert not runner.can_overlay("/proc")
        assert not runner.can_overlay("/not/there")

    @pytest.mark.root
    def test_files_of_a_foreign_group_are_no_place_for_an_overlay(
        self, runner: NamespaceRunner, tmp_path: Path
    ) -> None:
        """Shared project directories give their group to what is made in them; only our own exists in the namespace."""
        assert runner.can_overlay(str(tmp_path))
        os.chown(tmp_path, -1, 12345)
        tmp_path.chmod(0o2755)
        assert not runner.can_overlay(str(tmp_path))

    def test_auto_takes_our_own_namespaces_first(self, tmp_path: Path) -> None:
        runner = choose("auto", str(tmp_path))
        assert runner.name == "python"
        runner.close()


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    for name in ("ch-run", "bwrap"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def test_auto_falls_back_to_ch_run_and_then_bwrap(programs: Path) -> None:
    assert choose("auto", "/", NONE, str(programs)).name == "ch-run"
    (programs / "ch-run").unlink()
    assert choose("auto", "/", NONE, str(programs)).name == "bwrap"


def test_if_nothing_works_the_error_says_why_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="not for you") as raised:
        choose("auto", "/", NONE, str(tmp_path))
    assert raised.value.hint


def test_a_chosen_program_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(DependencyMissing, match="bwrap"):
        choose("bwrap", "/", path=str(tmp_path))


def test_what_is_remembered_is_not_tried_again(programs: Path) -> None:
    for abilities in (ALL, dataclasses.replace(ALL, pid_namespace=False)):
        assert choose("auto", "/", abilities, str(programs)).name == "python"


def test_an_unknown_kind_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="docker"):
        choose("docker", "/")
