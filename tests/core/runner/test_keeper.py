"""What the keeper of a job believes of what comes from inside: a command can trace process 1, and speak for it."""

import json
import socket
from collections.abc import Iterator

import pytest

from chimage_core.runner.keeper import NONSENSE, Reports


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    outside, inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with outside, inside:
        outside.setblocking(False)
        yield outside, inside


def test_what_a_job_says_is_put_together(ends: tuple[socket.socket, socket.socket]) -> None:
    outside, inside = ends
    reports = Reports()
    inside.send(b'{"ready": true}')
    assert reports.hear(outside)
    assert reports.is_ready
    inside.send(b'{"status": 127, "problem": null}')
    inside.close()
    assert not reports.hear(outside)
    assert reports.answer == {"status": 127, "problem": None}


@pytest.mark.parametrize(
    "message",
    [
        b"\xff",
        b"[]",
        b"1",
        b'{"status": "0"}',
        b'{"status": [1]}',
        b'{"error": 5}',
        b'{"anything": 1}',
        b"[" * 60000,
        json.dumps({"problem": "x" * 70000}).encode(),
    ],
)
def test_nonsense_ends_the_listening(ends: tuple[socket.socket, socket.socket], message: bytes) -> None:
    outside, inside = ends
    reports = Reports()
    inside.send(message)
    assert not reports.hear(outside)
    assert reports.answer["kind"] == NONSENSE


def test_a_flood_of_messages_is_not_listened_to_for_ever(ends: tuple[socket.socket, socket.socket]) -> None:
    outside, inside = ends
    inside.setblocking(False)
    reports = Reports()
    sent = 0
    while reports.hear(outside):
        inside.send(b'{"ready": true}')
        sent += 1
        assert sent < 1000
    assert reports.answer["kind"] == NONSENSE
