"""What a worker does about a job's data: packs for the next machine, people who want it to stop, disks that fill."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from driverun.execution.context import Stop
from driverun.execution.jobs import local_job
from driverun.execution.worker import Mode
from driverun.runs.layout import packs_folder
from driverun.runs.state import RunState
from driverun.storage.base import ObjectInfo
from driverun.storage.memory import MemoryStore
from driverun.testing.clock import FakeClock
from driverun.testing.faulty import FaultyStore, Moment, Operation
from driverun.transfer import publish
from tests.execution.world import World

FILES = {f"data/images/{number}.png": b"%d" % number for number in range(150)}


class FarStore(MemoryStore):
    """Every download of data takes as long as on Drive, and `on_download` is asked first."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self._ticking = clock
        self.on_download: Callable[[str], None] = lambda path: None

    def download(self, path: str, target: Path) -> ObjectInfo:
        if path.startswith("data/"):
            self._ticking.advance(seconds=0.15)
            self.on_download(path)
        return super().download(path, target)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def far(world: World) -> FarStore:
    store = FarStore(world.clock)
    world.store = store
    for path, content in FILES.items():
        store.create(path, content)
    return store


def test_the_first_machine_packs_small_files_and_the_next_one_fetches_the_pack(
    world: World, far: FarStore
) -> None:
    first = world.job(data=[{"source": "data/images"}])
    world.work()
    assert any("150 small files are packed in 1" in line for line in world.said)
    packs = far.list(packs_folder("data/images"))
    assert all(".worker1." in info.path for info in packs)
    second = world.job(data=[{"source": "data/images"}], seed=1)
    downloads: list[str] = []

    def note(operation: Operation) -> None:
        if operation.name == "download" and operation.moment is Moment.BEFORE:
            downloads.append(operation.path)

    world.work(FaultyStore(far, on_operation=note))
    assert [path for path in downloads if path.startswith("data/")] == []
    assert [world.client.run(run).state for run in (first, second)] == [RunState.SUCCEEDED] * 2
    assert far.list(packs_folder("data/images")) == packs


def test_a_person_who_stops_the_worker_does_not_wait_for_the_data(world: World, far: FarStore) -> None:
    run = world.job(data=[{"source": "data/images"}])
    asked: list[str] = []

    def stop(path: str) -> None:
        asked.append(path)
        world.stop.ask(Stop.TERM)

    far.on_download = stop
    world.work(mode=Mode.ONCE)
    assert len(asked) < len(FILES)
    assert world.client.run(run).state is RunState.INTERRUPTED
    assert world.executed == []


def test_a_disk_that_fills_while_data_arrive_ends_the_attempt_in_plain_words(
    world: World, far: FarStore
) -> None:
    run = world.job(data=[{"source": "data/images"}])

    def fill(path: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    far.on_download = fill
    world.work(mode=Mode.ONCE)
    ended = world.client.run(run)
    assert ended.state in (RunState.INTERRUPTED, RunState.FAILED)
    assert "cannot bring data/images" in str(ended)
    assert "Free space there" in str(ended)
    far.on_download = lambda path: None
    if ended.state is RunState.FAILED:
        world.client.retry(run)
    world.work()
    assert world.client.run(run).state is RunState.SUCCEEDED


def test_results_in_an_archive_are_fetched_and_compared_like_others(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    single = world.job()
    world.work()
    monkeypatch.setattr(publish, "MOST_SINGLE_FILES", 0)
    archived = world.client.submit(local_job(world.folder / "job"), again=True).run_id
    world.work()
    path = world.client.run(archived).results_path
    assert f"{path}/{archived}.zip" in [info.path for info in world.store.list(str(path))]
    assert world.client.diff(single, archived) is None
    names = []
    for run in (single, archived):
        dest = tmp_path / run
        names.append([str(file.relative_to(dest)) for file in world.client.fetch(run, dest)])
    assert names[0] == names[1]
    assert "report.html" in names[0]


def test_a_link_that_this_root_cannot_open_is_told_at_once_and_by_the_run(world: World) -> None:
    link = "https://drive.google.com/open?id=1" + "a" * 32
    run = world.job(data=[{"source": link}])
    assert any(
        "cannot open it" in note for note in world.client.job_warnings(local_job(world.folder / "job"))
    )
    world.work()
    failed = world.client.run(run)
    assert failed.state is RunState.FAILED
    assert "no root on Drive" in str(failed)
