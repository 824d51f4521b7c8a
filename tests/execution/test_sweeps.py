"""A job with a matrix: a run for each of its points, each as if it had been submitted by itself."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from driverun.dispatch.claim import claim_run
from driverun.dispatch.ledger import Ledger
from driverun.errors import RunNotFound, SpecError, UsageError
from driverun.execution.intake import LOOK_AGAIN_AT, Submission, submit_job
from driverun.execution.jobs import job_on_root, local_job
from driverun.execution.worker import Worked
from driverun.runs.layout import JOBS
from driverun.runs.record import ProcessId
from driverun.runs.state import RunState, WaitingFor
from driverun.spec.parser import parse_override
from tests.execution.world import World

ELSEWHERE = ProcessId(host="elsewhere", boot_id="b", pid=1, started="1")
MATRIX = {"lr": [0.1, 0.01, 0.001]}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def submit(
    world: World, name: str = "job", /, *overrides: str, again: bool = False, **fields: Any
) -> Submission:
    folder = world.folder / name
    folder.mkdir(exist_ok=True)
    (folder / "train.py").write_text("print('scripted')\n")
    (folder / "job.yaml").write_text(json.dumps({"entrypoint": "train.py", **fields}))
    params = dict(map(parse_override, overrides))
    return world.client.submit(local_job(folder), params=params, again=again)


def drop(world: World, name: str, text: str, **files: str) -> None:
    """Put a job into the root as a person does, file by file."""
    for path, content in {"train.py": "print('scripted')\n", **files, "job.yaml": text}.items():
        world.store.create(f"{JOBS}/{name}/{path}", content.encode())


def test_every_point_is_the_run_that_an_override_makes(world: World) -> None:
    submitted = submit(world, matrix=MATRIX, params={"lr": 1, "epochs": 2})
    assert submitted.is_new
    assert [dict(run.params) for run in submitted.runs] == [{"lr": 0.1}, {"lr": 0.01}, {"lr": 0.001}]
    assert submitted.sweep is not None
    one = submit(world, "job", "lr=0.01", params={"lr": 1, "epochs": 2})
    assert (one.run_id, one.is_new, one.sweep) == (submitted.runs[1].run_id, False, None)


def test_the_same_matrix_again_makes_nothing_and_a_longer_one_the_rest(world: World) -> None:
    first = submit(world, matrix=MATRIX)
    files = len(world.store.list("ledger"))
    assert [run.is_new for run in submit(world, matrix=MATRIX).runs] == [False] * 3
    assert len(world.store.list("ledger")) == files
    longer = submit(world, matrix={"lr": [*MATRIX["lr"], 1.0]})
    assert [run.is_new for run in longer.runs] == [False, False, False, True]
    assert longer.sweep != first.sweep
    again = submit(world, matrix=MATRIX, again=True)
    assert again.is_new
    assert again.sweep not in (first.sweep, longer.sweep)


def test_a_param_of_the_matrix_is_not_overridden_but_others_are(world: World) -> None:
    with pytest.raises(SpecError, match="lr is set by the job's matrix"):
        submit(world, "job", "lr=5", matrix=MATRIX)
    submitted = submit(world, "job", "epochs=7", matrix=MATRIX)
    evidence = world.client.run(submitted.run_id)
    assert evidence.state is RunState.QUEUED


def test_a_matrix_that_was_dropped_into_the_root_runs_to_its_end(world: World) -> None:
    drop(world, "job", "entrypoint: train.py\nmatrix: {lr: [0.1, 0.01]}\n")
    worked = world.work()
    assert len(worked.outcomes) == 2
    assert {run.state for run in world.client.runs()} == {RunState.SUCCEEDED}
    assert world.work().outcomes == {}


def test_a_sweep_of_which_a_worker_made_only_a_part_is_completed(world: World) -> None:
    text = "entrypoint: train.py\nmatrix: {lr: [0.1, 0.01, 0.001]}\n"
    drop(world, "job", text)
    submitted = world.client.submit(world.client.load_job("job"))
    for name in [info.path for info in world.store.list("ledger") if submitted.runs[2].run_id in info.path]:
        world.store.delete(name)
    assert len(world.work().outcomes) == 3


def test_no_more_of_a_sweep_are_at_work_than_max_parallel_says(world: World) -> None:
    submitted = submit(world, matrix={**MATRIX, "max_parallel": 1})
    other = world.job("other", priority=-1)
    first, second = world.worker(), world.worker()
    claimed = first._look(Worked())[0].run_id  # what it would take up now
    assert claimed == submitted.runs[0].run_id
    evidence = first._ledger.runs[claimed]
    assert claim_run(world.store, claimed, evidence, "elsewhere", ELSEWHERE, world.clock) is not None
    worked = Worked()
    assert second._look(worked)[0].run_id == other
    waiting = {world.client.run(run.run_id).waiting_for for run in submitted.runs[1:]}
    assert waiting == {WaitingFor.SWEEP}
    assert "has 1 at work, and max_parallel is 1" in worked.left[submitted.runs[1].run_id]
    assert "max_parallel is 1" in world.client.run(submitted.runs[1].run_id).reason


def test_a_person_puts_one_run_before_others_until_it_is_over(world: World) -> None:
    first, second = world.job("first"), world.job("second")
    world.client.prioritize(second, 5)
    assert world.client.run(second).priority == 5
    assert list(world.work().outcomes) == [second, first]
    with pytest.raises(UsageError, match="it is over"):
        world.client.prioritize(second, 9)


def test_runs_are_compared_by_sweep_by_job_and_one_by_one(world: World) -> None:
    first = submit(world, matrix=MATRIX)
    longer = submit(world, matrix={"lr": [*MATRIX["lr"], 1.0]})
    other = world.job("other", params={"x": 1})
    world.work()

    def compared(*of: str) -> list[str]:
        return [run.run_id for run in world.client.compare(of).runs]

    ids = [run.run_id for run in longer.runs]
    assert first.sweep is not None
    assert longer.sweep is not None
    assert compared(first.sweep) == ids[:3]
    assert compared(longer.sweep) == compared() == compared("job") == compared("jobs/job/") == ids
    assert compared(ids[0], "other", other[:-3]) == [ids[0], other]
    found = world.client.compare([first.sweep])
    assert found.params == ("lr",)
    assert [run.settings["lr"] for run in found.runs] == MATRIX["lr"]
    assert (found.ranking.metric, found.ranking.is_max) == ("evaluate.accuracy", True)
    with pytest.raises(RunNotFound, match="Did you mean other"):
        compared("oter")


def test_a_name_of_two_jobs_is_not_compared(world: World) -> None:
    one = submit(world, "one", name="x")
    world.store.delete(f"{JOBS}/one/job.yaml")
    two = submit(world, "two", name="x", params={"a": 1})
    with pytest.raises(UsageError, match="x is the name of runs of jobs/one and jobs/two"):
        world.client.compare(["x"])
    assert [run.run_id for run in world.client.compare(["one"]).runs] == [one.run_id]
    assert len(world.client.compare([one.run_id, two.run_id]).runs) == 2


def test_a_second_job_of_a_name_is_refused_and_one_of_a_name_that_runs_have_is_told_so(world: World) -> None:
    submit(world, "one", name="x")
    for folder in ("two", "x"):
        with pytest.raises(SpecError, match=rf"{folder}/job\.yaml is called x, and so is jobs/one/job\.yaml"):
            submit(world, folder, name="x")
    submit(world, "four")
    with pytest.raises(SpecError, match=r"two/job\.yaml is called four, and so is jobs/four/job\.yaml"):
        submit(world, "two", name="four")
    assert {info.path.split("/")[1] for info in world.store.list(JOBS, recursive=True)} == {"one", "four"}
    world.store.delete(f"{JOBS}/one/job.yaml")
    submit(world, "two", name="x", params={"a": 1})
    submit(world, "three")
    client = world.client
    client.runs()
    [warning] = client.job_warnings(local_job(world.folder / "two"))
    assert "runs of jobs/one are called x as well" in warning
    assert client.job_warnings(local_job(world.folder / "three")) == []


def test_of_two_workers_that_find_a_matrix_one_goes_on_behind_the_other(world: World) -> None:
    drop(world, "job", f"entrypoint: train.py\nmatrix: {{lr: {list(range(80))}}}\n")
    job = job_on_root(world.store, "job")

    def submit_as(name: str, ledger: Ledger) -> None:
        submit_job(world.store, ledger, job, overrides={}, again=False, clock=world.clock, by=name)

    class Overtaken(Ledger):
        """Before its second look, another worker has submitted all there is."""

        looks = 0

        def refresh(self) -> None:
            self.looks += 1
            if self.looks == 2:
                submit_as("other", Ledger(world.store))
            super().refresh()

    ledger = Overtaken(world.store)
    ledger.refresh()
    submit_as("one", ledger)
    assert len(world.client.runs()) == 80
    wishes = [json.loads(world.store.read(info.path)) for info in world.store.list("ledger")]
    assert Counter(wish["by"] for wish in wishes)["one"] == LOOK_AGAIN_AT - 1
