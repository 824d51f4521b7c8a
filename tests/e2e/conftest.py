"""Fixtures of tests with real processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from driverun.testing.drive_emulator import AdminClient
from tests.e2e.drives import Drive
from tests.e2e.runtimes import clean_environment


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Drive]:
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "driverun",
            "dev-drive",
            "--state",
            str(tmp_path / "drive"),
            "--latency-ms",
            "20",
        ],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        try:
            yield Drive(AdminClient(url), {"DRIVERUN_DRIVE_ENDPOINT": url, "DRIVERUN_LISTING_LAG": "1s"})
        finally:
            process.terminate()
