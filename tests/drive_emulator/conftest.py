from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from driverun.testing.clock import FakeClock
from driverun.testing.drive_emulator import DriveEmulator
from tests.drive_emulator.speaking import BOB, Speaker


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def emulator(tmp_path: Path, clock: FakeClock) -> Iterator[DriveEmulator]:
    with DriveEmulator(tmp_path / "drive", clock=clock) as running:
        yield running


@pytest.fixture
def alice(emulator: DriveEmulator) -> Iterator[Speaker]:
    speaker = Speaker(emulator.url)
    yield speaker
    speaker.close()


@pytest.fixture
def bob(emulator: DriveEmulator) -> Iterator[Speaker]:
    speaker = Speaker(emulator.url, BOB)
    yield speaker
    speaker.close()
