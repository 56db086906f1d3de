"""Asking work to stop."""

import signal

import pytest

from chimage_core.cancel import CancelToken
from chimage_core.errors import Cancelled


def test_check_passes_until_cancelled_and_then_names_the_signal() -> None:
    token = CancelToken()
    token.check()
    token.cancel(signal.SIGTERM)
    with pytest.raises(Cancelled) as caught:
        token.check()
    assert caught.value.exit_code == 128 + signal.SIGTERM


def test_the_first_request_counts() -> None:
    """A second signal must not change the exit status, nor call back twice."""
    token, calls = CancelToken(), list[int]()
    with token.on_cancel(lambda: calls.append(1)):
        token.cancel(signal.SIGINT)
        token.cancel(signal.SIGTERM)
    assert calls == [1]
    with pytest.raises(Cancelled) as caught:
        token.check()
    assert caught.value.exit_code == 128 + signal.SIGINT


def test_a_callback_registered_too_late_is_called_at_once() -> None:
    """Otherwise a child started between the request and the registration would run on."""
    token, calls = CancelToken(), list[int]()
    token.cancel()
    with token.on_cancel(lambda: calls.append(1)):
        assert calls == [1]


def test_a_callback_is_forgotten_after_its_block() -> None:
    token, calls = CancelToken(), list[int]()
    with token.on_cancel(lambda: calls.append(1)):
        pass
    token.cancel()
    assert calls == []


def test_cleaning_up_is_not_interrupted() -> None:
    """Who undoes a cancelled step uses the same functions, which check the same token."""
    token = CancelToken()
    token.cancel()
    with token.shielded():
        token.check()
        with token.on_cancel(lambda: pytest.fail("called back while cleaning up")):
            pass
    with pytest.raises(Cancelled):
        token.check()
