"""What the tests of large records share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.claims import Clock, Store


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Store:
    (tmp_path / "objects").mkdir()  # (a folder that is not there is a store that is away)
    return Store(tmp_path / "objects", clock)
