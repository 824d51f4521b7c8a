"""Jobs with a schedule: which runs come to be, whoever looks and whenever."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from driverun.dispatch.lacks import runs_before
from driverun.dispatch.ledger import Ledger
from driverun.errors import SpecError
from driverun.execution.client import Client
from driverun.execution.discovering import Discovery
from driverun.execution.scheduling import due_runs
from driverun.execution.trainer import Trainer
from driverun.execution.worker import Mode
from driverun.runs.evidence import RunEvidence
from driverun.runs.layout import SCHEDULES
from driverun.runs.state import RunState
from driverun.spool.folder import SpoolFolder
from driverun.spool.request import TrainingRequest
from driverun.storage.base import ObjectStore
from driverun.storage.local import LocalStore
from driverun.storage.memory import MemoryStore
from driverun.testing.clock import START, FakeClock
from driverun.training.current import run_of
from tests.execution.world import World

QUIET_S = 5.0


class Root:
    """A root, and people who change jobs on it."""

    def __init__(self, store: ObjectStore, clock: FakeClock) -> None:
        self.store = store
        self.clock = clock

    def write(self, path: str, text: str) -> None:
        known = {info.path for info in self.store.list("jobs", recursive=True)}
        (self.store.replace if path in known else self.store.create)(path, text.encode())

    def job(
        self,
        name: str = "nightly",
        *,
        code: str = "print(1)\n",
        matrix: Any = None,
        cron: str | None = "0 3 * * *",
        after: Sequence[str] = (),
        **schedule: Any,
    ) -> None:
        """Put it there, and let it come to rest."""
        self.write(f"jobs/{name}/train.py", code)
        rules = {"cron": cron, **schedule} if cron is not None else None
        spec = {"entrypoint": "train.py", "matrix": matrix, "after": [*after], "schedule": rules}
        self.write(f"jobs/{name}/job.yaml", json.dumps(spec))
        self.clock.advance(seconds=QUIET_S + 1.0 + self.store.listing_lag_s)

    def worker(self) -> Worker:
        return Worker(self)

    def dues(self, name: str = "nightly") -> list[datetime]:
        """The due times that have a run, in their order, each as often as it has one."""
        ledger = Ledger(self.store)
        self.clock.advance(seconds=self.store.listing_lag_s + 0.1)
        ledger.refresh()
        return sorted(run.due for run in due_runs(ledger, name))

    def runs(self, name: str = "") -> list[RunEvidence]:
        """The runs of the job, or all, by their due times."""
        ledger = Ledger(self.store)
        self.clock.advance(seconds=self.store.listing_lag_s + 0.1)
        ledger.refresh()
        found = [run for run_id, run in ledger.runs.items() if run_id.startswith(name)]
        return sorted(found, key=_due_of)

    def given(self, name: str) -> list[list[datetime]]:
        """For each run of the job, when those fell due whose results it is given."""
        due = {run.run_id: _due_of(run) for run in self.runs()}
        return [[datetime.fromisoformat(due[each]) for each in runs_before(run)] for run in self.runs(name)]

    def to(self, moment: datetime) -> None:
        """Let it be that time."""
        self.clock.advance(seconds=(moment - self.clock.now()).total_seconds())


def _due_of(run: RunEvidence) -> str:
    assert run.run_file is not None
    return str(run.run_file.computed.get("due"))


class Worker:
    """Somebody who looks at the root; lives for as long as it is kept."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self.ledger = Ledger(root.store)
        self.discovery = Discovery(root.store, quiet_s=QUIET_S, clock=root.clock, by="worker@there")

    def look(self) -> list[str]:
        self.ledger.refresh()
        made, _ = self.discovery.look(self.ledger)
        return made


