"""Architectures."""

import os

import pytest

from chimage_core.errors import UsageError
from chimage_core.image.architecture import best_available, host_architecture
from chimage_core.image.platform import Platform


@pytest.mark.parametrize(
    ("machine", "architecture"),
    [
        ("x86_64", "amd64"),
        ("aarch64", "arm64/v8"),
        ("armv7l", "arm/v7"),
        ("armv6l", "arm/v6"),
        ("i686", "386"),
        ("ppc64le", "ppc64le"),
        ("s390x", "s390x"),
        ("riscv64", "riscv64"),
    ],
)
def test_machine_is_translated_to_the_registry_name(machine: str, architecture: str) -> None:
    assert host_architecture(machine) == architecture


def test_this_machine_is_known() -> None:
    assert Platform.parse(host_architecture(os.uname().machine)).system == "linux"


def test_unknown_machine_is_named_with_a_way_out() -> None:
    with pytest.raises(UsageError, match="pdp11") as caught:
        host_architecture("pdp11")
    assert "--arch" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("amd64", Platform("amd64")),
        ("arm/v7", Platform("arm", "v7")),
        ("linux/amd64", Platform("amd64")),
        ("linux/arm64/v8", Platform("arm64", "v8")),
        ("windows/amd64", Platform("amd64", system="windows")),
    ],
)
def test_platform_is_read(text: str, platform: Platform) -> None:
    assert Platform.parse(text) == platform


@pytest.mark.parametrize("text", ["", "/", "arm/", "linux/", "linux/arm/v7/x", "arm/v7/x"])
def test_malformed_platform_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Platform.parse(text)


@pytest.mark.parametrize(
    ("wanted", "available", "best"),
    [
        ("amd64", ["arm64", "amd64"], "amd64"),
        ("arm64/v8", ["amd64", "arm64"], "arm64"),
        ("arm64", ["arm64/v8"], "arm64/v8"),
        ("arm/v7", ["arm/v5", "arm/v6"], "arm/v6"),
        ("arm/v6", ["arm/v7"], None),
        ("386", ["amd64"], None),
        ("nonesuch", [], None),
    ],
)
def test_fallback_runs_on_the_same_machine(wanted: str, available: list[str], best: str | None) -> None:
    """An arm/v7 machine runs arm/v6 images, but not the other way round."""
    assert best_available(wanted, available) == best
