"""`driverun launch` against the fake `colab`: real workers on VMs that vanish, beneath a command that lies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
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
from driverun.report.summary import RunSummary
from driverun.runs.state import RunState
from driverun.testing.colab_cli import Cloud, CloudPlan, MachinePlan, Sight
from driverun.testing.drive_emulator import DriveEmulator
from tests.e2e.runtimes import clean_environment

ROOT = "gdrive:experiments"
SECRET = "1//a-secret-that-opens-a-drive"
PATIENCE_S = 120.0
SCRIPT = """
import keras
import numpy as np

generator = np.random.default_rng(5)
x = generator.random((640, 16), dtype=np.float32)
y = (x.sum(axis=1) > 8).astype("int64")
model = keras.Sequential([keras.Input((16,)), keras.layers.Dropout(0.2), keras.layers.Dense(2, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x, y, epochs=8, batch_size=16, verbose=0)
"""


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

    def submit(self) -> str:
        return self.client.submit(self.client.load_job(str(self.folder / "job"))).run_id

    def launch(self, *gpus: str, patience: Patience | None = None) -> Launched:
        names = count(1)
        launch = Launch(
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
            patience=patience or Patience(look_s=0.3, quiet_s=40.0, refused_s=0.1),
        )
        return launch.run()

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


@pytest.fixture
def world_of(tmp_path: Path) -> Iterator[object]:
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
        (job / "train.py").write_text(SCRIPT)
        (job / "job.yaml").write_text("entrypoint: train.py\ncheckpoint: {every: 20 steps}\n")
        store, _ = make_root(ROOT, here)
        client = Client(store, clock=here.clock, by="tester@here")
        return World(folder=tmp_path, emulator=emulator, cloud=cloud, here=here, client=client)

    with DriveEmulator(tmp_path / "drive") as emulator:
        yield make
        for cloud in clouds:
            cloud.destroy_all()


def test_a_good_day(world_of) -> None:
    world = world_of(CloudPlan())
    run_id = world.submit()
    launched = world.launch()
    assert launched == Launched(end=End.DONE, vms=1), world.account()
    assert world.run(run_id).state is RunState.SUCCEEDED
    world.check_no_vm_is_left()
    world.check_no_secret_got_out()
