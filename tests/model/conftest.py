"""Snapshots for workers that are explored: made once, the same for all."""

from __future__ import annotations

import pytest

from tests.model.program import Snapshots
from tests.model.simulate import MOST_COMMITS


@pytest.fixture(scope="session")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> Snapshots:
    return Snapshots.make(tmp_path_factory.mktemp("snapshots"), 3)


@pytest.fixture(scope="session")
def many_snapshots(tmp_path_factory: pytest.TempPathFactory) -> Snapshots:
    return Snapshots.make(tmp_path_factory.mktemp("snapshots"), MOST_COMMITS)
