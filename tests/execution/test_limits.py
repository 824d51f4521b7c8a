"""What ends a run that works too long or falls silent, and how a run that erred is tried again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from driverun.cli.render import run_text
from driverun.execution.context import Stop
from driverun.execution.jobs import local_job
from driverun.execution.limits import Limits, LimitWatch
from driverun.execution.trainer import Trainer
from driverun.execution.worker import Mode
from driverun.runs.record import AttemptState
from driverun.runs.state import NO_PROGRESS_LIMIT, RunState, WaitingFor
from driverun.spool.folder import SpoolFolder
from tests.execution.watching import once_at, watched
from tests.execution.world import Plan, ScriptedTrainer, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


class Stuck(ScriptedTrainer):
    """Makes steps up to `plan.steps - 1`, then hangs: no step, no line, no answer."""

    shown: list[int]

    def _turn(self) -> Any:
        if self._step >= self._plan.steps - 1:
            return None
        return super()._turn()

    def show_stacks(self) -> None:
        self.shown.append(self._step)


def test_a_run_that_works_longer_than_it_may_is_failed_with_its_state_kept(world: World) -> None:
    world.plan = Plan(steps=100, steps_per_poll=1)
    run_id = world.job(timeout="5s", retry={"max_errors": 3})
    world.work()
    run = world.client.run(run_id)
    assert run.state is RunState.FAILED, "no error to be forgiven: not tried again"
    assert run.failure is not None
    assert run.failure.kind == "Timeout"
    assert len(run.attempts) == 1
    assert run.committed_step == run.step > 0, "it handed over"
    assert run.step < 100
    assert f"driverun retry {run_id}" in run.reason


def test_a_resume_does_not_reset_the_time_and_a_retry_does(world: World) -> None:
    world.plan = Plan(steps=100, steps_per_poll=1)
    run_id = world.job(timeout="6s")

    def stop() -> None:
        world.stop.ask(Stop.DEADLINE)

    world.worker(start=watched(world, once_at(30, stop))).work(Mode.UNTIL_EMPTY)
    world.stop = type(world.stop)()
    assert world.client.run(run_id).state is RunState.INTERRUPTED
    world.work()
    run = world.client.run(run_id)
    assert run.state is RunState.FAILED
    assert 30 < run.step < 75, "six seconds at ten steps each, in two attempts"
    world.client.retry(run_id)
    world.work()
    again = world.client.run(run_id)
    assert again.attempts[-1].first_step == run.step
    assert again.step >= min(100, run.step + 30)


def test_a_job_that_falls_silent_is_stopped_with_the_stacks_of_its_threads(world: World) -> None:
    Stuck.shown = []
    world.plan = Plan(steps=12, steps_per_poll=1, deaf=True)

    def start(spool: SpoolFolder, *, work: Path, **_: Any) -> Trainer:
        return Stuck(world.plan, spool, work, world.executed)

    run_id = world.job(stop_when_idle="10m")
    began_s = world.clock.monotonic()
    world.worker(start=start).work(Mode.UNTIL_EMPTY)
    run = world.client.run(run_id)
    assert run.state is RunState.FAILED
    assert run.failure is not None
    assert run.failure.kind == "Idle"
    assert Stuck.shown == [11], "once, before it was killed"
    assert 600 <= world.clock.monotonic() - began_s < 700
    assert run.committed_step == 9


def test_a_line_now_and_then_is_a_sign_of_life(world: World) -> None:
    lines: list[Callable[[str], None]] = []

    class Talkative(ScriptedTrainer):
        polls = 0

        def poll(self) -> Any:
            Talkative.polls += 1
            if Talkative.polls % 50 == 0:
                lines[0]("still evaluating")
            return super().poll() if Talkative.polls > 1000 else None

    def start(spool: SpoolFolder, *, work: Path, on_line: Callable[[str], None], **_: Any) -> Trainer:
        lines.append(on_line)
        return Talkative(world.plan, spool, work, world.executed)

    run_id = world.job(stop_when_idle="10s")
    world.worker(start=start).work(Mode.UNTIL_EMPTY)
    assert world.client.run(run_id).state is RunState.SUCCEEDED


def test_the_silence_of_a_worker_that_stood_still_itself_is_not_the_job_s() -> None:
    watch = LimitWatch(Limits(stop_when_idle_s=600.0), run_id="one", began_s=0.0, worked_before_s=0.0)
    watch.process_started(0.0)
    looks = [watch.fell_idle(float(now_s)) for now_s in (*range(300), *range(9000, 9290))]
    assert looks == [None] * len(looks), "Ctrl-Z at 300 s, for hours"
    later = [watch.fell_idle(float(now_s)) for now_s in range(9290, 9310)]
    assert later[-1] is not None, "what it was silent before and after is its own"


def test_the_attempt_at_work_honours_the_newest_submission(world: World) -> None:
    world.plan = Plan(steps=1000, steps_per_poll=1)
    run_id = world.job()

    def submit() -> None:
        folder = world.folder / "job"
        (folder / "job.yaml").write_text('{"entrypoint": "train.py", "timeout": "20s"}')
        assert world.client.submit(local_job(folder)).run_id == run_id

    world.worker(start=watched(world, once_at(20, submit))).work(Mode.UNTIL_EMPTY)
    run = world.client.run(run_id)
    assert run.failure is not None
    assert run.failure.kind == "Timeout"
    assert run.step < 400


def test_a_run_rests_after_an_error_and_the_worker_waits_for_it(world: World) -> None:
    world.plan = Plan(fails_at=7)
    run_id = world.job(retry={"max_errors": 2, "backoff": "5m"})
    began_s = world.clock.monotonic()
    world.work(mode=Mode.ONCE)
    resting = world.client.run(run_id)
    assert (resting.state, resting.waiting_for) == (RunState.INTERRUPTED, WaitingFor.BACKOFF)
    assert resting.reason.startswith("in 5m: ")
    assert "scripted" in resting.reason
    other = world.job("other", seed=1)
    world.plan = Plan()
    worked = world.work()
    assert list(worked.outcomes) == [other, run_id], "the queue goes on meanwhile"
    assert world.client.run(run_id).state is RunState.SUCCEEDED
    assert 300 <= world.clock.monotonic() - began_s < 360


def test_a_retry_says_what_it_goes_on_from(world: World) -> None:
    world.plan = Plan(fails_at=7)
    run_id = world.job()
    world.work()
    world.client.retry(run_id)
    assert world.client.takes_up(run_id).endswith("goes on at step 6, from the checkpoint of attempt 1")
    world.work()
    world.client.retry(run_id, fresh=True)
    assert "starts over at step 0: a fresh start was asked for" in world.client.takes_up(run_id)
    world.plan = Plan()
    world.work()
    run = world.client.run(run_id)
    assert run.state is RunState.SUCCEEDED
    assert [attempt.first_step for attempt in run.attempts] == [0, 6, 0]
    assert [attempt.state for attempt in run.attempts][:2] == [AttemptState.FAILED] * 2


class Death(BaseException):
    """The runtime is gone."""


def test_a_poisoned_run_is_set_aside_with_its_evidence(world: World) -> None:
    """It failed once, was retried, and since then brings down every runtime; the error of old is not the reason."""
    world.plan = Plan(fails_at=4, prints=b"about to allocate\n")
    run_id = world.job()
    world.work()
    world.client.retry(run_id)

    def die() -> None:
        raise Death

    world.plan = Plan()
    for _ in range(NO_PROGRESS_LIMIT):
        with pytest.raises(Death):
            world.worker(start=watched(world, once_at(3, die))).work(Mode.UNTIL_EMPTY)
        world.power_cut()
    good = world.job("good", seed=1)
    worked = world.work()
    assert list(worked.outcomes) == [good], "the queue goes on"
    run = world.client.run(run_id)
    assert run.state is RunState.FAILED
    assert "none committed a step beyond 3: the job may bring its runtime down" in run.reason
    assert [attempt.died for attempt in run.attempts] == [False, *[True] * NO_PROGRESS_LIMIT]
    assert run.failure is None, "of the attempt before the retry"
    page = world.client.report(run_id)
    for text in (run_text(run, now=world.store.now()), page):
        assert "the job may bring its runtime down" in text
    assert "about to allocate" in page
    world.client.retry(run_id)
    world.work()
    assert world.client.run(run_id).state is RunState.SUCCEEDED
