"""The drill as a person runs it: a job of theirs, on an emulated Drive that is slow and faulty."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.e2e.runtimes import clean_environment
from tests.e2e.test_drive import SCRIPT


def test_a_drill_on_drive_ends_identical_and_finds_the_drive_tidy(tmp_path: Path) -> None:
    job = tmp_path / "job"
    job.mkdir()
    (job / "train.py").write_text(SCRIPT)
    (job / "job.yaml").write_text("entrypoint: train.py\ncheckpoint: {every: 20 steps}\n")
    command = ["drill", str(job), "--kills", "1", "--on", "drive", "--seed", "1"]
    command += ["--latency-ms", "20", "--writes-per-second", "3", "--fault-rate", "0.02"]
    done = subprocess.run(
        [sys.executable, "-m", "driverun", *command],
        capture_output=True,
        text=True,
        env=clean_environment(HOME=str(tmp_path)),
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "during a commit" in done.stdout
    assert "exactness: exact" in done.stdout
    assert "\nidentical\n" in done.stdout
    assert "checkpoint: " in done.stdout
    assert "no name is there twice, nothing is in the trash, every manifest is whole" in done.stdout
