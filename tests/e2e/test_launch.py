"""`driverun launch` against the fake `colab`: real workers on VMs that vanish, beneath a command that lies."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from driverun.assembly import Surroundings, make_root
from driverun.clock import SystemClock
from driverun.execution.client import Client
from driverun.execution.context import StopSignal
from driverun.launchers.boot import LOGIN_NAME, login_place
from driverun.launchers.colab_cli_launch import End, Launch, Launched, LaunchOptions, Patience
from driverun.launchers.colab_cli_process import ProgramCommands
from driverun.launchers.tick import Result, Ticked, tick_by_launch
from driverun.report.summary import RunSummary
from driverun.runs.state import RunState
from driverun.testing.colab_cli import Cloud, CloudPlan, MachinePlan, Sight
from driverun.testing.drive_emulator import DriveEmulator
from tests.e2e.drives import small_script
from tests.e2e.runtimes import clean_environment

ROOT = "gdrive:experiments"
SECRET = "1//a-secret-that-opens-a-drive"
PATIENCE_S = 120.0


@dataclass
class World:
    """A person's machine, their Drive, and their Colab account."""

    folder: Path
    emulator: DriveEmulator
    cloud: Cloud
    here: Surroundings
    client: Client
    said: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)

    def submit(self, *, again: bool = False) -> str:
        return self.client.submit(self.client.load_job(str(self.folder / "job")), again=again).run_id

    def launch(self, *gpus: str, patience: Patience | None = None) -> Launched:
        return self.launcher(*gpus, patience=patience).run()

    def launcher(self, *gpus: str, patience: Patience | None = None) -> Launch:
        names = count(1)
        return Launch(
            ROOT,
            LaunchOptions(gpus=gpus or ("T4",), max_runtime_s=3600.0),
            self.here,
            commands=ProgramCommands(
                self.cloud.executable(), environment=self.here.environment, clock=self.here.clock
            ),
            new_name=lambda: f"vm-{next(names)}",
            stop=StopSignal(),
            say=self.said.append,
            show=self.shown.append,
            patience=patience or Patience(look_s=0.3, quiet_s=40.0, refused_s=0.1, stop_pause_s=0.1),
        )

    def run(self, run_id: str) -> RunSummary:
        return self.client.run(run_id)

    def account(self) -> str:
        """All that happened, for a test that fails."""
        logs = "\n".join(log.read_text(errors="replace")[-3000:] for log in self.cloud.logs.glob("*.log"))
        journal = [{**each, "code": ""} for each in self.cloud.journal()]
        return "\n".join([*self.said, *map(str, journal), logs])

    def check_no_vm_is_left(self) -> None:
        assert self.cloud.machines() == [], self.account()
        assert all(each["running"] == 1 for each in self.cloud.events("made")), "two at a time"

    def check_no_secret_got_out(self) -> None:
        """The login went as a file, and neither in what `colab` keeps nor in what it shows."""
        assert any(each["name"] == LOGIN_NAME for each in self.cloud.events("uploaded"))
        for each in self.cloud.events("called"):
            assert SECRET not in json.dumps(each)
            assert "--env" not in each["argv"]
        assert SECRET not in "\n".join((*self.said, *self.shown))


WorldOf = Callable[[CloudPlan], World]


@pytest.fixture
def world_of(tmp_path: Path) -> Iterator[WorldOf]:
    clouds: list[Cloud] = []

    def make(plan: CloudPlan) -> World:
        cloud = Cloud(tmp_path / "cloud", plan)
        clouds.append(cloud)
        environment = clean_environment(
            **cloud.environment,
            HOME=str(tmp_path / "home"),
            XDG_CONFIG_HOME=str(tmp_path / "home" / "config"),
            DRIVERUN_DRIVE_ENDPOINT=emulator.url,
            DRIVERUN_LISTING_LAG="0s",
            DRIVERUN_HEARTBEAT="1s",
            DRIVERUN_LEASE="6s",
            DRIVERUN_QUIET="0s",
            DRIVERUN_WORKDIR=str(tmp_path / "workdir"),
        )
        here = Surroundings(
            environment=environment, cwd=tmp_path, home=tmp_path / "home", clock=SystemClock()
        )
        login = login_place(environment, here.home)
        login.parent.mkdir(parents=True)
        login.write_text(json.dumps({"type": "authorized_user", "refresh_token": SECRET}))
        job = tmp_path / "job"
        job.mkdir()
        (job / "train.py").write_text(small_script(60))
        (job / "job.yaml").write_text("entrypoint: train.py\ncheckpoint: {every: 20 steps}\n")
        store, _ = make_root(ROOT, here)
        client = Client(store, clock=here.clock, by="tester@here")
        return World(folder=tmp_path, emulator=emulator, cloud=cloud, here=here, client=client)

    with DriveEmulator(tmp_path / "drive") as emulator:
        yield make
        for cloud in clouds:
            cloud.destroy_all()


def test_a_queue_is_done_on_one_vm_with_the_very_driverun_that_launched_it(world_of: WorldOf) -> None:
    world = world_of(CloudPlan())
    run_id = world.submit()
    launched = world.launch()
    assert launched == Launched(end=End.DONE, vms=1), world.account()
    assert world.run(run_id).state is RunState.SUCCEEDED
    world.check_no_vm_is_left()
    world.check_no_secret_got_out()
    (unassigned,) = world.cloud.events("unassigned")
    assert "/vms/gpu-t4-0/content/" in unassigned["driverun"], "it is not the wheel's that worked"
    assert not list((world.folder / "workdir" / "colab").iterdir()), "notes of VMs that are gone"


