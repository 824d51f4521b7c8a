"""One VM at work: starts its kernel, and does to it what its plan says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from driverun.clock import SystemClock
from driverun.runs.layout import CHECKPOINT_NAME
from driverun.testing.colab_cli.cloud import Cloud, Machine
from driverun.testing.drive_emulator import AdminClient

ENDPOINT_VARIABLE = "DRIVERUN_DRIVE_ENDPOINT"
LOOK_S = 0.05
KERNEL = Path(__file__).with_name("kernel.py")
#: Of this machine, and not to be seen on a VM.
OURS = ("DRIVERUN_", "XDG_", "PYTHON", "GOOGLE_", "VIRTUAL_ENV")


def live(cloud: Cloud, machine: Machine, source: Path) -> None:
    """Execute `source` in a kernel of the VM, until it ends or the VM does."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(OURS) and name != "HOME"
    }
    environment |= {name: os.environ[name] for name in (ENDPOINT_VARIABLE,) if name in os.environ}
    environment["HOME"] = str(machine.folder / "root")
    environment["TMPDIR"] = str(machine.folder / "tmp")
    environment["PATH"] = f"{machine.folder / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    with open(cloud.logs / f"{machine.endpoint}.log", "ab") as log:
        kernel = subprocess.Popen(
            # -P: the kernel's own folder is no place to import from
            [sys.executable, "-P", str(KERNEL), str(machine.unassigned), str(source)],
            cwd=machine.folder / "content",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    machine.kernel_pid.write_text(str(kernel.pid))
    watch = _CheckpointWatch(os.environ.get(ENDPOINT_VARIABLE))
    plan = cloud.plan_of(machine)
    clock = SystemClock()
    while machine.folder.exists():
        done = watch.look()
        cloud.set_checkpoints(machine, done)
        if machine.unassigned.exists():
            cloud.note("unassigned", endpoint=machine.endpoint, driverun=machine.unassigned.read_text())
            cloud.destroy(machine, "it gave itself back")
        elif plan.power_cut_after is not None and done >= plan.power_cut_after:
            cloud.destroy(machine, "power cut")
        elif plan.kernel_dies_after is not None and done >= plan.kernel_dies_after:
            cloud.kill_kernel(machine)
        if kernel.poll() is not None and machine.folder.exists() and not machine.unassigned.exists():
            machine.kernel_ended.touch()
            cloud.note("kernel ended", endpoint=machine.endpoint)
            break
        clock.sleep(LOOK_S)
    kernel.wait()


class _CheckpointWatch:
    """Counts the checkpoints that appear on a Drive, those that are deleted later included."""

    def __init__(self, url: str | None) -> None:
        self._admin = AdminClient(url) if url is not None else None
        self._before = self._ids()
        self._since: set[str] = set()

    def look(self) -> int:
        self._since |= self._ids() - self._before
        return len(self._since)

    def _ids(self) -> set[str]:
        if self._admin is None:
            return set()
        try:
            return {each.id for each in self._admin.files() if CHECKPOINT_NAME.fullmatch(each.title)}
        except OSError:  # the Drive of a test that is over
            return set()


def main() -> None:
    cloud = Cloud(Path(sys.argv[1]))
    machine = cloud.machine(sys.argv[2])
    if machine is not None:
        live(cloud, machine, Path(sys.argv[3]))


if __name__ == "__main__":
    main()
