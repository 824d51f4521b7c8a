"""The account and its VMs, in a folder that every process of a test shares."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driverun.execution.workdir import SHARED_MEMORY
from driverun.testing.colab_cli.plan import CloudPlan, MachinePlan

VARIABLE = "DRIVERUN_FAKE_COLAB"  #: names the folder

#: By which a worker knows that it has a GPU; this one is idle.
NVIDIA_SMI = """#!/bin/sh
case "$1" in
  --query-gpu=*) echo "{name}, 15360, 0, 0, 580.82, GPU-1" ;;
esac
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A VM that runs, and costs."""

    endpoint: str
    hardware: str
    number: int
    folder: Path

    @property
    def unassigned(self) -> Path:
        """The VM wrote this when it gave itself back."""
        return self.folder / "unassigned"

    @property
    def kernel_pid(self) -> Path:
        return self.folder / "kernel.pid"

    @property
    def kernel_ended(self) -> Path:
        return self.folder / "kernel.ended"


class Cloud:
    """Everything that there is of an account."""

    def __init__(self, folder: Path, plan: CloudPlan | None = None) -> None:
        """Open what is in `folder`, or begin it with `plan`."""
        self.folder = folder
        self._vms = folder / "vms"
        self.logs = folder / "logs"
        if plan is not None:
            for each in (self._vms, self.logs):
                each.mkdir(parents=True)
            (folder / "plan.json").write_text(plan.to_json())

    @property
    def plan(self) -> CloudPlan:
        return CloudPlan.from_json((self.folder / "plan.json").read_text())

    @property
    def environment(self) -> dict[str, str]:
        """What the command needs to find this account."""
        return {VARIABLE: str(self.folder)}

    def executable(self) -> Path:
        """The command, as a file to call."""
        file = self.folder / "bin" / "colab"
        if not file.exists():
            file.parent.mkdir()
            package = Path(__file__).parents[3]
            file.write_text(
                f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(package)!r})\n"
                "from driverun.testing.colab_cli.command import main\nsys.exit(main())\n"
            )
            file.chmod(0o755)
        return file

    # VMs.

    def machines(self) -> list[Machine]:
        """Those that run, oldest first."""
        found = []
        for folder in self._vms.iterdir():
            with suppress(FileNotFoundError):  # it is just vanishing
                found.append(self._machine(folder))
        return sorted(found, key=lambda each: each.number)

    def machine(self, endpoint: str) -> Machine | None:
        try:
            return self._machine(self._vms / endpoint)
        except FileNotFoundError:
            return None

    def _machine(self, folder: Path) -> Machine:
        about = json.loads((folder / "about.json").read_text())
        return Machine(folder=folder, **about)

    def make(self, hardware: str) -> Machine:
        """Another VM."""
        with self._turn():
            number = self.count("made")
            endpoint = f"gpu-{hardware.lower()}-{number}"
            part = self.folder / f"part-{endpoint}"
            for each in ("content", "root", "bin", "tmp"):
                (part / each).mkdir(parents=True)
            tool = part / "bin" / "nvidia-smi"
            tool.write_text(NVIDIA_SMI.format(name=hardware))
            tool.chmod(0o755)
            (part / "about.json").write_text(
                json.dumps({"endpoint": endpoint, "hardware": hardware, "number": number})
            )
            part.rename(self._vms / endpoint)
            self.note("made", endpoint=endpoint, running=len(self.machines()))
            return self._machine(self._vms / endpoint)

    def destroy(self, machine: Machine, why: str) -> None:
        """The VM is gone: its processes, its memory, its disk. Nothing happens where it is gone already."""
        with self._turn():
            if not machine.folder.exists():
                return
            self.kill_kernel(machine)
            uses = machine.folder / "root" / ".cache" / "driverun" / "attempts"
            for attempt in uses.iterdir() if uses.exists() else ():
                memory = SHARED_MEMORY / f"driverun-{os.getuid()}" / attempt.name
                shutil.rmtree(memory, ignore_errors=True)
            gone = self.folder / f"gone-{machine.endpoint}"
            machine.folder.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
            self.note("gone", endpoint=machine.endpoint, why=why)

    def kill_kernel(self, machine: Machine) -> None:
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):
            os.killpg(int(machine.kernel_pid.read_text()), signal.SIGKILL)

    def destroy_all(self) -> None:
        """For the end of a test, however it ended."""
        for machine in self.machines():
            self.destroy(machine, "the test is over")

    # What was asked for, and what happened.

    def note(self, event: str, **details: Any) -> None:
        with open(self.folder / "journal.jsonl", "a", encoding="utf-8") as journal:
            journal.write(json.dumps({"event": event, **details}) + "\n")

    def journal(self) -> list[Mapping[str, Any]]:
        """All events so far, in order."""
        with suppress(FileNotFoundError):
            lines = (self.folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()
            return [json.loads(line) for line in lines]
        return []

    def events(self, event: str) -> list[Mapping[str, Any]]:
        return [each for each in self.journal() if each["event"] == event]

    def count(self, event: str) -> int:
        return len(self.events(event))

    def calls(self, command: str) -> int:
        """How often the command was called."""
        return sum(each["command"] == command for each in self.events("called"))

    # Checkpoints, as far as a VM is old.

    def checkpoints(self, machine: Machine) -> int:
        with suppress(FileNotFoundError, ValueError):
            return int((self.logs / f"{machine.endpoint}.checkpoints").read_text())
        return 0

    def set_checkpoints(self, machine: Machine, number: int) -> None:
        part = self.logs / f"{machine.endpoint}.part"
        part.write_text(str(number))
        part.rename(self.logs / f"{machine.endpoint}.checkpoints")

    def plan_of(self, machine: Machine) -> MachinePlan:
        return self.plan.machine(machine.number)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with open(self.folder / "cloud.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