def test_a_queue_survives_refusals_a_lost_vm_and_exit_codes_that_lie(world_of: WorldOf) -> None:
    plan = CloudPlan(
        refusals={"T4": 2, "L4": 1},
        machines=(
            MachinePlan(power_cut_after=2),
            MachinePlan(kernel_dies_after=2),  # `exec` ends with 0, and the VM stays
            MachinePlan(sight=Sight.LOSES, sight_until=1),  # with 1, and the VM works on
        ),
    )
    world = world_of(plan)
    cut_id, whole_id = world.submit(), world.submit(again=True)
    launched = world.launch("T4", "L4")

    assert launched == Launched(end=End.DONE, vms=3), world.account()
    asked = [each["argv"][-1] for each in world.cloud.events("called") if each["command"] == "new"]
    assert asked[:4] == ["T4", "L4", "T4", "L4"]
    assert [each["why"] for each in world.cloud.events("gone")] == [
        "power cut",
        "stopped",
        "it gave itself back",
    ]
    cut, whole = world.run(cut_id), world.run(whole_id)
    assert [cut.state, whole.state] == [RunState.SUCCEEDED] * 2
    assert [len(cut.attempts), len(whole.attempts)] == [3, 1]
    assert cut.state_sha256 == whole.state_sha256 is not None
    world.check_no_vm_is_left()
    world.check_no_secret_got_out()


def test_a_client_that_hangs_is_not_waited_for_whether_its_vm_died_or_works_on(world_of: WorldOf) -> None:
    plan = CloudPlan(
        machines=(
            MachinePlan(power_cut_after=2, sight=Sight.HANGS, sight_until=1),
            MachinePlan(sight=Sight.HANGS, sight_until=1),
        )
    )
    world = world_of(plan)
    run_id = world.submit()
    assert world.launch() == Launched(end=End.DONE, vms=2), world.account()
    run = world.run(run_id)
    assert run.state is RunState.SUCCEEDED
    assert len(run.attempts) == 2, "a second VM was started although the first one's worker was alive"
    world.check_no_vm_is_left()


def test_a_sign_in_that_expires_while_a_vm_works_costs_neither_the_run_nor_a_vm(world_of: WorldOf) -> None:
    world = world_of(CloudPlan(signed_out_from=("stop", 1)))
    run_id = world.submit()
    launched = world.launch()
    assert launched == Launched(end=End.DONE, vms=1), world.account()
    assert world.run(run_id).state is RunState.SUCCEEDED
    assert any("to be sure: colab sessions" in line for line in world.said)
    world.check_no_vm_is_left()


def test_a_sign_in_that_expires_between_two_vms_leaves_the_run_for_another_time(world_of: WorldOf) -> None:
    world = world_of(CloudPlan(machines=(MachinePlan(power_cut_after=1),), signed_out_from=("new", 2)))
    run_id = world.submit()
    launched = world.launch()
    assert (launched.end, launched.vms, list(launched.left)) == (End.SIGNED_OUT, 1, [run_id]), world.account()
    assert world.run(run_id).committed_step
    world.check_no_vm_is_left()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 3)])
def test_whoever_stops_the_command_gets_the_vm_back(
    world_of: WorldOf, number: signal.Signals, code: int
) -> None:
    world = world_of(CloudPlan())
    run_id = world.submit()
    command = [sys.executable, "-m", "driverun", "--root", ROOT, "launch", "--gpu", "t4", "--colab"]
    with subprocess.Popen(
        [*command, str(world.cloud.executable())],
        env=dict(world.here.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            end_s = world.here.clock.monotonic() + PATIENCE_S
            while not any(world.cloud.checkpoints(each) for each in world.cloud.machines()):
                assert world.here.clock.monotonic() < end_s, world.account()
                world.here.clock.sleep(0.05)
            process.send_signal(number)
            said, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == code, said
    assert "giving the VM back" in said
    assert [each["why"] for each in world.cloud.events("gone")] == ["stopped"]
    world.check_no_vm_is_left()
    assert world.run(run_id).committed_step, "what was committed is there for the next time"


def test_a_tick_starts_a_vm_for_what_nobody_is_at_and_none_for_nothing(world_of: WorldOf) -> None:
    """Nobody is present: one pass after the other, as cron would start them, with a VM that is lost in between."""
    world = world_of(CloudPlan(machines=(MachinePlan(power_cut_after=2),)))
    run_id = world.submit()

    def tick() -> Ticked:
        return tick_by_launch(ROOT, world.here, world.launcher, say=world.said.append)

    ticked = tick()
    assert ticked == Ticked(
        result=Result.DONE, text="nothing is left that a runtime with a GPU could do (2 VMs)"
    ), world.account()
    run = world.run(run_id)
    assert (run.state, len(run.attempts)) == (RunState.SUCCEEDED, 2)
    assert tick() == Ticked(result=Result.DONE, text="no VM is started: nothing is due", is_idle=True)
    assert len(world.cloud.events("made")) == 2
    world.check_no_vm_is_left()
