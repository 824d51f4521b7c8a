"""The one cell, as a person meets it: the very notebook, in a real kernel, on an emulated Drive."""

from __future__ import annotations

from datetime import datetime
from importlib.metadata import distributions
from pathlib import Path

import pytest

from driverun.testing.colab import ColabStandIn, Secret
from driverun.testing.drive_audit import untidiness
from driverun.testing.drive_emulator import Fault
from tests.e2e.cells import Press, pressed
from tests.e2e.drives import ROOT, Drive, small_script
from tests.e2e.runtimes import REPOSITORY, runtime
from tests.e2e.searching import found_below

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*utcnow:DeprecationWarning"
)  # jupyter_client's, in Colab's images

MNIST = REPOSITORY.parent / "shared" / "data" / "mnist.npz"
EPOCH_STEPS = 40


@pytest.fixture
def colab(tmp_path: Path) -> ColabStandIn:
    return ColabStandIn(tmp_path / "colab")


def submit_small_job(tmp_path: Path, drive: Drive, *, epochs: int = 6, more: str = "") -> str:
    """A job whose epochs have 40 steps, with a checkpoint every 20."""
    job = tmp_path / "small"
    job.mkdir(exist_ok=True)
    (job / "train.py").write_text(small_script(epochs))
    (job / "job.yaml").write_text(f"entrypoint: train.py\ncheckpoint: {{every: 20 steps}}\n{more}")
    return drive.driverun("submit", str(job)).strip()


def committed_in_mid_epoch(cell: Press, drive: Drive, run_id: str, number: int) -> bool:
    """Whether attempt `number` has committed, and is between two epochs' ends now."""
    progress = cell.progress()
    return 0 < progress.step_in_epoch < progress.steps_per_epoch and drive.commits(run_id).get(number, 0) > 0


def test_mnist_survives_power_cuts_and_the_runtime_is_released_last(
    tmp_path: Path, drive: Drive, colab: ColabStandIn
) -> None:
    assert MNIST.is_file(), f"this test reads the real MNIST from {MNIST}"
    packages = sorted(f"{each.name} {each.version}" for each in distributions())
    drive.driverun("init")
    drive.driverun("upload", str(MNIST), "data/mnist.npz")
    job = str(REPOSITORY / "jobs" / "mnist")
    cut_id = drive.driverun("submit", job, "-p", "epochs=2").strip()
    form = {"root": ROOT, "allow_cpu": True, "release_runtime": True}
    for number in (1, 2, 3):
        with pressed(colab, tmp_path / f"vm-{number}", drive.environment, **form) as cell:
            cell.wait_until(lambda: committed_in_mid_epoch(cell, drive, cut_id, number))  # noqa: B023 (called here)
            cell.power_cut()
    whole_id = drive.driverun("submit", job, "-p", "epochs=2", "--again").strip()
    committed = max(checkpoint["step"] for checkpoint in drive.status(cut_id)["checkpoints"])
    with pressed(colab, tmp_path / "vm-last", drive.environment, **form) as cell:
        resumed = f"{cut_id}  attempt 4, resumed from step {committed:,} of attempt 3"
        cell.wait_until(lambda: resumed in cell.text, what=resumed)
        text = cell.end()

    cut, whole = drive.status(cut_id), drive.status(whole_id)
    assert [cut["state"], whole["state"]] == ["SUCCEEDED", "SUCCEEDED"], text
    assert cut["exactness"] == "exact", cut["exactness_reasons"]
    assert [attempt["first_step"] > 0 for attempt in cut["attempts"]] == [False, True, True, True]
    assert cut["attempts"][3]["first_step"] == committed
    for name in ("state_sha256", "outputs_sha256", "metrics", "total_steps"):
        assert cut[name] == whole[name], name
    assert "This runtime is released." in text
    (released,) = [call for call in colab.journal() if call.name == "runtime.unassign"]
    writes = [request for request in drive.admin.requests() if request.verb in ("POST", "PUT")]
    assert max(datetime.fromisoformat(request.at) for request in writes) < released.at
    assert untidiness(drive.admin.files()) == []
    assert sorted(f"{each.name} {each.version}" for each in distributions()) == packages


