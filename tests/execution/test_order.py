"""Jobs that come after others: they wait, and find the others' results among their data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from driverun.dispatch.ledger import Ledger
from driverun.errors import SpecError
from driverun.execution.discovering import Discovery
from driverun.execution.jobs import local_job
from driverun.execution.passing import PassingStore
from driverun.execution.trainer import Trainer
from driverun.runs.layout import JOBS
from driverun.runs.state import RunState, WaitingFor
from driverun.spool.folder import SpoolFolder
from tests.execution.world import Plan, ScriptedTrainer, World

QUEUED, SUCCEEDED, FAILED = RunState.QUEUED, RunState.SUCCEEDED, RunState.FAILED


class Watching(World):
    """Remembers what each run found among its data, and lets runs of some jobs fail."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.found: dict[str, set[str]] = {}  # by run: files under data/
        self.broken: set[str] = set()  # names of jobs

    def start(self, spool: SpoolFolder, *, work: Path, on_line: Callable[[str], None], **_: Any) -> Trainer:
        request = json.loads(spool.request.read_text())
        data = work / "data"
        self.found[request["run_id"]] = {
            str(file.relative_to(data)) for file in data.rglob("*") if file.is_file()
        }
        plan = Plan(steps=2, fails_at=1 if request["name"] in self.broken else None)
        return ScriptedTrainer(plan, spool, work, self.executed)

    def drop(self, name: str, /, **fields: Any) -> None:
        """Put a job into the root as a person does; one that is there is edited."""
        for path, content in {
            "train.py": b"print('scripted')\n",
            "job.yaml": json.dumps({"entrypoint": "train.py", **fields}).encode(),
        }.items():
            place = f"{JOBS}/{name}/{path}"
            if any(info.path == place for info in self.store.list(JOBS, recursive=True)):
                self.store.replace(place, content)
            else:
                self.store.create(place, content)

    def runs(self) -> dict[str, RunState]:
        return {run.name: run.state for run in self.client.runs()}

    def id_of(self, name: str) -> str:
        [run_id] = [run.run_id for run in self.client.runs() if run.name == name]
        return run_id

    def faults(self) -> dict[str, str]:
        return {job.name: " ".join(map(str, job.faults)) for job in self.client.invalid_jobs()}


@pytest.fixture
def world(tmp_path: Path) -> Watching:
    return Watching(tmp_path)


def test_a_run_waits_for_those_before_it_and_finds_their_results(world: Watching) -> None:
    world.drop("prepare")
    world.drop("train", after=["prepare"], priority=9)
    world.drop("report", after=["train", "prepare"], priority=99)
    worked = world.work()
    assert [run_id.rpartition("-")[0] for run_id in worked.outcomes] == ["prepare", "train", "report"]
    assert set(world.runs().values()) == {SUCCEEDED}
    assert world.found[world.id_of("prepare")] == set()
    assert {"prepare/outputs/steps.txt", "prepare/metrics.json", "prepare/model.keras"} <= world.found[
        world.id_of("train")
    ]
    assert {"prepare/outputs/steps.txt", "train/outputs/steps.txt"} <= world.found[world.id_of("report")]
    assert world.work().outcomes == {}


def test_the_results_of_a_sweep_lie_in_a_folder_for_each_run(world: Watching) -> None:
    world.drop("sweep", matrix={"lr": [1, 2]})
    world.drop("choose", after=["sweep"])
    world.work()
    sweep = [run.run_id for run in world.client.runs() if run.name == "sweep"]
    wanted = {f"sweep/{run_id}/outputs/steps.txt" for run_id in sweep}
    assert len(wanted) == 2
    assert wanted <= world.found[world.id_of("choose")]


def test_submitting_a_job_submits_those_before_it_first(world: Watching) -> None:
    world.drop("prepare")
    folder = world.folder / "mine"
    folder.mkdir()
    (folder / "train.py").write_text("print('mine')\n")
    (folder / "job.yaml").write_text('{"entrypoint": "train.py", "after": ["prepare"]}')
    submitted = world.client.submit(local_job(folder))
    assert world.runs() == {"prepare": QUEUED, "mine": QUEUED}
    mine = world.client.run(submitted.run_id)
    assert mine.waiting_for is WaitingFor.AFTER
    assert mine.reason == f"comes after {world.id_of('prepare')} (QUEUED)"
    assert not world.client.submit(local_job(folder)).is_new
    world.work()
    assert world.runs() == {"prepare": SUCCEEDED, "mine": SUCCEEDED}
    # What it is given is part of what it computes.
    world.drop("prepare", params={"x": 1})
    assert world.client.submit(local_job(folder)).is_new


def test_a_failure_is_told_behind_it_and_holds_up_nobody_else(world: Watching) -> None:
    world.broken.add("prepare")
    world.drop("prepare", priority=5)
    world.drop("train", after=["prepare"])
    world.drop("other", priority=-5)
    worked = world.work()
    assert world.runs() == {"prepare": FAILED, "train": QUEUED, "other": SUCCEEDED}
    prepare, train = world.id_of("prepare"), world.id_of("train")
    told = f"comes after {prepare} (FAILED). Mend that one: driverun retry {prepare}."
    assert told in worked.left[train]
    assert told in world.client.run(train).reason

    world.broken.clear()
    world.drop("prepare", priority=5, notes="mended")
    world.client.retry(prepare)
    world.work()
    assert world.runs() == {"prepare": SUCCEEDED, "train": SUCCEEDED, "other": SUCCEEDED}


