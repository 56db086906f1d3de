"""Names of images to build."""

import pytest

from chimage_core.errors import UsageError
from chimage_core.image.naming import infer_tag


@pytest.mark.parametrize(
    ("dockerfile", "context", "name"),
    [
        # The manual's own examples.
        ("Dockerfile.@FOO.bar", ".", "foo.bar"),
        ("baz.@QUX.dockerfile", ".", "baz.qux"),
        ("/x/a.df", "/y", "a"),
        ("ctx/Dockerfile", "/srv/My Tool", "mytool"),
        ("/srv/foo/Dockerfile", "/srv/foo/", "foo"),
        ("/Dockerfile", "/", "root"),
        ("-", "/srv/foo", "foo"),
        ("-", "-", "root"),
        ("Dockerfile.df", "/srv/foo", "df"),
        ("Dockerfile.", "/srv/foo", "foo"),
        ("Dockerfile.@", "/srv/foo", "foo"),
        (".df", "/srv/foo", "foo"),
        ("Dockerfile..hidden", "/srv/foo", "hidden"),
        ("Containerfile", "/srv/.foo", "foo"),
        ("x.txt", "/srv/a/../foo", "foo"),
    ],
)
def test_name_comes_from_dockerfile_else_from_context(dockerfile: str, context: str, name: str) -> None:
    assert str(infer_tag(dockerfile, context)) == name


def test_relative_context_is_named_by_its_absolute_path(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`build .` is the usual call."""
    directory = tmp_path_factory.mktemp("tool", numbered=False)
    monkeypatch.chdir(directory)
    assert str(infer_tag("./Dockerfile", ".")) == "tool"


def test_context_without_a_usable_character_asks_for_a_tag() -> None:
    with pytest.raises(UsageError) as caught:
        infer_tag("Dockerfile", "/srv/日本")
    assert "/srv/日本" in caught.value.message
    assert "--tag" in (caught.value.hint or "")
