"""Image configurations of OCI and Docker: what we know of an image survives, and nothing strange gets in."""

import json
from typing import Any

import pytest

from chimage_core.image.config import ImageConfig
from chimage_core.image.digest import Digest
from chimage_core.image.oci import fitting_history, from_oci, to_oci

LAYER = Digest.of(b"layer")
FULL = ImageConfig(
    architecture="arm/v7",
    env={"PATH": "/bin", "B": "a=b"},
    args={"SECRET": "never"},
    workdir="/work",
    shell=("/bin/bash", "-c"),
    labels={"k": "v"},
    volumes=("/data",),
    entrypoint=("/entry",),
    cmd=("run", "it"),
    user="me",
    author="somebody",
    ports=("80/tcp",),
    stop_signal="SIGINT",
    healthcheck={"Test": ["NONE"]},
    onbuild=("RUN true",),
    history=({"created_by": "one", "empty_layer": True}, {"created_by": "two"}),
)


def document(**changes: Any) -> bytes:
    base = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
    return json.dumps({**base, **changes}).encode()


def test_there_and_back() -> None:
    read = from_oci(to_oci(FULL, [LAYER]))
    assert read.config == FULL._replace(args={})
    assert read.diff_ids == (LAYER,)


def test_a_bare_one_there_and_back() -> None:
    bare = ImageConfig(architecture="amd64", history=({"created_by": "x"},))
    assert from_oci(to_oci(bare, [LAYER])).config == bare


def test_equal_ones_give_equal_bytes() -> None:
    turned = FULL._replace(env=dict(reversed(list(FULL.env.items()))))
    assert to_oci(turned, [LAYER]) == to_oci(FULL, [LAYER])
    assert b"SECRET" not in to_oci(FULL, [LAYER])


def test_the_time_is_what_is_asked_for() -> None:
    assert json.loads(to_oci(FULL, [LAYER]))["created"] == "1970-01-01T00:00:00Z"
    assert json.loads(to_oci(FULL, [LAYER], created=1704067200))["created"] == "2024-01-01T00:00:00Z"


@pytest.mark.parametrize("entries", [[], ["e"], ["l"], ["l", "l", "e", "l"], ["l"] * 7])
@pytest.mark.parametrize("layers", [1, 2, 5])
def test_there_is_an_entry_for_each_layer(entries: list[str], layers: int) -> None:
    """Quay refuses what does not count up."""
    history = [{"created_by": str(n), **({"empty_layer": True} if e == "e" else {})} for n, e in enumerate(entries)]
    fitted = fitting_history(history, layers)
    assert sum(not entry.get("empty_layer") for entry in fitted) == layers
    assert [entry["created_by"] for entry in fitted][: len(history)] == [entry["created_by"] for entry in history]
    assert fitting_history(fitted, layers) == fitted


def test_variants_have_their_usual_names() -> None:
    assert from_oci(document(architecture="arm64", variant="v8")).config.architecture == "arm64"
    assert from_oci(document(architecture="arm", variant="v6")).config.architecture == "arm/v6"


def test_what_docker_writes_is_read() -> None:
    config = {"Env": ["A=1", "novalue", "=x"], "Cmd": None, "Entrypoint": "word", "Volumes": None, "WorkingDir": ""}
    read = from_oci(document(config=config, history=None)).config
    assert read.env == {"A": "1"}
    assert read.entrypoint == ("word",)
    assert read.workdir == "/"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"[]", "not a JSON object"),
        (b"{", "Expecting"),
        (b"[" * 200_000, "nested"),
        (document(architecture=None), "architecture: missing"),
        (document(architecture=7), "architecture: expected str, not int"),
        (document(os="windows"), "for windows"),
        (document(config=[]), "config: expected dict"),
        (document(config={"Env": [1]}), "Env: expected a list of strings"),
        (document(config={"Labels": {"a": 1}}), "Labels.a: expected a string"),
        (document(history=["x"]), "history: expected a list of objects"),
        (document(rootfs={"diff_ids": ["../../etc/passwd"]}), "ALGORITHM:HEX"),
        (document(rootfs={"diff_ids": [str(LAYER)] * 5000}), "5000 layers"),
    ],
)
def test_nonsense_is_one_error_that_says_where(data: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        from_oci(data)
