"""A root from Python: handles of runs, on the calls of the commands."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import driverun
from driverun.assembly import Surroundings
from driverun.errors import RootNotFound, RunFailed, RunNotFound, SpecError, UsageError, WaitTimeout
from driverun.execution.context import StopSignal
from driverun.execution.worker import Worker
from driverun.runs.record import AttemptState
from driverun.runs.state import WaitingFor
from driverun.testing.clock import FakeClock
from tests.e2e.runtimes import REPOSITORY, clean_environment
from tests.execution.watching import once_at, watched
from tests.execution.world import Plan, World


@pytest.fixture
def here(tmp_path: Path) -> Surroundings:
    return Surroundings(
        environment={"USER": "ada", "HOME": str(tmp_path)},
        cwd=tmp_path,
        home=tmp_path,
        clock=FakeClock(),
    )


@pytest.fixture
def interruptible() -> Iterator[None]:
    """An interrupt is raised, as in a notebook; in the background of a shell nobody would hear of it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def client(here: Surroundings) -> driverun.Client:
    return driverun.Client.init(here.cwd / "root", here=here)


@pytest.fixture
def world(tmp_path: Path, client: driverun.Client, here: Surroundings) -> World:
    """Workers with a scripted trainer, on the root of the client."""
    (tmp_path / "machines").mkdir()
    clock = here.clock
    assert isinstance(clock, FakeClock)
    world = World(folder=tmp_path / "machines", clock=clock)
    world.store = client._calls.store
    return world


def job(folder: Path, text: str = "entrypoint: train.py\n", name: str = "mine") -> Path:
    place = folder / name
    place.mkdir(exist_ok=True)
    (place / "train.py").write_text("print('hello')\n")
    (place / "job.yaml").write_text(text)
    return place


def test_a_run_is_submitted_worked_at_and_fetched(
    client: driverun.Client, world: World, tmp_path: Path
) -> None:
    run = client.submit(job(tmp_path), params={"size": 3})
    assert client.submit(tmp_path / "mine", params={"size": 3}) == run
    assert run.status().state is driverun.RunState.QUEUED
    assert list(run.logs()) == []

    world.plan = Plan(prints=b"one\ntwo\n")
    world.work()
    assert run.wait().state is driverun.RunState.SUCCEEDED
    assert list(run.logs(follow=True)) == ["one", "two"]
    assert run.metrics() == run.status().metrics == {"evaluate.accuracy": 0.5, "fit.loss": 0.25}
    assert (run.result() / "outputs/steps.txt").read_text() == "12\n"
    assert run.result() == tmp_path / run.id, "twice is as good as once"
    assert run.id in run.report(tmp_path / "page.html").read_text()
    assert [each.fit for each in run.history().fits] == [0]


def test_runs_are_found_by_state_name_and_beginning(client: driverun.Client, tmp_path: Path) -> None:
    first = client.submit(job(tmp_path))
    other = client.submit(job(tmp_path, name="other"))
    first.cancel()
    assert client.runs() == [first, other]
    assert client.runs(state="queued") == [other]
    assert client.runs(state=(driverun.RunState.CANCELLED, "FAILED")) == [first]
    assert client.runs(name="other") == [other]
    assert client.run("oth") == other
    with pytest.raises(UsageError, match="there are QUEUED"):
        client.runs(state="done")
    with pytest.raises(RunNotFound, match="Did you mean"):
        client.run(f"x{first.id}")


def test_a_run_that_is_not_over_in_time_goes_on(client: driverun.Client, tmp_path: Path) -> None:
    run = client.submit(job(tmp_path, "entrypoint: train.py\ndata: [{source: data/set.npz}]\n"))
    with pytest.raises(TimeoutError, match=r"waited 3 s for .* QUEUED and waits for data"):
        run.wait(timeout_s=3)
    with pytest.raises(WaitTimeout):
        run.result(timeout_s=0)
    assert run.status().state is driverun.RunState.QUEUED


def test_a_run_waits_no_longer_for_data_once_they_are_there(client: driverun.Client, tmp_path: Path) -> None:
    run = client.submit(job(tmp_path, "entrypoint: train.py\ndata: [{source: data/set.npz}]\n"))
    assert [each.waiting_for for each in client.status()] == [WaitingFor.DATA]
    (tmp_path / "set.npz").write_bytes(b"numbers")
    client.upload(tmp_path / "set.npz", "data/set.npz")
    assert run.status().waiting_for is None, "whatever an earlier look has seen"


def test_a_run_that_fails_has_no_results_and_says_why(
    client: driverun.Client, world: World, tmp_path: Path
) -> None:
    run = client.submit(job(tmp_path))
    world.plan = Plan(fails_at=4)
    world.work()
    with pytest.raises(RunFailed, match="driverun retry") as caught:
        run.result()
    assert (caught.value.run_id, caught.value.state) == (run.id, "FAILED")
    assert caught.value.reason == "scripted"
    run.retry(fresh=True)
    world.plan = Plan()
    world.work()
    assert run.result().is_dir()
    with pytest.raises(UsageError, match="SUCCEEDED"):
        run.retry()


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_of_work_commits_and_hands_over_first(
    client: driverun.Client, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = client.submit(job(tmp_path))
    world.plan = Plan(snapshot_every=1)
    interrupting = watched(world, once_at(6, lambda: signal.raise_signal(signal.SIGINT)))

    def opened(*_: object, stop: StopSignal, **__: object) -> Worker:
        world.stop = stop
        return world.worker(start=interrupting)

    monkeypatch.setattr("driverun.client.open_worker", opened)
    with pytest.raises(KeyboardInterrupt):
        client.work()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    status = run.status()
    assert status.state is driverun.RunState.INTERRUPTED
    assert status.committed_step == status.step >= 6
    assert client.work()[run.id].state is AttemptState.SUCCEEDED
    assert run.status().attempts[-1].first_step == status.step, "at once, without waiting for a lease"


def test_what_is_wrong_is_raised_as_the_commands_print_it(
    client: driverun.Client, here: Surroundings, tmp_path: Path
) -> None:
    with pytest.raises(SpecError) as caught:
        client.submit(job(tmp_path, "entrypiont: train.py\npriority: high\n"))
    assert {fault.field for fault in caught.value.faults} >= {"entrypiont", "priority"}
    for nothing in ("nothing", str(tmp_path / "gone"), "../gone"):
        with pytest.raises(
            UsageError,
            match=rf"{nothing}: it is neither a folder here nor a job .* Name a folder with a job\.yaml",
        ):
            client.submit(nothing)
    with pytest.raises(UsageError, match="cannot work on nothing: there is no job"):
        client.work(jobs="nothing")
    run = client.submit(job(tmp_path, name="sound"))
    with pytest.raises(UsageError, match="a whole number, such as 10 or -5, not 'high'"):
        run.prioritize("high")  # type: ignore[arg-type]
    with pytest.raises(RootNotFound, match="driverun init"):
        driverun.Client(tmp_path, here=here)
    assert client.runs() == [run]


def test_the_example_of_the_page_prints_what_the_page_says(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs/python.md").read_text()
    example, printed = re.findall(r"```(?:python|text)\n(.*?)```", page, re.DOTALL)[:2]
    (tmp_path / "script.py").write_text(example)
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**clean_environment(), "DRIVERUN_WORKDIR": str(tmp_path / "work")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == printed
