"""Several workers on one root, killed at their writes, and put to sleep between a check and the write it guards."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from driverun.assembly import Surroundings, open_client
from driverun.clock import SystemClock
from driverun.dispatch.ledger import Ledger
from driverun.execution.client import Client
from driverun.launchers.ground import LocalGround
from driverun.launchers.root_history import RootHistory, attempt_logs
from driverun.runs.claim_log import Allowance, WorkerLife, audit_claims
from driverun.runs.state import RunState
from driverun.testing.holding import let_go
from tests.e2e.drives import ROOT, Drive
from tests.e2e.runtimes import Runtime, driverun, runtime

QUICK = {"DRIVERUN_HEARTBEAT": "500ms", "DRIVERUN_LEASE": "2s"}
PATIENCE_S = 120.0
SCRIPT = """
import hashlib
from pathlib import Path

import driverun

Path("digest.txt").write_text(hashlib.sha256(str(driverun.current_run().params["number"]).encode()).hexdigest())
"""


def digest_of(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).hexdigest().encode()


def submit(client: Client, folder: Path, numbers: Iterable[int]) -> dict[str, int]:
    """Runs of a plain script, by id."""
    job = folder / "job"
    job.mkdir()
    (job / "train.py").write_text(SCRIPT)
    (job / "job.yaml").write_text("entrypoint: train.py\nparams: {number: 0}\n")
    loaded = client.load_job(str(job))
    return {client.submit(loaded, params={"number": number}).run_id: number for number in numbers}


def client_of(address: str, environment: Mapping[str, str]) -> Client:
    here = Surroundings(environment=environment, cwd=Path.cwd(), home=Path.home(), clock=SystemClock())
    return open_client(address, here)


def wait_until(happened: Callable[[], bool], *, what: str) -> None:
    clock = SystemClock()
    end_s = clock.monotonic() + PATIENCE_S
    while not happened():
        assert clock.monotonic() < end_s, f"it never happened: {what}"
        clock.sleep(0.02)


def results_of(client: Client) -> dict[str, tuple[Any, ...]]:
    """What everybody takes for the results of each run that has some."""
    return {
        run.run_id: (
            run.results_path,
            run.outputs_sha256,
            client.store.read(f"{run.results_path}/outputs/digest.txt"),
            client.store.read(f"{run.results_path}/manifest.json"),
        )
        for run in client.runs()
        if run.results_path is not None
    }


@pytest.mark.parametrize(
    "places",
    [
        (
            "after create ledger/*.claim.json",
            "before create ledger/*.record.json",
            "after create runs/*/results/outputs/digest.txt",
        ),
        (
            "before create runs/*/results/manifest.json",
            "after create runs/*/results/manifest.json",
            "after replace ledger/*.record.json",
        ),
    ],
)
def test_workers_killed_at_their_writes_cost_nothing_but_time(
    tmp_path: Path, places: tuple[str, ...]
) -> None:
    """Three at a time stop at a write of theirs; all are killed there, on one host, and three others do the rest."""
    root = tmp_path / "root"
    driverun("init", root=root)
    client = client_of(str(root), {})
    runs = submit(client, tmp_path, range(6))
    lives: list[WorkerLife] = []
    patient = {
        **QUICK,
        "DRIVERUN_LEASE": "6s",
    }  # what three workers at once on a busy machine may stand still
    with ExitStack() as machines:
        for number, place in enumerate(places):
            marker = tmp_path / f"stopped-{number}"
            hold = {"DRIVERUN_HOLD_COMMIT": str(marker), "DRIVERUN_HOLD_AT": place}
            machine = machines.enter_context(runtime(root, f"killed-{number}", **patient, **hold))
            machine.wait_until(marker.exists)
            lives.append(WorkerLife(host=os.uname().nodename, pid=machine.process.pid))
        kept = results_of(client)
    ended_at = SystemClock().now()
    lives = [WorkerLife(host=life.host, pid=life.pid, ended_at=ended_at) for life in lives]
    with ExitStack() as machines:
        others = [machines.enter_context(runtime(root, f"other-{n}", **patient)) for n in range(3)]
        wait_until(lambda: not any(each.is_alive for each in others), what="the end of all workers")
        assert [each.process.returncode for each in others] == [0, 0, 0], [each.log() for each in others]
    found = results_of(client)
    assert {run_id: result[2] for run_id, result in found.items()} == {
        run_id: digest_of(number) for run_id, number in runs.items()
    }
    assert {run_id: found[run_id] for run_id in kept} == kept
    assert max(len(run.attempts) for run in client.runs()) == 2
    ledger, history = Ledger(client.store), RootHistory()
    ledger.refresh()
    history.take(LocalGround(root).objects())
    audit = audit_claims(
        attempt_logs(ledger, history),
        lives,
        Allowance(listing_lag_s=0.0, heartbeat_s=0.5, slack_s=10.0),
    )
    assert audit.faults == ()


@pytest.mark.parametrize("ground", ["folder", "drive"])
def test_workers_that_wake_up_after_they_were_superseded_change_nothing(
    tmp_path: Path, ground: str, request: pytest.FixtureRequest
) -> None:
    """Two workers fall asleep between the last look at who owns the run and the manifest of their results."""
    root, environment = tmp_path / "root", dict(QUICK)
    address = str(root)
    if ground == "drive":
        drive: Drive = request.getfixturevalue("drive")
        drive.driverun("init")
        address, environment = ROOT, {**QUICK, **drive.environment}
    else:
        driverun("init", root=root)
    client = client_of(address, environment)
    (run_id,) = submit(client, tmp_path, [7])
    with ExitStack() as machines:
        asleep: list[tuple[Runtime, Path]] = []
        for number in (1, 2):
            marker = tmp_path / f"asleep-{number}"
            hold = {
                "DRIVERUN_HOLD_COMMIT": str(marker),
                "DRIVERUN_HOLD_AT": "before create runs/*/results/manifest.json",
            }
            machine = machines.enter_context(
                runtime(root, f"sleeper-{number}", address=address, **environment, **hold)
            )
            machine.wait_until(marker.exists)
            os.killpg(machine.process.pid, signal.SIGSTOP)
            asleep.append((machine, marker))
        third = machines.enter_context(runtime(root, "third", address=address, **environment))
        wait_until(lambda: not third.is_alive, what="the end of the third worker")
        assert third.process.returncode == 0, third.log()
        before = results_of(client)
        assert before[run_id][2] == digest_of(7)
        for machine, marker in asleep:
            os.killpg(machine.process.pid, signal.SIGCONT)
            let_go(marker)
        for machine, _ in asleep:
            wait_until(lambda m=machine: not m.is_alive, what="the end of who woke up")  # type: ignore[misc]
            assert machine.process.returncode == 0, machine.log()
            assert f"{run_id} INTERRUPTED" in machine.log()
    manifests = [
        info.path
        for info in client.store.list("runs", recursive=True)
        if info.path.endswith("/results/manifest.json")
    ]
    assert len(manifests) == 3, "both wrote theirs, too late"
    assert results_of(client) == before == results_of(client_of(address, environment))
    (run,) = client.runs()
    assert run.results_path is not None
    assert ".0003." in run.results_path


def test_workers_that_find_the_same_jobs_at_one_moment_make_one_run_of_each(
    tmp_path: Path, drive: Drive
) -> None:
    """Each of them writes down what it found; on Drive, what they write at one moment is there more than once."""
    drive.driverun("init")
    environment = {**QUICK, **drive.environment, "DRIVERUN_QUIET": "0s"}
    client = client_of(ROOT, environment)
    for number in range(2):
        client.store.create(f"jobs/job{number}/train.py", SCRIPT.encode())
        job = f"entrypoint: train.py\nparams: {{number: {number}}}\n"
        client.store.create(f"jobs/job{number}/job.yaml", job.encode())
    with ExitStack() as machines:
        workers = [
            machines.enter_context(runtime(tmp_path / "root", f"vm-{n}", address=ROOT, **environment))
            for n in range(3)
        ]
        wait_until(lambda: not any(each.is_alive for each in workers), what="the end of all workers")
        for each in workers:
            assert each.process.returncode in (0, 3), each.log()  # 3: another was still at a run
    runs = client.runs()
    assert [run.state for run in runs] == [RunState.SUCCEEDED, RunState.SUCCEEDED]
    assert sorted(result[2] for result in results_of(client).values()) == sorted(map(digest_of, range(2)))
    folders = [(file.parents, file.title) for file in drive.admin.files() if file.is_folder]
    assert len(folders) == len(set(folders)), "no folder is there twice"
