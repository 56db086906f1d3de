"""Image references."""

import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chimage_core.errors import InvalidReference
from chimage_core.image.digest import Digest
from chimage_core.image.reference import MAX_FILE_NAME, Reference, ReferenceGlob

SHA256 = "sha256:" + "0123456789abcdef" * 4

LABELS = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,6}[A-Za-z0-9])?", fullmatch=True)
HOSTS = st.one_of(
    st.builds(lambda first, rest: ".".join([first, *rest]), LABELS, st.lists(LABELS, min_size=1, max_size=3)),
    st.sampled_from(["localhost", "[::1]", "[fe80::1]", "127.0.0.1"]),
)
COMPONENTS = st.from_regex(r"[a-z0-9_][a-z0-9_.-]{0,9}", fullmatch=True)
TAGS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,12}", fullmatch=True)
DIGESTS = st.binary(max_size=4).map(lambda data: str(Digest.of(data)))


@st.composite
def reference_texts(draw: st.DrawFn) -> str:
    components = draw(st.lists(COMPONENTS, min_size=1, max_size=4))
    text = "/".join(components)
    looks_like_host = len(components) > 1 and ("." in components[0] or components[0] == "localhost")
    if host := draw(HOSTS if looks_like_host else st.none() | HOSTS):
        port = draw(st.none() | st.integers(1, 65535))
        text = f"{host}/{text}" if port is None else f"{host}:{port}/{text}"
    if tag := draw(st.none() | TAGS):
        text += f":{tag}"
    if digest := draw(st.none() | DIGESTS):
        text += f"@{digest}"
    return text


QUICK = settings(max_examples=100, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize(
    ("text", "host", "port", "path", "name", "tag", "digest"),
    [
        ("foo", None, None, (), "foo", None, None),
        ("foo:1.2", None, None, (), "foo", "1.2", None),
        ("a/b/foo", None, None, ("a", "b"), "foo", None, None),
        ("example.com/foo", "example.com", None, (), "foo", None, None),
        ("example.com:8080/a/foo:V1", "example.com", 8080, ("a",), "foo", "V1", None),
        ("localhost/foo", "localhost", None, (), "foo", None, None),
        ("localhost:5000/foo", "localhost", 5000, (), "foo", None, None),
        ("registry/foo", None, None, ("registry",), "foo", None, None),
        ("foo.bar", None, None, (), "foo.bar", None, None),
        ("foo:5000", None, None, (), "foo", "5000", None),
        ("[::1]:80/foo:x", "[::1]", 80, (), "foo", "x", None),
        (f"foo@{SHA256}", None, None, (), "foo", None, Digest.parse(SHA256)),
        (f"foo:1@{SHA256}", None, None, (), "foo", "1", Digest.parse(SHA256)),
        ("a%foo+1", None, None, ("a",), "foo", "1", None),
        ("my_registry:5000/foo", "my_registry", 5000, (), "foo", None, None),
    ],
)
def test_reference_is_taken_apart(
    text: str,
    host: str | None,
    port: int | None,
    path: tuple[str, ...],
    name: str,
    tag: str | None,
    digest: Digest | None,
) -> None:
    found = Reference.parse(text)
    assert (found.host, found.port, found.path, found.name, found.tag, found.digest) == (
        host,
        port,
        path,
        name,
        tag,
        digest,
    )


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("", 0),
        (".", 0),
        ("..", 0),
        ("/foo", 0),
        ("./foo", 0),
        ("../foo", 0),
        ("~/foo", 0),
        ("foo/..", 4),
        ("foo/../bar", 4),
        ("foo%..%bar", 4),
        ("example.com/../bar", 12),
        ("foo/", 4),
        ("foo//bar", 4),
        ("Foo", 0),
        ("a/foO", 4),
        ("-foo", 0),
        (".foo", 0),
        ("foo bar", 3),
        ("foo\n", 3),
        ("foo\0", 3),
        ("$foo", 0),
        ("föö", 1),
        ("foo:", 4),
        ("foo:.1", 4),
        ("foo:a:b", 5),
        ("foo:" + "x" * 129, 132),
        ("a..b/foo", 1),
        ("example.com:/foo", 12),
        ("example.com:0/foo", 12),
        ("example.com:65536/foo", 12),
        ("example.com:٣/foo", 12),
        ("[::1/foo", 0),
        ("foo@", 4),
        ("foo@sha256:abc", 11),
        ("foo@sha256:" + "A" * 64, 11),
        ("foo@md5:" + "a" * 32, 4),
        (f"foo@{SHA256}:1", 11),
        ("docker://foo", 6),
    ],
)
def test_what_is_no_reference_is_refused_at_its_first_wrong_character(text: str, column: int) -> None:
    """Above all what could be taken for a path: `delete ..` once destroyed a whole storage directory."""
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    assert (caught.value.text, caught.value.column) == (text, column)


