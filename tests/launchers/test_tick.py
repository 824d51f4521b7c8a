"""When a pass starts a VM, and what it makes of how things went."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from driverun.cli.main import EXIT_UNREACHABLE, EXIT_USAGE, main
from driverun.errors import TransientStoreError
from driverun.execution.context import Stop
from driverun.execution.jobs import local_job
from driverun.execution.worker import Mode
from driverun.launchers.colab_cli_queue import QueueLook, RootQueue
from driverun.launchers.tick import Result, no_launch, told
from driverun.runs.layout import AttemptKey
from tests.execution.world import Plan, World

ALIVE = frozenset({AttemptKey(run_id="a-0123456789ab", number=1, worker="w1")})


@pytest.mark.parametrize(
    ("look", "why_not"),
    [
        (QueueLook(), "nothing is due"),
        (QueueLook(claimable=("b-0123456789ab",)), None),
        (QueueLook(left={"a": "a worker is at it"}, alive=ALIVE), "a: a worker is at it"),
        (
            QueueLook(claimable=("b-0123456789ab",), alive=ALIVE),
            "a worker is at a-0123456789ab, and 1 run can wait for it",
        ),
        (QueueLook(left={"b": "waits for data"}), "b: waits for data"),
    ],
)
def test_a_vm_is_started_for_what_nobody_is_at(look: QueueLook, why_not: str | None) -> None:
    assert no_launch(look) == why_not


def test_what_was_stopped_with_work_left_says_so(tmp_path: Path) -> None:
    world = World(tmp_path, plan=Plan(steps=400, steps_per_poll=1))
    run_id = world.job()
    worker = world.worker(deadline_s=world.clock.monotonic() + 30.0)
    ticked = told(worker, worker.work(Mode.UNTIL_EMPTY))
    assert ticked.result is Result.LEFT
    assert ticked.text.startswith(f"{run_id} INTERRUPTED (attempt 1): this runtime's time is up; 1 run left")
    assert not ticked.is_idle
    world.stop.stop = None
    world.plan = Plan(steps=400, steps_per_poll=100)
    worker = world.worker()
    ticked = told(worker, worker.work(Mode.UNTIL_EMPTY))
    assert ticked.result is Result.DONE
    assert "SUCCEEDED (attempt 2, from step " in ticked.text
    worker = world.worker()
    assert told(worker, worker.work(Mode.UNTIL_EMPTY)).is_idle


def test_a_person_who_stops_it_gets_the_code_for_that(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.job()
    world.stop.ask(Stop.USER)
    worker = world.worker()
    assert told(worker, worker.work(Mode.UNTIL_EMPTY)).result is Result.STOPPED


def test_a_dead_worker_is_waited_for_if_it_will_soon_be_known_and_else_left_to_the_next_pass(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, plan=Plan(steps=400, steps_per_poll=1))
    run_id = world.job()

    def dies(seconds: float) -> None:
        world.clock.advance(seconds=seconds)
        if len(world.executed) >= 5:
            raise SystemExit("power cut")

    sleep, world.clock.sleep = world.clock.sleep, dies  # type: ignore[method-assign]
    with pytest.raises(SystemExit):
        world.work()
    world.clock.sleep = sleep  # type: ignore[method-assign]
    world.plan = Plan(steps=400, steps_per_poll=100)
    began_s = world.clock.monotonic()
    first = told(worker := world.worker(patience_s=22.0), worker.work(Mode.UNTIL_EMPTY))
    assert first.text == f"1 run left ({run_id}: another worker is at it)"
    assert world.clock.monotonic() - began_s < 22.0
    world.clock.advance(seconds=60.0)
    second = told(worker := world.worker(patience_s=22.0), worker.work(Mode.UNTIL_EMPTY))
    assert "SUCCEEDED (attempt 2" in second.text


def test_a_root_out_of_reach_and_bad_usage_have_codes_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {
        "HOME": str(tmp_path),
        "DRIVERUN_ROOT": str(tmp_path),
        "DRIVERUN_WORKDIR": str(tmp_path / "w"),
    }

    def call(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["tick", *arguments], env=environment)
        return done.exit_code, done.output

    assert call("--max-runtime", "soon")[0] == EXIT_USAGE
    assert call("--launch", "--job", "a")[0] == EXIT_USAGE
    code, said = call()
    assert code == EXIT_USAGE
    assert "is no driverun root. Make it one" in said

    def unreachable(*_: object, **__: object) -> None:
        raise TransientStoreError("cannot list ledger: no route to host")

    monkeypatch.setattr("driverun.launchers.tick.open_worker", unreachable)
    code, said = call()
    assert code == EXIT_UNREACHABLE
    assert "tick: the root is out of reach: cannot list ledger: no route to host" in said


def test_what_is_due_calls_for_a_vm(tmp_path: Path) -> None:
    world = World(tmp_path)
    folder = tmp_path / "nightly"
    folder.mkdir()
    (folder / "train.py").write_text("print(1)")
    (folder / "job.yaml").write_text('{"entrypoint": "train.py", "schedule": {"cron": "0 3 * * *"}}')
    world.client.schedule(local_job(folder))
    queue = RootQueue(world.client, clock=world.clock, quiet_s=5.0, by="cron@here")
    assert queue.settle() == {}
    assert no_launch(queue.look()) == "nothing is due"
    world.clock.advance(seconds=3 * 3600.0)
    assert queue.settle() == {}
    look = queue.look()
    assert len(look.claimable) == 1
    assert no_launch(look) is None
