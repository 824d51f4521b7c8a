"""Two Colab tabs on one root: each in a runtime of its own, neither knows of the other but by the root."""

from __future__ import annotations

from pathlib import Path

import pytest

from driverun.testing.colab import ColabStandIn
from tests.e2e.cells import pressed
from tests.e2e.drives import ROOT, Drive

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*utcnow:DeprecationWarning"
)  # jupyter_client's, in Colab's images

SCRIPT = """
import time
from pathlib import Path

import driverun

while not Path(driverun.current_run().params["until"]).exists():
    time.sleep(0.02)
Path("done.txt").write_text("done")
"""


def test_the_second_tab_says_who_is_at_the_first_run_and_takes_the_next(tmp_path: Path, drive: Drive) -> None:
    drive.driverun("init")
    quick = {**drive.environment, "DRIVERUN_HEARTBEAT": "1s", "DRIVERUN_LEASE": "10s"}
    job = tmp_path / "job"
    job.mkdir()
    (job / "train.py").write_text(SCRIPT)
    (job / "job.yaml").write_text("entrypoint: train.py\nparams: {until: ''}\n")
    there, later = tmp_path / "job", tmp_path / "later"
    first = drive.driverun("submit", str(job), "-p", f"until={later}").strip()
    colabs = [ColabStandIn(tmp_path / f"colab-{number}") for number in (1, 2)]
    with pressed(colabs[0], tmp_path / "vm-1", quick, root=ROOT, allow_cpu=True) as one:
        one.wait_until(
            lambda: drive.status(first)["state"] == "RUNNING", what="the first run in the first tab"
        )
        second = drive.driverun("submit", str(job), "-p", f"until={there}").strip()
        with pressed(colabs[1], tmp_path / "vm-2", quick, root=ROOT, allow_cpu=True) as two:
            text = two.end()
        assert f"{second}  SUCCEEDED" in text
        assert f"left: {first}: another worker is at it" in text
        assert not one.is_over
        assert drive.status(first)["state"] == "RUNNING"
        later.touch()
        assert f"{first}  SUCCEEDED" in one.end()
    found = [drive.status(run_id) for run_id in (first, second)]
    assert [run["state"] for run in found] == ["SUCCEEDED", "SUCCEEDED"]
    assert [len(run["attempts"]) for run in found] == [1, 1]
    assert found[0]["attempts"][0]["worker"] != found[1]["attempts"][0]["worker"]