def test_tag_latest_need_not_be_written() -> None:
    short, long = Reference.parse("a/foo"), Reference.parse("a/foo:latest")
    assert short == long
    assert hash(short) == hash(long)
    assert short != Reference.parse("a/foo:1")
    assert short.file_name == long.file_name == "a%foo+latest"
    assert short.alias == long.alias == "a%foo"


def test_reference_is_shown_as_it_was_written() -> None:
    assert [str(Reference.parse(text)) for text in ("foo", "foo:latest", "a%foo+1")] == ["foo", "foo:latest", "a/foo:1"]


def test_digest_takes_the_place_of_the_default_tag() -> None:
    reference = Reference.parse(f"foo@{SHA256}")
    assert reference.file_name == "foo@sha256+" + SHA256.removeprefix("sha256:")
    assert reference.alias is None
    assert reference.version == SHA256
    assert reference != Reference.parse("foo")


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("debian:buster", "registry-1.docker.io:443/library/debian:buster"),
        ("a/b", "registry-1.docker.io:443/a/b:latest"),
        ("docker.io/debian", "registry-1.docker.io:443/library/debian:latest"),
        ("index.docker.io/library/debian", "registry-1.docker.io:443/library/debian:latest"),
        ("Docker.io/a/b", "registry-1.docker.io:443/a/b:latest"),
        ("Quay.io/b", "quay.io:443/b:latest"),
        ("localhost:5000/b", "localhost:5000/b:latest"),
        ("docker.io:5000/b", "docker.io:5000/b:latest"),
        (f"b@{SHA256}", f"registry-1.docker.io:443/library/b@{SHA256}"),
    ],
)
def test_canonical_form_has_all_defaults(text: str, canonical: str) -> None:
    assert str(Reference.parse(text).canonical()) == canonical


def test_stage_of_latest_has_its_number_in_the_name_and_others_in_the_tag() -> None:
    """However the user spells the tag, the stages of one image have the same names."""
    assert (
        Reference.parse("a/foo").stage(0) == Reference.parse("a/foo:latest").stage(0) == Reference.parse("a/foo_stage0")
    )
    assert str(Reference.parse("foo:1.2").stage(3)) == "foo:1.2_stage3"


@QUICK
@given(reference_texts())
def test_text_and_file_name_both_lead_back_to_the_reference(text: str) -> None:
    reference = Reference.parse(text)
    assert str(reference) == text
    assert Reference.parse(text.replace("/", "%").replace(":", "+")) == reference
    assert Reference.from_file_name(reference.file_name) == reference
    assert reference.canonical().canonical() == reference.canonical()


@QUICK
@given(reference_texts())
def test_file_name_is_one_harmless_name(text: str) -> None:
    name = Reference.parse(text).file_name
    assert not set(name) & set("/:~\0")
    assert name[0] not in ".-~"
    assert len(name) <= MAX_FILE_NAME


@QUICK
@given(st.text(alphabet=string.ascii_letters + string.digits + "/:@%+._-[]$ \n\0é~", max_size=30))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    """No input may end in a traceback, and the column has to be within the text."""
    try:
        reference = Reference.parse(text)
    except InvalidReference as error:
        column = error.column
    else:
        column = 0
        assert Reference.parse(str(reference)) == reference
    assert 0 <= column <= len(text)


