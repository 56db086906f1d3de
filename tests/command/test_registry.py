"""`registry`: what a registry has."""

from pathlib import Path

import pytest

from tests.support.cli import Chimage
from tests.support.registry import Layer, Registry, make_image, make_index, sha256

pytestmark = pytest.mark.network
IMAGE = make_image(Layer.of(), Env=["A=b\x1b[2J"], Labels={"l": "m"}, Cmd=["sh", "-c"])


def test_tags(chimage: Chimage, registry: Registry) -> None:
    for tag in ("one", "two"):
        registry.put(IMAGE, "list/tags", tag)
    place = f"{registry.host}/list/tags"
    assert sorted(chimage.run("registry", "tags", place).stdout.split()) == ["one", "two"]
    found = chimage.run("--json", "registry", "tags", f"{place}:one").json_lines()[-1]
    assert (sorted(found["tags"]), found["is_complete"]) == (["one", "two"], True)
    short = chimage.run("registry", "tags", "--limit=1", place)
    assert len(short.stdout.split()) == 1
    assert "there are more tags" in short.stderr
    assert not Path(chimage.storage).exists()


def test_catalog(chimage: Chimage, registry: Registry) -> None:
    registry.put(IMAGE, "list/catalog")
    assert "list/catalog" in chimage.run("registry", "catalog", registry.host).stdout.split()
    assert (
        "list/catalog" in chimage.run("--json", "registry", "catalog", registry.host).json_lines()[-1]["repositories"]
    )
    done = chimage.run("registry", "catalog", "name", check=False)
    assert done.status == 2
    assert "not a registry: name" in done.stderr


def test_inspect(chimage: Chimage, registry: Registry) -> None:
    place = registry.put(IMAGE, "list/inspect")
    done = chimage.run("registry", "inspect", place)
    assert f"digest:          {sha256(IMAGE.manifest)}" in done.stdout
    assert "architecture:    amd64" in done.stdout
    assert "cmd:             sh -c" in done.stdout
    assert "\x1b" not in done.stdout
    found = chimage.run("--json", "registry", "inspect", place).json_lines()[-1]
    assert found["image"]["config"]["labels"] == {"l": "m"}
    assert found["image"]["layers"][0]["digest"] == sha256(IMAGE.layers[0].data)


def test_inspect_an_index_that_lacks_an_architecture(chimage: Chimage, registry: Registry) -> None:
    index = make_index(IMAGE.descriptor({"architecture": "amd64", "os": "linux"}))
    place = registry.put_index("list/index", "latest", index, [IMAGE])
    found = chimage.run("--json", "registry", "inspect", "--arch=s390x", place).json_lines()[-1]
    assert (found["is_index"], found["digest"], found["image"]) == (True, sha256(index), None)
    assert found["available"] == [{"architecture": "amd64", "digest": sha256(IMAGE.manifest)}]
    assert "architectures:   amd64" in chimage.run("registry", "inspect", place).stdout


def test_what_is_not_there(chimage: Chimage, registry: Registry) -> None:
    for action in ("tags", "inspect"):
        done = chimage.run("registry", action, f"{registry.host}/list/nothing", check=False)
        assert done.status == 1
        assert "list/nothing" in done.stderr
        assert "Traceback" not in done.stderr
