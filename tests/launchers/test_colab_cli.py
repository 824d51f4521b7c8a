"""What a launch refuses, what it makes of `colab`'s words, and what it leaves behind, without a VM."""

from __future__ import annotations

import json
import os
import re
import select
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from driverun.assembly import Surroundings, make_root
from driverun.cli.main import main
from driverun.errors import DriverunError, StoreAccessDenied, UsageError
from driverun.execution.client import Client
from driverun.execution.context import Stop, StopSignal
from driverun.launchers import boot
from driverun.launchers.colab_cli import GPUS, NEW_S, ColabCommand, Reply, Session
from driverun.launchers.colab_cli_launch import (
    End,
    Launch,
    Launched,
    LaunchOptions,
    Sight,
    Step,
    check_gpus,
    find_colab,
    find_login_file,
    next_step,
)
from driverun.launchers.colab_cli_process import Answer, Call, ProgramCommands
from driverun.storage.drive.login import login_file
from driverun.testing.clock import FakeClock
from driverun.testing.colab_cli import kernel
from driverun.testing.colab_cli.command import GRAMMAR
from driverun.testing.drive_emulator import DriveEmulator, Fault

ROOT = "gdrive:experiments"
GONE_S = 30.0  #: real seconds in which the kernel has ended what was killed
READY = "[colab] Session READY.\n"
REFUSED = "[colab] Allocation refused (precondition failed). This can mean too many active sessions.\n"
NOT_ENTITLED = "[colab] Backend rejected accelerator 'H100'. You may not have quota or entitlement\n"
NOBODY = "[colab] No active sessions found on server.\n"
SIGN_IN = (
    "\nTo authorize colab-cli, visit this URL in any browser:\n\n  https://accounts.google.com/o/oauth2/auth\n\n"
    "After approving, Google will display an authorization code.\nEnter the authorization code: \nAborted.\n"
)


@dataclass
class ScriptedCall:
    """`colab exec` that says what it was told to say, and ends."""

    text: str = ""
    is_over: bool = True
    ended: bool = False

    def news(self) -> str:
        text, self.text = self.text, ""
        return text

    def end(self) -> None:
        self.is_over = self.ended = True


@dataclass
class Scripted:
    """A `colab` whose VMs are names in a set."""

    clock: FakeClock
    usage: str = "Current balance: 50.00 compute units\nUsage rate: 2.00/hr\nActive assignments: 1\n"
    answers: dict[str, str] = field(default_factory=dict)  #: what `new --gpu X` says, without effect
    hardware: dict[str, str] = field(default_factory=dict)  #: what comes for a GPU, where it is another
    sessions: str | None = None  #: what that says in place of the truth
    is_stop_deaf: bool = False
    is_upload_broken: bool = False
    says: str = ""  #: what `exec` prints
    vms: dict[str, str] = field(default_factory=dict)  #: hardware by name
    calls: list[tuple[str, ...]] = field(default_factory=list)
    executed: list[ScriptedCall] = field(default_factory=list)
    on_new: Callable[[], None] = lambda: None
    most: int = 0

    def run(self, arguments: Sequence[str], *, timeout_s: float) -> Answer:
        assert timeout_s > 0
        _, notes, command, *rest = arguments
        self.calls.append((command, *rest))
        match command:
            case "usage":
                return Answer(text=self.usage, code=0)
            case "new":
                return self._new(rest[1], rest[3], Path(notes))
            case "sessions":
                lines = [
                    f"[{name}] gpu-{name} | Hardware: {what} | Shape: Standard | Variant: GPU\n"
                    for name, what in self.vms.items()
                ]
                return Answer(text=self.sessions or "".join(lines) or NOBODY, code=0)
            case "upload":
                text = (
                    "[colab] Upload failed: 500\n"
                    if self.is_upload_broken
                    else "[colab] Uploaded 'a' to 'b'\n"
                )
                return Answer(text=text, code=1)
            case "stop":
                if not self.is_stop_deaf:
                    self.vms.pop(rest[1], None)
                return Answer(text="[colab] Stopping session\n", code=1)
            case _:
                raise AssertionError(command)

    def _new(self, name: str, gpu: str, notes: Path) -> Answer:
        self.on_new()
        if gpu in self.answers:
            return Answer(text=self.answers[gpu], code=1)
        self.vms[name] = self.hardware.get(gpu, gpu)
        self.most = max(self.most, len(self.vms))
        notes.write_text("notes")
        return Answer(text=READY, code=0)

    def start(self, arguments: Sequence[str]) -> Call:
        self.calls.append(tuple(arguments[2:]))
        self.executed.append(ScriptedCall(self.says))
        return self.executed[-1]

    def named(self, command: str) -> list[tuple[str, ...]]:
        return [call for call in self.calls if call[0] == command]


