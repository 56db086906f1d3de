"""A storage directory of the test's own."""

from pathlib import Path

import pytest

from chimage_core.cancel import CancelToken
from chimage_core.storage.layout import Layout
from chimage_core.storage.lock import Locks
from chimage_core.storage.store import prepare
from tests.support.recorder import Recorder


@pytest.fixture
def events() -> Recorder:
    return Recorder()


@pytest.fixture
def new_layout(storage: Path) -> Layout:
    """The paths of a storage directory that does not exist."""
    return Layout(str(storage))


@pytest.fixture
def locks(new_layout: Layout, events: Recorder) -> Locks:
    return Locks(new_layout, ["chimage", "test"], emit=events, cancel=CancelToken(), timeout=10)


@pytest.fixture
def layout(new_layout: Layout, locks: Locks, events: Recorder) -> Layout:
    """A storage directory, ready for use."""
    prepare(new_layout, locks, emit=events)
    return new_layout
