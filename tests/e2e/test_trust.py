"""Two accounts, one folder: what a stranger puts in waits for the owner's word, by real commands and a real worker."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import cast

from driverun.testing.drive_emulator import DriveEmulator
from tests.e2e.drives import ROOT, Drive
from tests.e2e.runtimes import clean_environment
from tests.storage.drive.emulated import Person

STRANGER = "stranger@example.com"


def command(
    drive: Drive, *arguments: str, root: str = ROOT, account: str = "person@example.com", **settings: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "driverun", "--root", root, *arguments],
        capture_output=True,
        text=True,
        env=clean_environment(**drive.environment, DRIVERUN_DRIVE_TOKEN=f"user:{account}", **settings),
        check=False,
    )


def test_a_strangers_job_runs_once_the_owner_has_approved_it(drive: Drive, tmp_path: Path) -> None:
    assert command(drive, "init").returncode == 0
    [folder] = [file.id for file in drive.admin.files() if file.title == ROOT.removeprefix("gdrive:")]
    Person(cast(DriveEmulator, drive.admin)).share(folder, STRANGER)
    job = tmp_path / "theirs"
    job.mkdir()
    (job / "train.py").write_text("print('the code that was shown')\n")
    (job / "job.yaml").write_text("entrypoint: train.py\n")
    theirs = command(drive, "submit", str(job), root=f"gdrive://{folder}", account=STRANGER)
    run_id = theirs.stdout.strip()
    settings = {"DRIVERUN_WORKDIR": str(tmp_path / "work")}

    worked = command(drive, "work", **settings)
    assert worked.returncode == 3, worked.stderr
    assert f"{run_id} waits: last changed by {STRANGER}" in worked.stderr
    told = json.loads(command(drive, "status", run_id, "--json").stdout)
    assert (told["state"], told["waiting_for"]) == ("QUEUED", "approval")
    assert f"driverun approve {run_id} --show" in command(drive, "status").stdout

    shown = command(drive, "approve", run_id, "--show")
    assert "the code that was shown" in shown.stdout
    code = shown.stderr.split("--code ")[1].split()[0]
    assert command(drive, "approve", run_id, "--code", "0" * 12).returncode == 2
    assert command(drive, "approve", run_id, "--code", code).stdout.strip() == run_id
    worked = command(drive, "work", **settings)
    assert worked.returncode == 0, worked.stderr
    assert command(drive, "logs", run_id).stdout == "the code that was shown\n"
