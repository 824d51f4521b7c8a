"""A worker on a root in Drive: real processes, and Drive in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from driverun.launchers.ground import commits_by_attempt
from driverun.testing.drive_audit import untidiness
from driverun.testing.drive_emulator import AdminClient
from driverun.testing.drive_ground import paths_on
from tests.e2e.runtimes import clean_environment, runtime

ROOT = "gdrive:drill"
SCRIPT = """
import keras
import numpy as np

generator = np.random.default_rng(5)
x = generator.random((640, 16), dtype=np.float32)
y = (x.sum(axis=1) > 8).astype("int64")
model = keras.Sequential([keras.Input((16,)), keras.layers.Dropout(0.2), keras.layers.Dense(2, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x, y, epochs=8, batch_size=16, verbose=2, callbacks=[keras.callbacks.CSVLogger("log.csv")])
"""


@dataclass
class Drive:
    """An emulated Drive that runs, and commands on a root there."""

    admin: AdminClient
    environment: dict[str, str]

    def driverun(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "driverun", "--root", ROOT, *arguments],
            capture_output=True,
            text=True,
            env=clean_environment(**self.environment),
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def status(self, run_id: str) -> dict[str, Any]:
        found = json.loads(self.driverun("status", run_id, "--json"))
        assert isinstance(found, dict)
        return found

    def commits(self, run_id: str) -> dict[int, int]:
        return commits_by_attempt(paths_on(self.admin.files()), run_id)


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


def test_a_worker_on_drive_survives_a_power_cut_bit_for_bit(tmp_path: Path, drive: Drive) -> None:
    job = tmp_path / "job"
    job.mkdir()
    (job / "train.py").write_text(SCRIPT)
    (job / "job.yaml").write_text("entrypoint: train.py\ncheckpoint: {every: 20 steps}\n")
    drive.driverun("init")
    root = tmp_path / "machines" / ROOT
    root.parent.mkdir()

    cut_id = drive.driverun("submit", str(job)).strip()
    with runtime(root, "cut", address=ROOT, **drive.environment) as machine:
        machine.wait_until(
            lambda: (
                drive.commits(cut_id).get(1, 0) > 0
                and 0 < machine.progress().step_in_epoch < machine.progress().steps_per_epoch
            )
        )
        machine.power_cut()
    committed = max(checkpoint["step"] for checkpoint in drive.status(cut_id)["checkpoints"])
    whole_id = drive.driverun("submit", str(job), "--again").strip()  # both, one after the other
    with runtime(root, "next", address=ROOT, **drive.environment) as machine:
        assert machine.process.wait(timeout=120) == 0, machine.log()

    cut, whole = drive.status(cut_id), drive.status(whole_id)
    assert [cut["state"], whole["state"]] == ["SUCCEEDED", "SUCCEEDED"]
    assert cut["attempts"][1]["first_step"] == committed > 0
    assert cut["exactness"] == "exact", cut["exactness_reasons"]
    for name in ("state_sha256", "outputs_sha256", "metrics", "total_steps"):
        assert cut[name] == whole[name], name
    assert drive.driverun("diff", cut_id, whole_id)
    assert untidiness(drive.admin.files()) == []