@dataclass
class Desk:
    """A person at their machine, with a root on a Drive and a run in its queue."""

    emulator: DriveEmulator
    here: Surroundings
    clock: FakeClock
    colab: Scripted
    client: Client
    stop: StopSignal = field(default_factory=StopSignal)
    said: list[str] = field(default_factory=list)

    def launch(self, *gpus: str, root: str = ROOT, hours: float = 11.0, min_units: float = 1.0) -> Launched:
        names = count(1)
        launch = Launch(
            root,
            LaunchOptions(gpus=gpus or ("T4",), max_runtime_s=3600 * hours, min_units=min_units),
            self.here,
            commands=self.colab,
            new_name=lambda: f"vm-{next(names)}",
            stop=self.stop,
            say=self.said.append,
            show=lambda _: None,
        )
        return launch.run()

    def submit(self, folder: Path, *, accelerator: str = "any") -> str:
        folder.mkdir()
        (folder / "train.py").write_text("print(1)\n")
        (folder / "job.yaml").write_text(f"entrypoint: train.py\naccelerator: {accelerator}\n")
        return self.client.submit(self.client.load_job(str(folder))).run_id


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    clock = FakeClock()
    with DriveEmulator(tmp_path / "drive", clock=clock) as emulator:
        environment = {
            "DRIVERUN_DRIVE_ENDPOINT": emulator.url,
            "DRIVERUN_LISTING_LAG": "0s",
            "DRIVERUN_QUIET": "0s",
            "DRIVERUN_WORKDIR": str(tmp_path / "workdir"),
        }
        here = Surroundings(environment=environment, cwd=tmp_path, home=tmp_path, clock=clock)
        store, _ = make_root(ROOT, here)
        login = boot.login_place(environment, tmp_path)
        login.parent.mkdir(parents=True)
        login.write_text(json.dumps({"type": "authorized_user", "refresh_token": "secret"}))
        client = Client(store, clock=clock, by="tester@here")
        yield Desk(emulator=emulator, here=here, clock=clock, colab=Scripted(clock), client=client)


@pytest.fixture
def queued(desk: Desk, tmp_path: Path) -> Desk:
    desk.submit(tmp_path / "job")
    return desk


def colab_of(desk: Desk, tmp_path: Path) -> ColabCommand:
    return ColabCommand(desk.colab, notes=tmp_path / "notes" / "vm.json", clock=desk.clock)


# Refused before anything is spent.


@pytest.mark.parametrize("names", [["V100"], ["T4", "A10"], ["cpu"], [""], ["T4 L4"]])
def test_what_is_no_gpu_of_colab_is_refused(names: list[str]) -> None:
    with pytest.raises(UsageError, match="A100"):
        check_gpus(names)


def test_gpus_are_taken_in_their_order_and_in_any_case() -> None:
    assert check_gpus([" l4", "t4", "L4"]) == ("L4", "T4")
    assert check_gpus(GPUS) == GPUS


def test_without_colab_it_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="uv tool install google-colab-cli"):
        find_colab(None, {"PATH": str(tmp_path)})
    with pytest.raises(UsageError, match="no /nowhere/colab"):
        find_colab(Path("/nowhere/colab"), {})


