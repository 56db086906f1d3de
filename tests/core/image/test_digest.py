"""Digests."""

import hashlib
import io

import pytest

from chimage_core.errors import IntegrityError
from chimage_core.image.digest import Digest, VerifyingReader

HELLO = b"hello"


def drain(reader: VerifyingReader) -> bytes:
    return b"".join(iter(lambda: reader.read(2), b""))


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_digest_round_trips(algorithm: str) -> None:
    digest = Digest.of(HELLO, algorithm)
    assert str(digest) == f"{algorithm}:{hashlib.new(algorithm, HELLO).hexdigest()}"
    assert Digest.parse(str(digest)) == digest


@pytest.mark.parametrize(
    "text",
    ["", "sha256", "sha256:", "md5:" + "a" * 32, "sha256:" + "a" * 63, "sha256:" + "A" * 64, "sha256:" + "g" * 64],
)
def test_malformed_digest_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"digest|hexadecimal|ALGORITHM"):
        Digest.parse(text)


@pytest.mark.parametrize("size", [None, len(HELLO)])
def test_promised_content_is_passed_on(size: int | None) -> None:
    reader = VerifyingReader(io.BytesIO(HELLO), Digest.of(HELLO), size)
    assert drain(reader) == HELLO
    assert reader.done == len(HELLO)


@pytest.mark.parametrize(
    ("content", "size"), [(b"jello", 5), (b"jello", None), (b"hell", 5), (b"hello!", 5), (b"", 5), (b"", None)]
)
def test_other_content_is_refused(content: bytes, size: int | None) -> None:
    with pytest.raises(IntegrityError):
        drain(VerifyingReader(io.BytesIO(content), Digest.of(HELLO), size))


def test_endless_content_is_refused_at_once() -> None:
    """A hostile server must not fill the disk before the digest is compared."""
    with open("/dev/zero", "rb") as endless:
        reader = VerifyingReader(endless, Digest.of(HELLO), 5)
        with pytest.raises(IntegrityError, match="more than"):
            drain(reader)
        assert reader.done < 10
