"""One cell of a notebook: works off the queue of a root in the kernel itself, with a live view."""

from __future__ import annotations

import math
import os
import re
import signal
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from driverun import __version__
from driverun.assembly import Surroundings, WorkOptions, open_worker
from driverun.errors import DriverunError, TransientStoreError, UsageError
from driverun.execution.context import Stop, StopSignal
from driverun.execution.hardware import GpuUse, describe, gpu_uses, look_at_machine
from driverun.execution.tasks import ThreadTasks
from driverun.execution.worker import Mode, Worked, Worker
from driverun.launchers.cell_text import CellView, queue_text, span, text_of
from driverun.launchers.colab_secrets import ColabSecrets
from driverun.launchers.screen import Screen
from driverun.launchers.signals import asked_to_stop
from driverun.transfer.mounts import folder_fault

HOSTED = Path(
    "/var/colab/hostname"
)  #: is there on the machines of Colab alone (google.colab tests for it too)
MOUNT_VARIABLE = "DRIVERUN_COLAB_MOUNT"
MOUNT = Path("/content/drive")
REFRESH_S = 1.0
LOOK_AT_GPU_EVERY = 5  #: refreshes
KEPT_LINES = 50
LEAST_S = 120.0  #: a runtime with less to live than that trains nothing that would be kept

_NO_GPU = (
    "This runtime has no GPU. Runtime > Change runtime type > T4 GPU gives one. When Colab says that usage limits keep "
    "you from it, leave the queue as it is and run this cell again later, often the next day: nothing is lost. To "
    "train on the CPU all the same, tick allow_cpu."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellOptions:
    """What the form of the cell says."""

    root: str
    jobs: str = ""  #: names of jobs, or runs, with commas between; empty: all
    allow_cpu: bool = False
    hours: float = 11.5  #: that this runtime may last, counted from its start
    trusted_authors: str = ""  #: whose code may run beside the root's owner's, with commas between
    mount_drive: bool = False  #: for data with `access: mount`
    release_runtime: bool = False  #: give the machine back when all is done

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name in re.split(r"[,\s]+", self.jobs) if name)


def run_cell(options: CellOptions, *, here: Surroundings | None = None) -> None:
    """Work until nothing is left that this runtime can do. What goes wrong is said in the cell, in plain words."""
    screen = Screen()
    try:
        _Cell(options, _trusting(here or Surroundings.here(), options), screen).run()
    except TransientStoreError as exc:
        screen.show(
            _below(
                screen, f"The root is out of reach: {exc}\nWhat was committed is safe. Run the cell again."
            )
        )
    except DriverunError as exc:
        screen.show(_below(screen, str(exc)))


class _Cell:
    """One press on the cell's button."""

    def __init__(self, options: CellOptions, here: Surroundings, screen: Screen) -> None:
        self._options = options
        self._here = here
        self._screen = screen
        self._stop = StopSignal()
        self._said: deque[str] = deque(maxlen=KEPT_LINES)
        self._written: deque[str] = deque(maxlen=KEPT_LINES)
        self._gpus: tuple[GpuUse, ...] = ()
        self._refreshes = 0
        self._until_s = math.inf

    def run(self) -> None:
        options, here = self._options, self._here
        left_s = self._left_s()
        machine = look_at_machine(here.settings().workdir, environment=here.environment)
        self._gpus = machine.gpus
        found = (
            f"driverun {__version__} · {options.root} · {describe(machine)} · {span(left_s)} for this runtime"
        )
        self._screen.show(f"{found}\nopening {options.root}")
        self._until_s = here.clock.monotonic() + left_s
        if options.mount_drive:
            _mount_drive(here.environment)
        worker = open_worker(
            options.root,
            here,
            options=WorkOptions(max_runtime_s=left_s, allow_cpu=options.allow_cpu, jobs=options.names),
            stop=self._stop,
            say=self._said.append,
            show=self._written.append,
            secret_sources=(ColabSecrets(here.clock),),
            machine=machine,
        )

        def draw() -> None:
            self._draw(found, worker)

        with asked_to_stop(self._on_signal):
            drawing = ThreadTasks().every(REFRESH_S, draw, name="view")
            try:
                worked = worker.work(Mode.UNTIL_EMPTY)
            finally:
                drawing.stop()
                draw()
        self._draw(found, worker, ending=_ending(worked, options, has_gpu=bool(machine.gpus)))
        if options.release_runtime and worked.stop is not Stop.USER:
            self._screen.show(_below(self._screen, _release()))

    def _left_s(self) -> float:
        if not self._options.hours > 0:
            raise UsageError(f"hours: {self._options.hours} is no time that a runtime may last. Try 11.5.")
        age_s = _runtime_age_s()
        left_s = self._options.hours * 3600.0 - age_s
        if left_s < LEAST_S:
            raise UsageError(
                f"This runtime is {span(age_s)} old, and you gave it {self._options.hours:g} h: too little is left to "
                "train anything that would be kept. Use Runtime > Disconnect and delete runtime, then run the cell "
                "again."
            )
        return left_s

    def _on_signal(self, number: int, _frame: object) -> None:
        self._stop.ask(Stop.USER if number == signal.SIGINT else Stop.TERM)

    def _draw(self, found: str, worker: Worker, *, ending: Sequence[str] = ()) -> None:
        self._refreshes += 1
        if self._refreshes % LOOK_AT_GPU_EVERY == 0:
            self._gpus = gpu_uses(environment=self._here.environment)
        shown = worker.view()
        banner = f"{found} · {queue_text(run.state.value for run in shown.runs)}"
        view = CellView(
            banner=banner,
            worker=shown,
            left_s=self._until_s - self._here.clock.monotonic(),
            gpus=self._gpus,
            said=tuple(self._said),
            written=tuple(self._written),
            ending=tuple(ending),
        )
        self._screen.show(text_of(view))