def test_too_long_a_name_is_refused() -> None:
    """File systems allow 255 bytes, and stages and lock files add to the name."""
    assert len(Reference.parse("x" * (MAX_FILE_NAME - len("+latest"))).file_name) == MAX_FILE_NAME
    with pytest.raises(InvalidReference, match="longer"):
        Reference.parse("x" * MAX_FILE_NAME)


@pytest.mark.parametrize("name", ["foo", "foo:1", "a/foo+1", ".tmp-x", "lost+found+", "foo+1~x"])
def test_other_names_are_no_image_directories(name: str) -> None:
    """`img/foo` is the alias of an image, not one."""
    with pytest.raises(InvalidReference):
        Reference.from_file_name(name)


def test_constructor_refuses_what_would_be_read_differently() -> None:
    with pytest.raises(InvalidReference):
        Reference(None, None, ("example.com",), "foo", None, None)
    with pytest.raises(InvalidReference):
        Reference(None, None, (), "foo:1", None, None)


@pytest.mark.parametrize(
    ("glob", "matching"),
    [
        ("foo", {"foo:latest"}),
        ("foo:latest", {"foo:latest"}),
        ("foo*", {"foo:latest", "foo:1", "foobar:latest", "foo_stage0:latest", "foo:1_stage1"}),
        ("f?o", {"foo:latest"}),
        ("foo:*", {"foo:latest", "foo:1", "foo:1_stage1"}),
        ("*/*", {"a/foo:latest", "example.com:80/foo:2"}),
        ("a%f*", {"a/foo:latest"}),
        ("*+[0-9]", {"foo:1", "example.com:80/foo:2"}),
        ("*:[!a-z0]", {"foo:1", "example.com:80/foo:2"}),
        ("*:[^a-z0]", {"foo:1", "example.com:80/foo:2"}),
        ("b*", set()),
        ("FOO*", set()),
    ],
)
def test_glob_matches_references(glob: str, matching: set[str]) -> None:
    images = [
        "foo:latest",
        "foo:1",
        "foobar:latest",
        "a/foo:latest",
        "example.com:80/foo:2",
        "foo_stage0:latest",
        "foo:1_stage1",
    ]
    parsed = ReferenceGlob.parse(glob)
    assert {image for image in images if parsed.matches(Reference.parse(image))} == matching


@pytest.mark.parametrize(
    ("glob", "stages"),
    [
        ("foo", {"foo_stage0:latest", "foo_stage12:latest"}),
        ("foo:latest", {"foo_stage0:latest", "foo_stage12:latest"}),
        ("foo:1", {"foo:1_stage0"}),
        ("f*:latest", {"foo_stage0:latest", "foo_stage12:latest"}),
        ("bar", set()),
    ],
)
def test_stages_of_matching_images_are_found(glob: str, stages: set[str]) -> None:
    """`delete foo` deletes the stages of foo too, but not an image that only looks similar."""
    images = ["foo_stage0:latest", "foo_stage12:latest", "foo:1_stage0", "foo_stage:latest", "foo_stage1a:latest"]
    parsed = ReferenceGlob.parse(glob)
    assert {image for image in images if parsed.matches_stage(Reference.parse(image))} == stages


@pytest.mark.parametrize(
    ("glob", "column"), [("..", 0), ("../*", 0), ("/*", 0), ("foo *", 3), ("f[oo", 1), ("f[", 1), ("f[]", 1), ("$*", 0)]
)
def test_glob_that_could_match_no_reference_is_refused(glob: str, column: int) -> None:
    with pytest.raises(InvalidReference) as caught:
        ReferenceGlob.parse(glob)
    assert caught.value.column == column


@QUICK
@given(reference_texts())
def test_every_reference_is_a_glob_for_itself(text: str) -> None:
    reference = Reference.parse(text)
    if "[" not in text:
        assert ReferenceGlob.parse(text).matches(reference)
    assert ReferenceGlob.parse("*").matches(reference)