def test_a_local_root_is_refused(queued: Desk, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot reach"):
        queued.launch(root=str(tmp_path))
    assert queued.colab.calls == []


def test_without_a_login_that_can_travel_it_is_refused(queued: Desk, tmp_path: Path) -> None:
    place = boot.login_place(queued.here.environment, tmp_path)
    place.unlink()
    with pytest.raises(UsageError, match="driverun login"):
        queued.launch()
    assert queued.colab.calls == []


def test_the_login_is_where_driverun_login_keeps_it(tmp_path: Path) -> None:
    for environment in ({}, {"XDG_CONFIG_HOME": str(tmp_path / "config")}):
        assert boot.login_place(environment, tmp_path) == login_file(environment, home=tmp_path)


def test_a_service_account_goes_by_its_key_and_other_logins_do_not(desk: Desk, tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    environment = {boot.KEY_VARIABLE: str(key)}
    here = Surroundings(environment=environment, cwd=tmp_path, home=tmp_path, clock=desk.clock)
    for kind in ("external_account", "authorized_user"):
        key.write_text(json.dumps({"type": kind}))
        with pytest.raises(UsageError, match="no key of a service account"):
            find_login_file(here)
    key.write_text(json.dumps({"type": "service_account"}))
    assert (find_login_file(here).file, find_login_file(here).is_key) == (key, True)


@pytest.mark.parametrize(
    ("usage", "words"),
    [
        ("Current balance: 0.50 compute units\nUsage rate: 0.00/hr\n", "0.5 compute units are left"),
        (f"{SIGN_IN}[colab] Warning: failed to fetch compute-unit info: EOF", "colab sessions"),
        ("[colab] Warning: failed to fetch compute-unit info: 503", "503"),
        ("", "it said nothing"),
    ],
)
def test_without_compute_units_or_a_sign_in_no_vm_is_asked_for(queued: Desk, usage: str, words: str) -> None:
    queued.colab.usage = usage
    with pytest.raises(UsageError, match=words):
        queued.launch()
    assert queued.colab.named("new") == []


def test_an_empty_queue_asks_for_nothing(desk: Desk) -> None:
    assert desk.launch() == Launched(end=End.DONE, vms=0)
    assert desk.colab.calls == []


def test_what_a_gpu_cannot_do_is_no_reason_to_start_one(desk: Desk, tmp_path: Path) -> None:
    run_id = desk.submit(tmp_path / "job", accelerator="tpu")
    launched = desk.launch()
    assert (launched.end, launched.vms) == (End.DONE, 0)
    assert "TPU" in launched.left[run_id]
    assert desk.colab.calls == []


def test_a_job_that_wants_a_gpu_and_memory_is_work_and_one_that_comes_after_it_is_not(
    desk: Desk, tmp_path: Path
) -> None:
    run_id = desk.submit(tmp_path / "job", accelerator="gpu\nmin_memory: 4GB")
    later = desk.submit(tmp_path / "later", accelerator="gpu\nafter: [job]")
    desk.colab.answers = {"T4": NOT_ENTITLED}
    left = desk.launch().left
    assert desk.colab.named("new"), "a machine was asked for"
    assert left[later] == f"comes after {run_id} (QUEUED)"


def test_a_job_that_only_lies_on_the_root_is_work_too(desk: Desk) -> None:
    desk.client.store.create("jobs/tiny/job.yaml", b"entrypoint: train.py\n")
    desk.client.store.create("jobs/tiny/train.py", b"print(1)\n")
    desk.colab.answers = {"T4": NOT_ENTITLED}
    assert [run.rpartition("-")[0] for run in desk.launch().left] == ["tiny"]


def test_too_short_a_time_is_refused(queued: Desk) -> None:
    with pytest.raises(UsageError, match=r"0\.17 hours at least"):
        queued.launch(hours=0.1)


# GPUs that are not to be had.


def test_refused_gpus_are_asked_for_in_turn_with_growing_pauses_and_not_for_ever(queued: Desk) -> None:
    queued.colab.answers = {"T4": REFUSED, "L4": REFUSED}
    launched = queued.launch("T4", "L4")
    assert (launched.end, launched.vms, len(launched.left)) == (End.NO_GPU, 0, 1)
    assert [call[-1] for call in queued.colab.named("new")] == ["T4", "L4"] * 6
    assert sum(queued.clock.sleeps) == pytest.approx(60 + 120 + 240 + 480 + 900, abs=60)
    assert len(queued.colab.named("usage")) == 1 + 12, "the floor is looked at before every VM"


def test_a_gpu_that_the_account_may_not_have_is_asked_for_once(queued: Desk) -> None:
    queued.colab.answers = {"H100": NOT_ENTITLED}
    launched = queued.launch("H100")
    assert launched.end is End.NO_GPU
    assert len(queued.colab.named("new")) == 1


def test_a_gpu_that_was_not_asked_for_is_given_back(queued: Desk) -> None:
    queued.colab.hardware = {"T4": "A100"}
    launched = queued.launch()
    assert launched.end is End.NO_GPU
    assert "T4: a T4 was asked for, a A100 came" in queued.said
    assert queued.colab.vms == {}
    assert queued.colab.executed == []


def test_a_vm_that_came_though_the_command_failed_is_used(desk: Desk, tmp_path: Path) -> None:
    desk.colab.vms = {"vm": "T4"}
    desk.colab.answers = {"T4": "Traceback: ReadTimeout\n"}
    colab = colab_of(desk, tmp_path)
    assert colab.new("T4")[0] is Reply.MADE
    assert colab.endpoint == "gpu-vm"


def test_a_vm_that_appeared_while_the_answer_was_lost_is_told_of(queued: Desk) -> None:
    colab = queued.colab
    colab.answers = {"T4": ""}
    colab.on_new = lambda: colab.vms.update({"?": "T4"})
    launched = queued.launch()
    assert launched.end is End.UNRELEASED
    assert "gpu-?" in launched.unreleased[0]
    assert len(colab.named("new")) == 1
    assert "Manage sessions" in launched.unreleased[0]


def test_units_that_run_out_between_vms_end_the_launch(queued: Desk) -> None:
    colab = queued.colab

    def spend() -> None:
        colab.usage = "Current balance: 0.99 compute units\nUsage rate: 0.00/hr\n"

    colab.on_new = spend
    colab.answers = {"T4": REFUSED}
    assert queued.launch().end is End.UNITS
    assert len(colab.named("new")) == 1


def test_the_worker_hands_over_before_the_units_are_down_to_the_floor(
    queued: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: list[dict[str, object]] = []
    run = Scripted.run

    def spying(self: Scripted, arguments: Sequence[str], *, timeout_s: float) -> Answer:
        if arguments[2] == "upload" and arguments[-1].endswith(boot.SETTINGS_NAME):
            settings.append(json.loads(Path(arguments[-2]).read_text()))
        return run(self, arguments, timeout_s=timeout_s)

    monkeypatch.setattr(Scripted, "run", spying)
    queued.colab.usage = "Current balance: 11.00 compute units\nUsage rate: 5.00/hr\n"
    queued.launch()
    assert settings[0]["arguments"] == [
        "work", "--until-empty", "--no-cpu", "--max-runtime", "7200s", "--root", ROOT,
    ]  # fmt: skip
    assert settings[0]["environment"] == {
        "DRIVERUN_HEARTBEAT": "10s",
        "DRIVERUN_LEASE": "60s",
        "DRIVERUN_QUIET": "0s",
        "DRIVERUN_LISTING_LAG": "0s",
    }
    assert "secret" not in json.dumps(settings)


# VMs are given back.


def test_vms_that_get_nowhere_are_not_started_for_ever(queued: Desk) -> None:
    queued.colab.says = f"{boot.ENDED} 3\n{boot.RELEASING}\n"
    launched = queued.launch()
    assert (launched.end, launched.vms, launched.unreleased) == (End.FRUITLESS, 3, ())
    assert (queued.colab.vms, queued.colab.most) == ({}, 1)


def test_a_worker_that_could_not_begin_is_not_tried_on_another_vm(queued: Desk) -> None:
    queued.colab.says = f"driverun: there is no root\n{boot.ENDED} 2\n"
    launched = queued.launch()
    assert (launched.end, launched.vms) == (End.FRUITLESS, 1)
    assert queued.colab.vms == {}


def test_a_vm_that_takes_no_files_is_given_back(queued: Desk) -> None:
    queued.colab.is_upload_broken = True
    launched = queued.launch()
    assert (launched.end, launched.vms) == (End.FRUITLESS, 3)
    assert queued.colab.executed == []
    assert queued.colab.vms == {}


@pytest.mark.parametrize(("stop", "end"), [(Stop.USER, End.STOPPED), (Stop.TERM, End.TERMINATED)])
def test_who_stops_while_a_vm_is_asked_for_gets_it_back(queued: Desk, stop: Stop, end: End) -> None:
    queued.colab.on_new = lambda: queued.stop.ask(stop)
    launched = queued.launch()
    assert (launched.end, launched.vms) == (end, 1)
    assert queued.colab.vms == {}


def test_an_error_on_the_root_gives_the_vm_back_and_is_told(queued: Desk) -> None:
    fault = Fault(kind="status:403:insufficientPermissions", method="drive.*", times=None)
    queued.colab.on_new = lambda: queued.emulator.faults.add(fault)
    with pytest.raises(StoreAccessDenied):
        queued.launch()
    assert queued.colab.vms == {}
    assert queued.colab.executed[0].ended


def test_a_vm_that_cannot_be_stopped_is_named_with_the_command_that_does_it(
    queued: Desk, tmp_path: Path
) -> None:
    queued.colab.is_stop_deaf = True
    launched = queued.launch()
    assert (launched.end, launched.vms) == (End.UNRELEASED, 1), "one that costs for nothing is enough"
    (notes,) = (tmp_path / "workdir" / "colab").iterdir()
    assert f"colab --config {notes} stop -s {notes.stem}" in launched.unreleased[0]
    assert launched.unreleased[0] in queued.said, "an error later on must not hide it"
    assert notes.read_text() == "notes", "without it the command would not know the VM"
    queued.said.clear()
    queued.colab.is_stop_deaf = False
    queued.colab.vms.clear()
    queued.launch()
    assert not notes.exists(), "the next launch sees that it is gone"


def test_the_next_launch_tells_of_a_vm_that_was_left(queued: Desk, tmp_path: Path) -> None:
    folder = tmp_path / "workdir" / "colab"
    folder.mkdir(parents=True)
    (folder / "old.json").write_text("notes")
    queued.colab.vms = {"old": "T4"}
    queued.launch()
    assert any("VM old of another launch" in line and "stop -s old" in line for line in queued.said)
    assert queued.colab.vms == {"old": "T4"}, "somebody may be at it"


def test_what_colab_has_forgotten_is_put_back_before_it_is_stopped(desk: Desk, tmp_path: Path) -> None:
    colab = colab_of(desk, tmp_path)
    colab.new("T4")
    colab.notes.unlink()
    seen: list[bool] = []
    run = desk.colab.run

    def watched(arguments: Sequence[str], *, timeout_s: float) -> Answer:
        seen.append(colab.notes.exists())
        return run(arguments, timeout_s=timeout_s)

    desk.colab.run = watched  # type: ignore[method-assign]
    assert colab.stop()
    assert seen == [True, True]
    assert not colab.notes.exists()


def test_a_vm_is_not_gone_because_the_list_cannot_be_had(desk: Desk, tmp_path: Path) -> None:
    colab = colab_of(desk, tmp_path)
    colab.new("T4")
    for text in (SIGN_IN, "", "Traceback (most recent call last):\nConnectionError\n", NOBODY + SIGN_IN):
        desk.colab.sessions = text or "\n"
        assert colab.is_there() is None
        assert not colab.stop()
    assert len([pause for pause in desk.clock.sleeps if pause >= 5.0]) == 4 * 3


def test_sessions_are_read_whatever_stands_around_them(desk: Desk, tmp_path: Path) -> None:
    desk.colab.sessions = (
        "[colab] Pruned 1 stale local session(s).\n"
        "[?] gpu-t4-s-1abc | Hardware: T4 | Shape: Standard | Variant: GPU\n"
        "[mine] m-s-2 | Hardware: CPU | Shape: High-RAM | Variant: DEFAULT | Status: IDLE\n"
        "[colab] A new version is available\n"
    )
    assert colab_of(desk, tmp_path).sessions() == [
        Session(name="?", endpoint="gpu-t4-s-1abc", hardware="T4"),
        Session(name="mine", endpoint="m-s-2", hardware="CPU"),
    ]


# What is to be done about a VM.


def sight(**changes: object) -> Sight:
    calm: dict[str, object] = {
        "is_client_alive": True,
        "has_ended": False,
        "is_worker_alive": False,
        "has_worker_died": False,
        "is_queue_done": False,
        "is_time_up": False,
        "quiet_s": 0.0,
        "lease_s": 60.0,
    }
    return Sight(**{**calm, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({}, Step.WAIT),  # it boots
        ({"is_worker_alive": True}, Step.WAIT),
        ({"is_worker_alive": True, "is_client_alive": False, "quiet_s": 999.0}, Step.WAIT),
        ({"is_worker_alive": True, "has_worker_died": True}, Step.WAIT),
        ({"has_worker_died": True}, Step.LEAVE),
        ({"has_ended": True, "is_worker_alive": True}, Step.LEAVE),
        ({"is_time_up": True, "is_worker_alive": True}, Step.LEAVE),
        ({"is_client_alive": False}, Step.ASK),  # it may be gone, or boot without us
        ({"is_client_alive": False, "quiet_s": 60.0}, Step.LEAVE),
        ({"quiet_s": 60.0}, Step.ASK),  # between two runs, or dead
        ({"quiet_s": 300.0}, Step.LEAVE),
        ({"is_queue_done": True}, Step.WAIT),  # it says goodbye
        ({"is_queue_done": True, "quiet_s": 60.0}, Step.LEAVE),  # the client hangs
    ],
)
def test_the_root_decides_what_a_vm_deserves(changes: dict[str, object], step: Step) -> None:
    assert next_step(sight(**changes), patience_s=300.0) is step


# The program and what it leaves.


def test_a_program_that_hangs_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "colab"
    script.write_text("#!/bin/sh\nexec 3> alive; echo begun; sleep 1000 & echo $! > child; wait\n")
    script.chmod(0o755)
    os.mkfifo(tmp_path / "alive")
    commands = ProgramCommands(
        script, environment={"PATH": os.environ["PATH"]}, clock=WaitingClock(tmp_path / "child")
    )
    monkeypatch.chdir(tmp_path)
    # The script and what it started hold the other end; it says nothing, and ends when the last of them is dead.
    with open(os.open("alive", os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as alive:
        answer = commands.run(["usage"], timeout_s=NEW_S)
        assert (answer.code, answer.text) == (None, "begun\n")
        assert select.select([alive], [], [], GONE_S)[0], "something that it started is still alive"
        assert alive.read() == b""


class WaitingClock(FakeClock):
    """Time does not pass before the file is there."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def sleep(self, seconds: float) -> None:
        while not self._file.exists() or not self._file.read_text().strip():
            os.sched_yield()
        super().sleep(seconds)


def wheel_of(folder: Path, code: str) -> Path:
    """A driverun that does something else."""
    file = folder / "driverun-9-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("driverun/__init__.py", "")
        archive.writestr("driverun/__main__.py", code)
    return file


WORKER = """
import json, os, pathlib, sys
login = pathlib.Path.home() / ".config" / "driverun" / "drive-login.json"
seen = {"argv": sys.argv, "login": login.read_text(), "mode": oct(login.stat().st_mode & 0o777),
        "lease": os.environ["DRIVERUN_LEASE"], "left": sorted(os.listdir())}
pathlib.Path("seen.json").write_text(json.dumps(seen))
sys.exit(3)
"""


def booted(folder: Path) -> str:
    """What a kernel prints that executes the boot file in `folder`, with that as its home."""
    done = subprocess.run(
        [sys.executable, "-P", kernel.__file__, str(folder / "unassigned"), boot.__file__],
        cwd=folder,
        env={"HOME": str(folder), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def equip(folder: Path, code: str) -> None:
    wheel = wheel_of(folder, code)
    settings = {
        "wheel": wheel.name,
        "login_is_key": False,
        "environment": {"DRIVERUN_LEASE": "6s"},
        "arguments": ["work", "--until-empty"],
    }
    (folder / boot.SETTINGS_NAME).write_text(json.dumps(settings))
    (folder / boot.LOGIN_NAME).write_text("the login")


def test_a_vm_works_with_the_wheel_and_the_login_and_forgets_both(tmp_path: Path) -> None:
    equip(tmp_path, WORKER)
    said = booted(tmp_path)
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert seen["argv"][1:] == ["work", "--until-empty"]
    assert (seen["login"], seen["mode"], seen["lease"]) == ("the login", "0o600", "6s")
    assert boot.LOGIN_NAME not in seen["left"], "nobody but the worker needs it"
    assert said.splitlines() == [f"{boot.ENDED} 3", boot.RELEASING]
    assert not (tmp_path / ".config" / "driverun" / "drive-login.json").exists()
    assert (tmp_path / "unassigned").read_text().startswith(str(tmp_path / boot.INSTALLED_NAME))


@pytest.mark.parametrize("fault", ["raises", "no wheel", "no settings"])
def test_a_vm_is_given_back_whatever_went_wrong_on_it(tmp_path: Path, fault: str) -> None:
    equip(tmp_path, "raise RuntimeError('broken')")
    if fault == "no wheel":
        next(tmp_path.glob("*.whl")).write_bytes(b"damaged")
    if fault == "no settings":
        (tmp_path / boot.SETTINGS_NAME).unlink()
    said = booted(tmp_path)
    assert f"{boot.ENDED} None\n{boot.RELEASING}" in said
    assert "Traceback" in said
    assert (tmp_path / "unassigned").exists()
    assert not list(tmp_path.rglob("*login*.json"))


def test_a_notes_folder_is_for_nobody_else(desk: Desk, tmp_path: Path) -> None:
    colab = colab_of(desk, tmp_path)
    colab.new("T4")
    colab.notes.unlink()
    colab.sessions()
    assert stat.S_IMODE(colab.notes.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(colab.notes.stat().st_mode) == 0o600


def test_the_command_refuses_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from click.testing import CliRunner

    monkeypatch.setenv("PATH", str(tmp_path))
    done = CliRunner().invoke(main, ["--root", ROOT, "launch"])
    assert done.exit_code == 2
    assert "uv tool install google-colab-cli" in done.output
    assert issubclass(UsageError, DriverunError)


@pytest.mark.live
@pytest.mark.skipif(
    not os.environ.get("DRIVERUN_REAL_COLAB"), reason="DRIVERUN_REAL_COLAB names no colab command"
)
@pytest.mark.parametrize("command", GRAMMAR)
def test_the_real_command_takes_what_the_stand_in_takes(command: str, tmp_path: Path) -> None:
    """Asks only for help, so nobody has to be signed in."""
    done = subprocess.run(
        [os.environ["DRIVERUN_REAL_COLAB"], *filter(None, [command]), "--help"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "COLUMNS": "300", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    found = set()
    for line in done.stdout.splitlines():
        match = re.match(r"│ \*?\s*((?:-{0,2}[a-z_-]+\s+)+)(<[a-z0-9\[\]|]+>)", line)
        names = match[1].split() if match is not None else ["--help"]
        if match is not None and names[0] not in ("--help", "--install-completion", "--show-completion"):
            takes = "=" if match[2] != "<bool>" and names[0].startswith("-") else ""
            found.add("|".join(sorted(names, key=len)) + takes)
    assert found == set(GRAMMAR[command])
