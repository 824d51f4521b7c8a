"""Whether a run goes on with the packages with which its checkpoint was made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from driverun.execution.environment import Environments, JobPackages
from driverun.execution.worker import Mode, Worker
from driverun.runs.record import Exactness
from driverun.runs.state import RunState
from tests.execution.watching import once_at, watched
from tests.execution.world import World

FIELDS: dict[str, Any] = {"requirements": ["tinya"], "params": {"epochs": 1}}


class Shelf(Environments):
    """Has one version of each package."""

    def __init__(self, **versions: str) -> None:
        self._versions = versions

    def prepare(self, *_: Any, **__: Any) -> JobPackages:
        return JobPackages(versions=self._versions)


def with_packages(worker: Worker, **versions: str) -> Worker:
    worker._context = replace(worker._context, environments=Shelf(**versions))
    return worker


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


class Cut(BaseException):
    pass


@pytest.mark.parametrize(
    ("now", "reasons"),
    [("1.5", ()), ("1.6", ("packages changed: tinya 1.6, was 1.5",))],
    ids=["same", "other"],
)
def test_a_resume_compares_them_with_what_the_record_says(
    world: World, now: str, reasons: tuple[str, ...]
) -> None:
    """Its content: what a listing shows of a record has no packages."""
    run_id = world.job(**FIELDS)

    def cut() -> None:
        raise Cut

    with pytest.raises(Cut):
        with_packages(world.worker(start=watched(world, once_at(8, cut))), tinya="1.5").work(Mode.UNTIL_EMPTY)
    world.power_cut()
    with_packages(world.worker(), tinya=now).work(Mode.UNTIL_EMPTY)
    run = world.client.run(run_id)
    assert (run.state, run.attempts[-1].first_step) == (RunState.SUCCEEDED, 6)
    assert run.exactness_reasons == reasons


@pytest.mark.parametrize(
    ("now", "reasons"),
    [("1.5", ()), ("1.6", ("packages changed: tinya 1.6, was 1.5",))],
    ids=["same", "other"],
)
def test_so_does_a_run_that_continues_another(world: World, now: str, reasons: tuple[str, ...]) -> None:
    base = world.job("base", **FIELDS)
    with_packages(world.worker(), tinya="1.5").work(Mode.UNTIL_EMPTY)
    more = world.job("more", **FIELDS, init_from={"run": base, "what": "state"})
    with_packages(world.worker(), tinya=now).work(Mode.UNTIL_EMPTY)
    run = world.client.run(more)
    assert run.state is RunState.SUCCEEDED
    assert run.exactness is (Exactness.APPROXIMATE if reasons else Exactness.EXACT)
    assert run.exactness_reasons == reasons