def test_the_stop_button_hands_over_and_no_step_is_repeated(
    tmp_path: Path, drive: Drive, colab: ColabStandIn
) -> None:
    drive.driverun("init")
    run_id = submit_small_job(tmp_path, drive, epochs=400)
    form = {"root": ROOT, "allow_cpu": True, "release_runtime": True}
    with pressed(colab, tmp_path / "vm-1", drive.environment, **form) as cell:
        cell.wait_until(lambda: committed_in_mid_epoch(cell, drive, run_id, 1))
        cell.interrupt()
        text = cell.end()
        executed = cell.progress().executed
    assert f"{run_id}  INTERRUPTED  stopped by a person" in text
    assert "Run the cell again" in text
    assert [call.name for call in colab.journal() if call.name == "runtime.unassign"] == [], (
        "the person is there"
    )
    stopped = drive.status(run_id)
    assert max(checkpoint["step"] for checkpoint in stopped["checkpoints"]) == executed > 0
    with pressed(colab, tmp_path / "vm-2", drive.environment, **form) as cell:
        cell.wait_until(lambda: f"resumed from step {executed:,}" in cell.text)
        cell.wait_until(lambda: committed_in_mid_epoch(cell, drive, run_id, 2))
        cell.interrupt()
        cell.end()
    assert drive.status(run_id)["attempts"][1]["first_step"] == executed


def test_a_second_press_abandons_what_is_not_sent_yet(
    tmp_path: Path, drive: Drive, colab: ColabStandIn
) -> None:
    drive.driverun("init")
    run_id = submit_small_job(tmp_path, drive, epochs=400)
    with pressed(colab, tmp_path / "vm", drive.environment, root=ROOT, allow_cpu=True) as cell:
        cell.wait_until(lambda: committed_in_mid_epoch(cell, drive, run_id, 1))
        drive.admin.change(latency_ms=600_000)
        cell.interrupt()
        cell.wait_until(lambda: "stop once more" in cell.text)
        cell.interrupt()
        text = cell.end()
    assert "Stopped. Run the cell again" in text
    drive.admin.change(latency_ms=20)
    assert drive.status(run_id)["state"] in ("RUNNING", "INTERRUPTED"), "its record stands still"


def test_a_runtime_without_gpu_says_what_waits_and_what_to_do(
    tmp_path: Path, drive: Drive, colab: ColabStandIn
) -> None:
    drive.driverun("init")
    anyhow = submit_small_job(tmp_path, drive)
    picky = submit_small_job(tmp_path, drive, more="accelerator: gpu\nname: picky\n")
    with pressed(colab, tmp_path / "vm", drive.environment, root=ROOT) as cell:
        text = cell.end()
    assert f"left: {anyhow}: this runtime has no accelerator" in text
    assert f"left: {picky}: wants a GPU; this runtime has no accelerator" in text
    assert "usage limits" in text
    assert "tick allow_cpu" in text
    assert [drive.status(run_id)["state"] for run_id in (anyhow, picky)] == ["QUEUED", "QUEUED"]


def test_secrets_come_from_colab_and_one_that_is_not_granted_is_told(
    tmp_path: Path, drive: Drive, colab: ColabStandIn
) -> None:
    value = "hf_from-the-page-of-Colab"
    colab.secrets = {"OPEN": Secret(value=value), "SHUT": Secret(value=value, granted=False)}
    drive.driverun("init")
    runs = []
    for name in ("OPEN", "SHUT"):
        job = tmp_path / name
        job.mkdir()
        (job / "train.py").write_text("import os\nprint('it is', os.environ['TOKEN'])\n")
        (job / "job.yaml").write_text(f"entrypoint: train.py\nsecrets: [{{name: {name}, as: TOKEN}}]\n")
        runs.append(drive.driverun("submit", str(job)).strip())
    with pressed(colab, tmp_path / "vm", drive.environment, root=ROOT, allow_cpu=True) as cell:
        text = cell.end()
    assert [drive.status(run_id)["state"] for run_id in runs] == ["SUCCEEDED", "QUEUED"], text
    assert f"left: {runs[1]}: the secret SHUT is kept in Colab, but this notebook may not have it" in text
    assert "it is ***" in drive.driverun("logs", runs[0])
    assert value not in text
    assert found_below(tmp_path / "drive", value) == []


