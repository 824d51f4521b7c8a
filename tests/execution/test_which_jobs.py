"""A worker that is to keep to some of the jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from driverun.assembly import Surroundings, WorkOptions, make_root, open_worker
from driverun.errors import UsageError
from driverun.execution.context import StopSignal
from driverun.execution.worker import Mode, Worked
from driverun.runs.state import RunState
from driverun.testing.clock import FakeClock
from tests.execution.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def work_on(world: World, *jobs: str) -> Worked:
    return world.worker(jobs=jobs).work(Mode.UNTIL_EMPTY)


def test_only_the_named_jobs_are_done_and_the_others_are_no_left_work(world: World) -> None:
    first, second, third = (world.job(name, seed=seed) for seed, name in enumerate(("one", "two", "three")))
    worked = work_on(world, "one", third)
    assert sorted(worked.outcomes) == sorted([first, third])
    assert worked.left == {}
    assert world.client.run(second).state is RunState.QUEUED
    assert not [line for line in world.said if second in line]


def test_a_job_that_nobody_named_is_neither_read_nor_made_a_run(world: World) -> None:
    for name in ("mine", "theirs"):
        world.store.create(f"jobs/{name}/train.py", name.encode())
        world.store.create(f"jobs/{name}/job.yaml", b"entrypoint: train.py\n")
    world.store.create("jobs/faulty/job.yaml", b"entrypiont: train.py\n")
    world.clock.advance(seconds=60)
    worked = work_on(world, "jobs/mine/")
    assert [run.name for run in world.client.runs()] == ["mine"]
    assert len(worked.outcomes) == 1
    assert not [line for line in world.said if "INVALID" in line]


def test_a_run_that_waits_for_a_job_that_nobody_named_says_which(world: World) -> None:
    first = world.job("prepare")
    train = world.job("train", after=["prepare"])
    assert work_on(world, "train").left == {
        train: f"comes after {first} (QUEUED). This worker keeps to train; give it --job prepare as well"
    }
    assert list(work_on(world, "train", "prepare").outcomes) == [first, train]


def test_a_run_is_found_by_the_name_that_its_job_file_gives(world: World) -> None:
    run_id = world.job("folder", name="digits")
    assert list(work_on(world, "digits").outcomes) == [run_id]


def test_a_name_that_there_is_not_is_refused_with_the_nearest(world: World) -> None:
    run_id = world.job("mnist")
    with pytest.raises(UsageError, match=r"no job and no run of that name.*Did you mean mnist"):
        work_on(world, "mnits", run_id)
    with pytest.raises(UsageError, match="driverun status"):
        work_on(world, "cifar")
    assert world.executed == []


def test_the_choice_comes_through_from_whoever_opens_a_worker(tmp_path: Path) -> None:
    here = Surroundings(
        environment={"DRIVERUN_WORKDIR": str(tmp_path / "work"), "PATH": ""},
        cwd=tmp_path,
        home=tmp_path,
        clock=FakeClock(),
    )
    make_root(str(tmp_path / "root"), here)
    worker = open_worker(
        str(tmp_path / "root"),
        here,
        options=WorkOptions(jobs=("none",)),
        stop=StopSignal(),
        say=lambda _: None,
        show=lambda _: None,
    )
    with pytest.raises(UsageError, match="cannot work on none"):
        worker.work(Mode.UNTIL_EMPTY)