def test_a_job_behind_one_that_was_mended_by_a_retry_is_given_that_run(world: Watching) -> None:
    world.broken.add("prepare")
    world.drop("prepare")
    world.work()
    world.broken.clear()
    world.drop("prepare", notes="mended")
    world.client.retry(world.id_of("prepare"))
    world.drop("train", after=["prepare"])
    world.work()
    assert world.runs() == {"prepare": SUCCEEDED, "train": SUCCEEDED}  # one run of prepare, as id_of sees too
    assert world.id_of("prepare")


@pytest.mark.parametrize(
    ("jobs", "faulty", "words"),
    [
        ({"a": {"after": ["b"]}, "b": {"after": ["a"]}}, {"a", "b"}, "a -> b -> a"),
        ({"a": {"after": ["oter"]}}, {"a"}, "did you mean other?"),
        ({"a": {"name": "x"}, "b": {"name": "x"}}, {"a", "b"}, "jobs/b/job.yaml"),
        ({"a": {"after": ["b"]}, "b": {"seed": -1}}, {"a", "b"}, "mend jobs/b/job.yaml first"),
        ({"a": {"matrix": {f"p{n}": list(range(10)) for n in range(6)}}}, {"a"}, "1,000,000 points"),
        ({"a": {"matrix": {"p": [1], "p.q": [2]}}}, {"a"}, "p is no mapping"),
        ({"a": {"matrix": {"p": [1], "exclude": [{"p": 1}]}}}, {"a"}, "every point"),
    ],
)
def test_bad_order_is_told_for_each_job_and_the_queue_goes_on(
    world: Watching, jobs: dict[str, dict[str, Any]], faulty: set[str], words: str
) -> None:
    world.drop("other")
    for name, fields in jobs.items():
        world.drop(name, **fields)
    world.work()
    assert world.runs() == {"other": SUCCEEDED}
    faults = world.faults()
    assert faults.keys() == faulty
    assert words in faults["a"]
    assert any("the job a is INVALID" in line and words in line for line in world.said)


def test_a_job_that_changes_as_the_one_behind_it_is_made_holds_up_nobody(world: Watching) -> None:
    world.drop("prepare")
    world.work()
    world.drop("train", after=["prepare"])
    world.drop("unrelated")

    class Edited(PassingStore):
        """Where somebody has edited a job since it was listed."""

        def read(self, path: str) -> bytes:
            content = super().read(path)
            return b"entrypoint: train.py\nseed: -1\n" if path in edited else content

    edited: set[str] = set()
    discovery = Discovery(Edited(world.store), quiet_s=0.0, clock=world.clock, by="worker")
    discovery.heads()
    edited.add(f"{JOBS}/prepare/job.yaml")
    ledger = Ledger(world.store)
    ledger.refresh()
    made, _ = discovery.look(ledger)
    assert [run_id.rpartition("-")[0] for run_id in made] == ["unrelated"]
    assert "seed" in str(discovery.invalid["train"].faults[0])


def test_a_folder_and_a_file_of_one_name_are_both_told(world: Watching) -> None:
    world.drop("a")
    world.store.create(f"{JOBS}/a.yaml", b"entrypoint: train.py\n")
    world.drop("other")
    world.work()
    assert world.runs() == {"other": SUCCEEDED}
    faults = world.faults()
    assert faults.keys() == {"a", "a.yaml"}
    for told in faults.values():
        assert "jobs/a/job.yaml" in told
        assert "jobs/a.yaml" in told
    world.store.delete(f"{JOBS}/a.yaml")
    world.work()
    assert world.runs() == {"other": SUCCEEDED, "a": SUCCEEDED}


def test_what_is_missing_heals_when_it_comes(world: Watching) -> None:
    world.drop("train", after=["prepare"])
    world.work()
    assert world.runs() == {}
    world.drop("prepare")
    world.work()
    assert world.runs() == {"prepare": SUCCEEDED, "train": SUCCEEDED}
    assert world.faults() == {}


def test_a_submission_into_a_cycle_is_refused(world: Watching) -> None:
    world.drop("a", after=["mine"])
    with pytest.raises(SpecError, match="mine -> a -> mine"):
        world.job("mine", after=["a"])
    assert world.runs() == {}


def test_a_job_that_was_edited_while_it_runs_ends_as_it_was_and_runs_once_more_as_it_is(
    world: Watching,
) -> None:
    world.drop("a")
    edited: list[str] = []
    start = world.start

    def start_and_edit(
        spool: SpoolFolder, *, work: Path, on_line: Callable[[str], None], **given: Any
    ) -> Trainer:
        if not edited:
            edited.append((work / "train.py").read_text())
            world.store.replace(f"{JOBS}/a/train.py", b"print('edited')\n")
        else:
            edited.append((work / "train.py").read_text())
        return start(spool, work=work, on_line=on_line, **given)

    world.start = start_and_edit  # type: ignore[method-assign]
    world.work()
    assert edited == ["print('scripted')\n", "print('edited')\n"]
    states = [(run.name, run.state, len(run.attempts)) for run in world.client.runs()]
    assert states == [("a", SUCCEEDED, 1), ("a", SUCCEEDED, 1)]


def test_two_jobs_that_are_alike_but_for_their_names_are_two(world: Watching) -> None:
    world.drop("a")
    world.drop("b")
    world.work()
    assert world.runs() == {"a": SUCCEEDED, "b": SUCCEEDED}
    assert world.work().outcomes == {}
