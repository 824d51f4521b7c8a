"""The main job as a user has it: submit, work, pull the plug, work again, fetch, compare."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from driverun.clock import SystemClock
from driverun.spool.boards import Progress
from tests.e2e.runtimes import (
    REPOSITORY,
    Runtime,
    driverun,
    history,
    newest_attempt,
    runtime,
    status,
    work_to_end,
)

ORDINARY = Path(__file__).parent / "jobs" / "ordinary"
MNIST = REPOSITORY.parent / "shared" / "data" / "mnist.npz"


def make_root(folder: Path, name: str) -> Path:
    root = folder / name
    driverun("init", root=root)
    return root


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, int]:
    """The ordinary job, run once without a cut: its root, its run, the steps it executed."""
    root = make_root(tmp_path_factory.mktemp("whole"), "root")
    run_id = driverun("submit", str(ORDINARY), root=root).strip()
    return root, run_id, work_to_end(root)


def test_an_ordinary_script_survives_power_cuts_bit_for_bit(
    tmp_path: Path, uninterrupted: tuple[Path, str, int]
) -> None:
    whole_root, whole_id, whole_executed = uninterrupted
    root = make_root(tmp_path, "root")
    run_id = driverun("submit", str(ORDINARY), root=root).strip()
    assert run_id == whole_id, "the same computation has the same id"
    executed = 0
    committed: list[int] = []
    # Mid-epoch in the first fit, then again, then in the second fit (38 steps an epoch, snapshots every 5).
    for number, step in enumerate((52, 101, 300)):
        with runtime(root, f"cut-{number}") as machine:
            machine.wait_until(
                lambda s=step, m=machine: m.progress().step >= s and m.commits() > 0  # type: ignore[misc]
            )
            executed += machine.power_cut().executed
        committed.append(max(checkpoint["step"] for checkpoint in status(root, run_id)["checkpoints"]))
    executed += work_to_end(root)

    whole, cut = status(whole_root, whole_id), status(root, run_id)
    assert cut["state"] == "SUCCEEDED"
    assert cut["exactness"] == "exact", cut["exactness_reasons"]
    assert cut["state_sha256"] == whole["state_sha256"]
    assert cut["outputs_sha256"] == whole["outputs_sha256"]
    assert cut["total_steps"] == whole["total_steps"] == whole_executed
    assert history(root, run_id) == history(whole_root, whole_id)
    assert cut["metrics"] == whole["metrics"]
    assert [attempt["first_step"] for attempt in cut["attempts"][1:]] == committed
    assert all(step > 0 for step in committed)
    results = root / cut["results"]["path"]
    assert {path.name for path in results.iterdir()} >= {
        "metrics.json", "history.csv", "model.keras", "report.html", "outputs", "manifest.json",
    }  # fmt: skip
    assert (results / "outputs" / "out" / "second.csv").read_text().count("\n") == 7
    assert executed >= whole_executed


def test_a_cut_between_the_packs_and_the_manifest_costs_no_more_than_that_checkpoint(
    tmp_path: Path, uninterrupted: tuple[Path, str, int]
) -> None:
    whole_root, whole_id, _ = uninterrupted
    root = make_root(tmp_path, "root")
    run_id = driverun("submit", str(ORDINARY), root=root).strip()
    marker = tmp_path / "in-commit"
    with runtime(root, "cut", DRIVERUN_HOLD_COMMIT=str(marker)) as machine:
        machine.wait_until(marker.exists)
        machine.power_cut()
    assert list(newest_attempt(root).glob("pack-*"))
    assert not list(newest_attempt(root).glob("ckpt-*"))
    work_to_end(root)
    assert status(root, run_id)["state_sha256"] == status(whole_root, whole_id)["state_sha256"]
    assert "identical" in driverun("diff", run_id, run_id, root=root)


def test_without_its_runner_the_trainer_is_gone_within_five_seconds(tmp_path: Path) -> None:
    root = make_root(tmp_path, "root")
    driverun("submit", str(ORDINARY), root=root)
    with runtime(root, "cut") as machine:
        machine.wait_until(lambda: machine.progress().step > 3)
        trainer = machine.trainer_pid()
        assert trainer is not None
        machine.process.send_signal(signal.SIGKILL)
        machine.process.wait()
        clock = SystemClock()
        end_s = clock.monotonic() + 5.0
        while machine.trainer_pid() == trainer:
            assert clock.monotonic() < end_s, "the trainer outlived its runner by five seconds"
            clock.sleep(0.02)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 3), (signal.SIGINT, 130)])
def test_a_stopped_worker_hands_over_at_the_very_step(
    tmp_path: Path, number: signal.Signals, code: int, uninterrupted: tuple[Path, str, int]
) -> None:
    whole_root, whole_id, whole_executed = uninterrupted
    root = make_root(tmp_path, "root")
    run_id = driverun("submit", str(ORDINARY), root=root).strip()
    with runtime(root, "stopped") as machine:
        machine.wait_until(lambda: machine.progress().step > 45)
        machine.process.send_signal(number)
        assert machine.process.wait(timeout=60) == code, machine.log()
    stopped = status(root, run_id)
    assert stopped["state"] == "INTERRUPTED"
    at = max(checkpoint["step"] for checkpoint in stopped["checkpoints"])
    assert work_to_end(root) == whole_executed - at, "a step was repeated"
    assert status(root, run_id)["attempts"][1]["first_step"] == at
    assert status(root, run_id)["state_sha256"] == status(whole_root, whole_id)["state_sha256"]


def test_mnist_survives_power_cuts(tmp_path: Path) -> None:
    """The reference job on the real data: three cuts, each after a commit and in the middle of an epoch."""
    assert MNIST.is_file(), f"this test reads the real MNIST from {MNIST}"
    digests = {}
    for name, cuts in (("whole", 0), ("cut", 3)):
        root = make_root(tmp_path, name)
        driverun("upload", str(MNIST), "data/mnist.npz", root=root)
        run_id = driverun("submit", str(REPOSITORY / "jobs" / "mnist"), "-p", "epochs=2", root=root).strip()
        for number in range(cuts):
            with runtime(root, f"cut-{number}") as machine:
                machine.wait_until(lambda m=machine: committed_in_mid_epoch(m))  # type: ignore[misc]
                machine.power_cut()
        work_to_end(root)
        found = status(root, run_id)
        assert found["exactness"] == "exact", found["exactness_reasons"]
        assert len(found["attempts"]) == cuts + 1
        assert found["metrics"]["evaluate.accuracy"] > 0.95
        digests[name] = (found["state_sha256"], found["outputs_sha256"], history(root, run_id))
    assert digests["whole"] == digests["cut"]


def committed_in_mid_epoch(machine: Runtime) -> bool:
    progress: Progress = machine.progress()
    return machine.commits() > 0 and 0 < progress.step_in_epoch < progress.steps_per_epoch


def test_a_job_without_fit_starts_over_says_so_and_publishes(tmp_path: Path) -> None:
    root, reached, may_end = make_root(tmp_path, "root"), tmp_path / "reached", tmp_path / "may-end"
    job = tmp_path / "table"
    job.mkdir()
    (job / "job.yaml").write_text("entrypoint: make.py\n")
    (job / "make.py").write_text(
        "from pathlib import Path\n"
        "import time\n"
        "Path('table.csv').write_text('a,b\\n1,2\\n')\n"
        f"Path({str(reached)!r}).touch()\n"
        f"while not Path({str(may_end)!r}).exists():\n"
        "    time.sleep(0.01)\n"
    )
    run_id = driverun("submit", str(job), root=root).strip()
    with runtime(root, "cut") as machine:
        machine.wait_until(reached.exists)
        machine.power_cut()
    may_end.touch()
    work_to_end(root)
    found = status(root, run_id)
    assert (found["state"], found["exactness"]) == ("SUCCEEDED", "approximate")
    assert found["exactness_reasons"] == [
        "the script calls no fit, so there is nothing to resume: it started over"
    ]
    results = root / found["results"]["path"]
    assert (results / "outputs" / "table.csv").read_text() == "a,b\n1,2\n"
    assert json.loads((results / "metrics.json").read_text()) == {}
    assert (results / "history.csv").read_text() == "fit,epoch\n"
    assert (results / "report.html").is_file()
