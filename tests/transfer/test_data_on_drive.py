"""A job's data on a root of Drive: what packs save in requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from driverun.spec.model import DataSource
from driverun.testing.clock import FakeClock
from driverun.testing.drive_emulator import DriveEmulator, EmulatorSettings
from driverun.transfer.cache import DataCache
from driverun.transfer.packing import Packer
from driverun.transfer.packs import FEWEST_FILES
from driverun.transfer.sync import SyncedData, sync_data
from tests.storage.drive.emulated import drive_root, patient

FILES = {f"data/images/{number % 4}/{number:03d}.png": b"%d" % number for number in range(FEWEST_FILES + 20)}


@pytest.fixture
def emulator(tmp_path: Path, clock: FakeClock) -> Iterator[DriveEmulator]:
    with DriveEmulator(tmp_path / "drive", clock=clock, settings=EmulatorSettings()) as emulator:
        yield emulator


def sync(emulator: DriveEmulator, clock: FakeClock, folder: Path) -> tuple[SyncedData, int]:
    """Bring the data to a new machine; what it brought, and how many requests it took."""
    store = patient(drive_root(emulator, clock), clock)
    cache = DataCache(folder / "cache", 10**9, clock=clock)
    before = len(emulator.requests)
    synced = sync_data(store, DataSource(source="data/images"), folder / "work", cache)
    return synced, len(emulator.requests) - before


def test_the_next_runtime_makes_few_requests(
    emulator: DriveEmulator, clock: FakeClock, tmp_path: Path
) -> None:
    store = patient(drive_root(emulator, clock), clock)
    for path, content in FILES.items():
        store.create(path, content)
    emulator.settings.latency_ms = 150
    first, first_requests = sync(emulator, clock, tmp_path / "one")
    assert first_requests > len(FILES)
    assert first.packable is not None
    Packer(store, first.packable, worker="wone", scratch=tmp_path, say=lambda _: None).work()
    second, second_requests = sync(emulator, clock, tmp_path / "two")
    assert second == first
    assert second_requests < len(FILES) / 4
    for path, content in FILES.items():
        assert (tmp_path / "two/work" / path).read_bytes() == content