def _ending(worked: Worked, options: CellOptions, *, has_gpu: bool) -> list[str]:
    """What there is to know when the cell ends."""
    lines = ["─" * 20]
    for run_id, outcome in worked.outcomes.items():
        reason = f"  {outcome.reason}" if outcome.reason else ""
        lines.append(f"{run_id}  {outcome.state.value}{reason}")
    lines += [
        f"left: {run_id}: {why}" for run_id, why in worked.left.items() if run_id not in worked.outcomes
    ]
    if worked.left and not has_gpu and not options.allow_cpu:
        lines.append(_NO_GPU)
    match worked.stop:
        case Stop.USER | Stop.TERM:
            lines.append(
                "Stopped. Run the cell again, here or in another runtime, and it goes on at the step it lost."
            )
        case Stop.DEADLINE:
            lines.append("This runtime's time is up. Run the cell again in a new one, and it goes on.")
        case _ if not worked.left:
            lines.append("Nothing is left to do." if worked.outcomes else "The queue is empty.")
    return lines


def _below(screen: Screen, text: str) -> str:
    return f"{screen.text}\n\n{text}" if screen.text else text


def _runtime_age_s() -> float:
    """For how long a machine of Colab has been in use; 0 elsewhere. Colab itself tells no deadline."""
    if not HOSTED.exists():
        return 0.0
    try:
        up_s = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
        after_name = Path("/proc/1/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return max(0.0, up_s - int(after_name[19]) / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError):
        return 0.0


def _trusting(here: Surroundings, options: CellOptions) -> Surroundings:
    """The machine, where the form says more than its settings about whose code may run."""
    if not options.trusted_authors.strip():
        return here
    environment = {**here.environment, "DRIVERUN_TRUSTED_AUTHORS": options.trusted_authors}
    return replace(here, environment=environment)


def _mount_drive(environment: Mapping[str, str]) -> None:
    """Have Drive mounted, for data that are read in place. A mount that answers is left as it is.

    Raises:
        UsageError: it cannot be.
    """
    point = Path(environment.get(MOUNT_VARIABLE) or MOUNT)
    try:
        from google.colab import drive
    except ImportError as exc:
        raise UsageError("mount_drive: only Colab can mount Drive. Untick it; data are copied then.") from exc
    if folder_fault(point / "MyDrive") is None:
        return
    try:
        drive.mount(str(point))
    except Exception as exc:
        raise UsageError(
            f"Drive could not be mounted at {point}: {exc}.\nRun the cell again and allow what the window asks for; if "
            "that does not help, use Runtime > Restart session. Or untick mount_drive: data are copied then."
        ) from exc
    fault = folder_fault(point / "MyDrive")
    if fault is not None:
        raise UsageError(
            f"Drive is mounted at {point}, and does not work: {fault}.\nUse Runtime > Disconnect and delete runtime "
            "and run the cell in a new one. Or untick mount_drive: data are copied then."
        )


def _release() -> str:
    """Give the machine back; gives what there is to say about it."""
    try:
        from google.colab import runtime

        runtime.unassign()
    except Exception as exc:  # whatever it is, the work is done
        return f"This runtime could not be released ({exc}). Use Runtime > Disconnect and delete runtime."
    return "This runtime is released."
