"""The image configuration and its metadata.json form."""

import json

import pytest

from chimage_core.image.config import ImageConfig

FULL = ImageConfig(
    architecture="arm64",
    env={"A": "1", "PATH": "/x"},
    args={"V": "2"},
    workdir="/w",
    shell=("/bin/bash", "-c"),
    labels={"l": "x"},
    volumes=("/data",),
    entrypoint=("/e",),
    cmd=(),
    user="u",
    ports=("80/tcp",),
    stop_signal="SIGTERM",
    healthcheck={"Test": ["NONE"]},
    onbuild=("RUN true",),
    history=({"created_by": "RUN.S true"},),
)


def test_json_form_round_trips() -> None:
    assert ImageConfig.from_json(FULL.to_json(), architecture="amd64") == FULL


def test_equal_values_give_equal_bytes() -> None:
    """The file in the image must not change, and miss, because of a dictionary's order."""
    a = ImageConfig(architecture="amd64", env={"A": "1", "B": "2"})
    b = ImageConfig(architecture="amd64", env={"B": "2", "A": "1"})
    assert a.to_json() == b.to_json()


def test_metadata_written_by_charliecloud_is_read() -> None:
    """Images exported from its storage keep their settings; null marks a proxy variable that was not set."""
    document = {
        "arch": "amd64",
        "arg": {"http_proxy": None, "X": "1"},
        "cwd": "/foo",
        "env": {"A": "b"},
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "RUN true"}],
        "labels": {},
        "shell": ["/bin/sh", "-c"],
        "volumes": ["/v"],
    }
    config = ImageConfig.from_json(json.dumps(document).encode(), architecture="ppc64le")
    assert (config.args, config.workdir, config.env, config.volumes) == ({"X": "1"}, "/foo", {"A": "b"}, ("/v",))
    assert config.architecture == "amd64"


def test_missing_keys_get_defaults() -> None:
    assert ImageConfig.from_json(b"{}", architecture="s390x") == ImageConfig(architecture="s390x")


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"[]", "not a JSON object"),
        (b'{"env": []}', "key env"),
        (b'{"env": {"A": 1}}', "key env.A"),
        (b'{"shell": [1]}', "key shell"),
        (b'{"history": ["x"]}', "key history"),
    ],
)
def test_wrong_metadata_is_refused_by_key(data: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ImageConfig.from_json(data, architecture="amd64")
