"""Fixtures of the build cache's tests."""

from pathlib import Path

import pytest

from tests.core.cache.support import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)
