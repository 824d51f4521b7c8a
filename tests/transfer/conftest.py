import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from driverun.storage.base import ObjectStore
from driverun.storage.local import LocalStore
from driverun.storage.memory import MemoryStore
from driverun.testing.clock import FakeClock

MakeStore = Callable[[], ObjectStore]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["memory", "local"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> MakeStore:
    """Makes a new, empty root at each call."""
    numbers = itertools.count()
    times_ns = itertools.count(1_700_000_000_000_000_000, 1_000_000)

    def make() -> ObjectStore:
        if request.param == "memory":
            return MemoryStore(clock, location=f"memory-{next(numbers)}")
        folder = tmp_path / f"root-{next(numbers)}"
        return LocalStore(folder, clock=clock, time_ns=lambda: next(times_ns))

    return make


@pytest.fixture
def store(make_store: MakeStore) -> ObjectStore:
    return make_store()