@pytest.fixture(params=["memory", "lagging", "folder"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Root:
    clock = FakeClock()
    stores: dict[str, ObjectStore] = {
        "memory": MemoryStore(clock),
        "lagging": MemoryStore(clock, listing_lag_s=10.0),
        "folder": LocalStore(
            tmp_path / "root", clock=clock, time_ns=lambda: int(clock.now().timestamp() * 10**9)
        ),
    }
    return Root(stores[request.param], clock)


def day(number: int, hour: int = 3) -> datetime:
    return datetime(2026, 1, number, hour, tzinfo=UTC)


def test_a_job_with_a_schedule_makes_a_run_when_it_is_due_and_none_before(root: Root) -> None:
    root.job()
    worker = root.worker()
    assert worker.look() == []
    assert not worker.discovery.invalid
    assert 0 < (worker.discovery.due_in_s or 0) <= 3 * 3600
    root.to(day(1))
    [made] = worker.look()
    assert worker.look() == [], "listings may not show it yet"
    root.clock.advance(seconds=60.0)
    assert worker.look() == []
    assert root.worker().look() == [], "another one sees that it was made"
    assert root.dues() == [day(1)]
    run_file = worker.ledger.runs[made].run_file
    assert run_file is not None
    assert run_file.computed["due"] == "2026-01-01T03:00:00+00:00"


def test_ten_workers_that_see_a_due_time_make_one_run(root: Root) -> None:
    root.job()
    workers = [root.worker() for _ in range(10)]
    for worker in workers:
        worker.look()
    root.to(day(1))
    for worker in workers:
        worker.ledger.refresh()
    assert len({run_id for worker in workers for run_id in worker.discovery.look(worker.ledger)[0]}) == 1
    assert root.dues() == [day(1)]


def test_an_edit_of_the_code_makes_no_due_time_fall_due_again(root: Root) -> None:
    root.job()
    root.worker().look()
    root.to(day(1))
    root.worker().look()
    root.job(code="print(2)\n")
    assert root.worker().look() == []
    root.to(day(2))
    root.worker().look()
    assert root.dues() == [day(1), day(2)]


def test_an_edit_of_the_cron_counts_from_the_edit_on(root: Root) -> None:
    root.job(catch_up="all")
    root.worker().look()
    root.to(day(2, 12))
    root.job(cron="0 6 * * *", catch_up="all")
    assert root.worker().look() == [], "what its new hours would have been before does not count"
    root.to(day(4, 12))
    root.worker().look()
    assert root.dues() == [day(3, 6), day(4, 6)]
    root.job(catch_up="all")
    assert root.worker().look() == [], "nor do its old ones when it is changed back"
    root.to(day(5, 12))
    root.worker().look()
    assert root.dues() == [day(3, 6), day(4, 6), day(5)]


def test_a_job_whose_files_still_change_is_waited_for(root: Root) -> None:
    root.job()
    worker = root.worker()
    worker.look()
    root.to(day(1))
    root.write("jobs/nightly/train.py", "print(2)\n")
    root.clock.advance(seconds=root.store.listing_lag_s / 10)
    assert worker.look() == []
    root.clock.advance(seconds=QUIET_S + 1.0)
    assert len(worker.look()) == 1


def test_a_schedule_that_would_never_come_is_a_fault_and_one_that_has_ended_is_none(root: Root) -> None:
    root.job("late", until="2025-12-31")
    root.job("early", until="2026-01-01T02:00")
    root.job("fine", until="2026-01-01")
    worker = root.worker()
    worker.look()
    faults = {name: str(job.faults[0]) for name, job in worker.discovery.invalid.items()}
    assert set(faults) == {"late", "early"}
    assert (
        "schedule.until: 2025-12-31 is in the past, so no run would ever be made; write a later"
        in faults["late"]
    )
    assert "comes before the first due time" in faults["early"]
    assert faults["late"].startswith("jobs/late/job.yaml:1")
    root.to(day(3))
    again = root.worker()
    assert len(again.look()) == 1, "it fell due while nobody looked"
    assert set(again.discovery.invalid) == {"late", "early"}


def test_few_files_tell_of_a_schedule_however_often_it_is_looked_at(root: Root) -> None:
    root.job()
    worker = root.worker()
    for _ in range(30):
        worker.look()
        root.clock.advance(seconds=1.0)
    root.clock.advance(seconds=20.0)
    root.worker().look()
    assert len(root.store.list(SCHEDULES)) == 1


def test_a_year_with_both_changes_of_the_clock_and_outages_makes_the_expected_runs() -> None:
    """Looked at five minutes after each half hour of the night, but for a week in March and one in October."""
    clock = FakeClock()
    root = Root(MemoryStore(clock), clock)
    for catch_up in ("latest", "all", "none"):
        root.job(catch_up, cron="30 2 * * *", timezone="Europe/Berlin", catch_up=catch_up)
    # By hand, in UTC: half past one in winter, half past midnight in summer.
    spring, autumn = datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)
    midnights = [START + timedelta(days=number) for number in range(365)]
    minutes = {spring: 60}  # 02:30 is skipped: right after, at 03:00
    nights = [
        each + timedelta(minutes=minutes.get(each, 30 if spring < each <= autumn else 90))
        for each in midnights
    ]
    outages = [
        (datetime(2026, 3, 25, 12, tzinfo=UTC), datetime(2026, 4, 1, 12, tzinfo=UTC)),
        (datetime(2026, 10, 20, 12, tzinfo=UTC), datetime(2026, 10, 27, 12, tzinfo=UTC)),
    ]

    def is_dark(moment: datetime) -> bool:
        return any(begin < moment < end for begin, end in outages)

    worker = root.worker()
    for number, midnight in enumerate(midnights):
        if number % 30 == 0:
            worker = root.worker()
        looks = [midnight + timedelta(minutes=minute) for minute in (35, 65, 95)]
        looks += [end for _, end in outages if end.date() == midnight.date()]
        for look_at in looks:
            if not is_dark(look_at):
                root.to(look_at)
                worker.look()
    seen = [due for due in nights if not is_dark(due)]
    newest = [max(due for due in nights if begin < due < end) for begin, end in outages]
    assert len(seen) == 365 - 14
    assert root.dues("all") == nights
    assert root.dues("latest") == sorted([*seen, *newest])
    assert root.dues("none") == seen


def test_a_due_time_of_a_matrix_is_whole_even_if_somebody_died_on_the_way(root: Root) -> None:
    root.job(matrix={"x": [1, 2, 3]})
    root.worker().look()
    root.to(day(1))
    assert len(root.worker().look()) == 3
    root.clock.advance(seconds=60.0)
    lost = next(info.path for info in root.store.list("ledger") if ".submit." in info.path)
    root.store.delete(lost)
    root.worker().look()
    root.clock.advance(seconds=60.0)
    assert root.worker().look() == []
    assert root.dues() == [day(1)] * 3


def test_what_comes_after_a_schedule_is_given_what_fell_due_with_it(root: Root) -> None:
    root.job("nightly")
    for name in ("earlier-by-name", "zlater"):
        root.job(name, after=["nightly"])
    workers = [root.worker() for _ in range(3)]
    for number in (1, 2):
        for worker in workers:
            worker.look()
        root.to(day(number))
        for worker in workers:
            worker.look()
        root.clock.advance(seconds=3.0)
        workers[0].look()
    expected = [[day(1)], [day(2)]]
    assert root.given("earlier-by-name") == root.given("zlater") == expected
    assert root.dues("nightly") == root.dues("zlater") == [day(1), day(2)]
    assert len(root.runs()) == 6, "and none without a due time"


def test_what_a_due_time_is_given_does_not_depend_on_when_somebody_looks(root: Root) -> None:
    root.job("hourly", cron="0 * * * *")
    root.job("daily", after=["hourly"])
    root.worker().look()
    root.to(day(1))
    root.worker().look()
    [before] = root.runs("daily")
    root.store.delete(next(info.path for info in root.store.list("ledger") if "daily-" in info.path))
    root.to(day(1, hour=5))
    root.worker().look()
    assert [run.run_id for run in root.runs("daily")] == [before.run_id]
    assert root.given("daily") == [[day(1)]]


def test_what_comes_after_a_schedule_waits_for_its_first_run(root: Root) -> None:
    root.job("nightly", matrix={"x": [1, 2]})
    root.job("report", cron=None, after=["nightly"])
    root.job("weekly-report", cron="0 2 * * *", after=["nightly"])
    worker = root.worker()
    assert worker.look() == []
    assert worker.discovery.invalid.keys() == {"report"}
    told = str(worker.discovery.invalid["report"].faults[0])
    assert "jobs/report/job.yaml:1: after[0]: the job nightly, which it comes after, has a schedule" in told
    assert "driverun submit --now nightly" in told
    root.to(day(1, hour=2))
    assert worker.look() == []
    root.to(day(1))
    worker.look()
    assert not worker.discovery.invalid
    assert root.given("report") == root.given("weekly-report") == [[day(1), day(1)]]
    assert root.dues("weekly-report") == [day(1, hour=2)]


def test_a_run_that_a_person_made_at_once_will_do_until_one_fell_due(root: Root) -> None:
    root.job("nightly")
    root.job("report", cron=None, after=["nightly"])
    client = Client(root.store, clock=root.clock, by="ann@there")
    with pytest.raises(SpecError, match="has a schedule and no run yet"):
        client.submit(client.load_job("report"))
    assert root.runs() == []
    at_once = client.submit(client.load_job("nightly")).run_id
    root.clock.advance(seconds=root.store.listing_lag_s + 1.0)
    root.worker().look()
    [report] = root.runs("report")
    assert runs_before(report) == (at_once,)


def test_a_script_can_ask_when_it_was_due(tmp_path: Path) -> None:
    world = World(tmp_path)
    root = Root(world.store, world.clock)
    root.job()
    root.worker().look()
    root.to(day(1))
    asked: list[TrainingRequest] = []

    def start(spool: SpoolFolder, **options: Any) -> Trainer:
        asked.append(TrainingRequest.read(spool.request))
        return world.start(spool, **options)

    world.worker(start=start).work(Mode.UNTIL_EMPTY)
    assert run_of(asked[0]).due == day(1)
    assert [run.state for run in world.client.runs()] == [RunState.SUCCEEDED]


def test_a_due_time_is_seen_of_a_run_whose_spec_is_too_large_for_a_listing(root: Root) -> None:
    large = {f"param-{number}": str(number**50) for number in range(300)}
    root.write("jobs/large/train.py", "print(1)\n")
    spec = {"entrypoint": "train.py", "params": large, "schedule": {"cron": "0 3 * * *"}}
    root.write("jobs/large/job.yaml", json.dumps(spec))
    root.clock.advance(seconds=60.0)
    root.worker().look()
    root.to(day(1))
    assert len(root.worker().look()) == 1
    root.clock.advance(seconds=60.0)
    assert root.worker().look() == []
    assert root.dues("large") == [day(1)]