def test_a_declined_consent_is_told(tmp_path: Path, drive: Drive, colab: ColabStandIn) -> None:
    drive.driverun("init")
    colab.fail("auth.authenticate_user", "MessageError")
    with pressed(colab, tmp_path / "vm", drive.environment, root=ROOT) as cell:
        text = cell.end()
    assert "Google did not allow this notebook to see your Drive" in text
    assert "Run the cell again" in text


@pytest.mark.parametrize(
    ("root", "words"),
    [
        ("gdrive:drlil", "My Drive has no folder drlil"),
        ("./drill", "is no folder on Drive. Write gdrive:"),
    ],
)
def test_a_wrong_root_is_told(
    root: str, words: str, tmp_path: Path, drive: Drive, colab: ColabStandIn
) -> None:
    drive.driverun("init")
    with pressed(colab, tmp_path / "vm", drive.environment, root=root) as cell:
        assert words in cell.end()


def test_a_sign_in_that_was_revoked_is_told(tmp_path: Path, drive: Drive, colab: ColabStandIn) -> None:
    drive.driverun("init")
    drive.admin.add_fault(Fault(kind="status:401", times=None))
    with pressed(colab, tmp_path / "vm", drive.environment, root=ROOT) as cell:
        text = cell.end()
    assert "Google does not accept the sign-in of this notebook any more" in text
    assert "Runtime > Restart session" in text


def test_a_full_drive_holds_up_nothing_but_the_commit(
    tmp_path: Path, drive: Drive, colab: ColabStandIn
) -> None:
    drive.driverun("init")
    run_id = submit_small_job(tmp_path, drive)
    with pressed(colab, tmp_path / "vm", drive.environment, root=ROOT, allow_cpu=True) as cell:
        cell.wait_until(lambda: cell.progress().step > 0, what="training")
        drive.admin.change(quota_gb=1e-6)
        cell.wait_until(
            lambda: "Drive is full" in cell.text and cell.progress().step == 6 * EPOCH_STEPS,
            what="a full Drive that training does not wait for",
        )
        drive.admin.change(quota_gb=15.0)
        text = cell.end()
    assert f"{run_id}  SUCCEEDED" in text


def test_a_mount_that_fails_is_told_before_anything_is_trained(
    tmp_path: Path, drive: Drive, colab: ColabStandIn
) -> None:
    drive.driverun("init")
    run_id = submit_small_job(tmp_path, drive)
    place = {"DRIVERUN_COLAB_MOUNT": str(colab.mountpoint)}
    colab.fail("drive.mount", "ValueError", "mount failed")
    form = {"root": ROOT, "allow_cpu": True, "mount_drive": True}
    with pressed(colab, tmp_path / "vm-1", {**drive.environment, **place}, **form) as cell:
        text = cell.end()
    assert "Drive could not be mounted" in text
    assert "mount failed" in text
    assert "untick mount_drive" in text
    assert drive.status(run_id)["state"] == "QUEUED"
    colab.heal()
    with pressed(colab, tmp_path / "vm-2", {**drive.environment, **place}, **form) as cell:
        assert f"{run_id}  SUCCEEDED" in cell.end()
    assert [call.name for call in colab.journal()].count("drive.mount") == 2


def test_another_worker_at_the_only_run_is_told(tmp_path: Path, drive: Drive, colab: ColabStandIn) -> None:
    drive.driverun("init")
    run_id = submit_small_job(tmp_path, drive, epochs=4000)
    root = tmp_path / "machines" / ROOT
    root.parent.mkdir()
    quick = {**drive.environment, "DRIVERUN_HEARTBEAT": "1s", "DRIVERUN_LEASE": "10s"}
    with runtime(root, "other", address=ROOT, **quick) as machine:
        machine.wait_until(lambda: drive.commits(run_id).get(1, 0) > 0)
        with pressed(colab, tmp_path / "vm", quick, root=ROOT, allow_cpu=True) as cell:
            assert f"left: {run_id}: another worker is at it" in cell.end()
        assert machine.is_alive
