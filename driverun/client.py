"""A root as scripts and notebooks use it: the calls behind the command line, with a handle for each run.

    client = driverun.Client("gdrive:experiments")
    run = client.submit("jobs/mnist", params={"learning_rate": 0.01})
    print(run.wait().metrics)

Every call asks the root anew, and raises what the command of that name prints: a UsageError where the call has to be
mended, a TransientStoreError where the root is out of reach and trying again makes sense.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from driverun.assembly import Surroundings, WorkOptions, init_root, open_client, open_worker
from driverun.errors import RunFailed, UsageError, WaitTimeout
from driverun.execution import client as calls
from driverun.execution.approving import Review
from driverun.execution.context import Stop, StopSignal
from driverun.execution.outcome import Outcome
from driverun.execution.timetable import ScheduleSummary
from driverun.execution.worker import Mode
from driverun.report.compare import Comparison
from driverun.report.curves import Curves
from driverun.report.diff import Difference
from driverun.report.summary import RunSummary
from driverun.runs.state import RunState, WaitingFor
from driverun.transfer.progress import OnProgress
from driverun.transfer.upload import Uploaded

__all__ = ["Client", "Comparison", "Curves", "RunHandle", "RunState", "RunSummary", "WaitingFor"]


def _silent(_: str) -> None:
    """Nobody wants to hear it."""


class Client:
    """One root. Calls of several threads come one after the other to no harm, but share no waiting."""

    def __init__(self, root: str | Path | None = None, *, here: Surroundings | None = None) -> None:
        """Open the root.

        Args:
            root: a folder, `gdrive:path/under/My Drive` or `gdrive://FOLDER_ID`; None: DRIVERUN_ROOT, else the
                nearest one from the current folder upwards.
            here: the machine as this process finds it; None: as it is.

        Raises:
            RootNotFound: none is meant, or what is named is no root. `Client.init` makes one.
            UsageError: nobody is logged in to Drive, or the root is of a newer format.
        """
        self._here = here if here is not None else Surroundings.here()
        self._root = os.fspath(root) if root is not None else None
        self._calls = open_client(self._root, self._here)

    @classmethod
    def init(cls, root: str | Path, *, here: Surroundings | None = None) -> Client:
        """Make a root, or mend one, as `driverun init` does, and open it."""
        here = here if here is not None else Surroundings.here()
        init_root(os.fspath(root), here)
        return cls(root, here=here)

    def __repr__(self) -> str:
        return f"Client({self.location!r})"

    @property
    def location(self) -> str:
        """The root as a person would type it."""
        return self._calls.store.location

    # Jobs and data.

    def submit(
        self,
        job: str | Path,
        *,
        params: Mapping[str, Any] | None = None,
        again: bool = False,
        wait: bool = False,
    ) -> RunHandle:
        """Put a job into the queue; a run that computes the same is the answer, unless `again`.

        Of a job with a matrix it is the run at the first point; `submit_all` gives them all.

        Args:
            job: a folder or job file of this machine, else the name of a job on the root.
            params: in the place of what the job file says of them.
            again: make another run of what was computed already.
            wait: return when the run is over, however it ended.

        Raises:
            SpecError: the job file is faulty; `faults` has all of it.
            UsageError: there is no such job.
        """
        return self.submit_all(job, params=params, again=again, wait=wait)[0]

    def submit_all(
        self,
        job: str | Path,
        *,
        params: Mapping[str, Any] | None = None,
        again: bool = False,
        wait: bool = False,
    ) -> list[RunHandle]:
        """As `submit`, with the runs at all points of the job's matrix, in its order."""
        loaded = self._calls.load_job(os.fspath(job))
        submitted = self._calls.submit(loaded, params=params or {}, again=again)
        handles = [RunHandle(self._calls, run.run_id, self._here) for run in submitted.runs]
        if wait:
            for handle in handles:
                handle.wait()
        return handles

    def schedule(self, job: str | Path) -> ScheduleSummary:
        """Put a job whose file has a schedule in its place on the root, as `driverun submit` does.

        Raises:
            SpecError: the job file is faulty, or it would never fall due.
            UsageError: there is no such job, or it has no schedule.
        """
        return self._calls.schedule(self._calls.load_job(os.fspath(job)))

    def schedules(self) -> list[ScheduleSummary]:
        """Every job that has a schedule, with its next due times and its last run."""
        return self._calls.schedules()

    def suspend(self, job: str) -> ScheduleSummary:
        """Let nothing of the job fall due until it is resumed. Raises UsageError: it has no schedule."""
        return self._calls.suspend_schedule(job)

    def resume(self, job: str) -> ScheduleSummary:
        """Let the job fall due again; what would have been due meanwhile is not made up for."""
        return self._calls.resume_schedule(job)

    def upload(self, local: str | Path, target: str, on_progress: OnProgress | None = None) -> Uploaded:
        """Put a file or folder of this machine at `target` on the root, such as `data/mnist.npz`."""
        return self._calls.upload(Path(local), target, on_progress)

    # Runs.

    def runs(
        self, *, state: RunState | str | Collection[RunState | str] | None = None, name: str | None = None
    ) -> list[RunHandle]:
        """The runs of the root, oldest first.

        Args:
            state: only those that stand so, as in `"FAILED"` or `(RunState.QUEUED, RunState.RUNNING)`.
            name: only those of the job of this name.
        """
        return [
            RunHandle(self._calls, summary.run_id, self._here)
            for summary in self.status(state=state, name=name)
        ]

    def status(
        self, *, state: RunState | str | Collection[RunState | str] | None = None, name: str | None = None
    ) -> list[RunSummary]:
        """Where the runs stand, as `driverun status` has it: without checkpoints, one look for all of them."""
        wanted = _states(state)
        return [
            summary
            for summary in self._calls.runs()
            if (wanted is None or summary.state in wanted) and name in (None, summary.name)
        ]

    def run(self, run_id: str) -> RunHandle:
        """One run by its id, or by so much of its beginning that it is the only one. Raises RunNotFound."""
        return RunHandle(self._calls, self._calls.find(run_id), self._here)

    def diff(self, run_a: str | RunHandle, run_b: str | RunHandle) -> Difference | None:
        """The first variable, value or output in which two runs differ; None if they are the same."""
        return self._calls.diff(_id_of(run_a), _id_of(run_b))

    def compare(self, *of: str | RunHandle, metric: str | None = None, mode: str | None = None) -> Comparison:
        """Runs beside each other, the best first, with the params in which they differ.

        Args:
            of: sweeps, jobs or runs; none: the newest sweep, else every run.
            metric: by which; None: that of the job's checkpoints, else a usual one.
            mode: "min" or "max"; None: by the metric's name.

        Raises:
            RunNotFound: there is none of a name that was given.
            UsageError: no run has the metric, or a name is that of two jobs.
        """
        return self._calls.compare([_id_of(each) for each in of], metric=metric, mode=mode)

    # Working.

    def work(
        self,
        *,
        once: bool = False,
        max_runtime_s: float | None = None,
        allow_cpu: bool = True,
        jobs: str | Collection[str] = (),
        say: Callable[[str], None] = _silent,
        show: Callable[[str], None] = _silent,
        stop: StopSignal | None = None,
    ) -> dict[str, Outcome]:
        """Carry out runs on this machine, as `driverun work` does, until nothing is left that it can do.

        Args:
            once: until one run is done.
            max_runtime_s: hand over after so many seconds.
            allow_cpu: whether jobs may run without an accelerator.
            jobs: names of jobs, or ids of runs, to keep to; none: all there are.
            say: is told what the worker does, line by line.
            show: is given what jobs print, line by line.
            stop: by which another thread asks it to commit and hand over.

        Returns:
            How the newest attempt at each run ended that was taken up here.

        Raises:
            KeyboardInterrupt: somebody interrupted it (Ctrl-C, a notebook's stop button). What was trained is committed
                by then, and the run handed over; a second interrupt gives that up.
        """
        stop = stop if stop is not None else StopSignal()
        names = (jobs,) if isinstance(jobs, str) else tuple(jobs)
        worker = open_worker(
            self._root,
            self._here,
            options=WorkOptions(max_runtime_s=max_runtime_s, allow_cpu=allow_cpu, jobs=names),
            stop=stop,
            say=say,
            show=show,
        )
        with _handing_over_first(stop):
            return dict(worker.work(Mode.ONCE if once else Mode.UNTIL_EMPTY).outcomes)


class RunHandle:
    """One run of a root. It holds nothing but the id: each call tells how things stand now."""

    def __init__(self, client: calls.Client, run_id: str, here: Surroundings) -> None:
        self._calls = client
        self._here = here
        self._id = run_id

    @property
    def id(self) -> str:
        """The whole id."""
        return self._id

    def __repr__(self) -> str:
        return f"RunHandle({self._id!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RunHandle):
            return NotImplemented
        return (self._id, self._calls.store.location) == (other._id, other._calls.store.location)

    def __hash__(self) -> int:
        return hash(self._id)

    def status(self) -> RunSummary:
        """Where it stands, with its attempts and checkpoints."""
        return self._calls.run(self._id)

    def wait(self, timeout_s: float | None = None) -> RunSummary:
        """Where it stands once it is over, however it ended; `result` is for those who want its results.

        Args:
            timeout_s: for how long to wait, in seconds; None: for as long as it takes. Somebody has to work.

        Raises:
            WaitTimeout: it was not over by then; nothing happened to it.
        """
        summary = self._calls.wait(self._id, timeout_s=timeout_s)
        if summary.state.is_over:
            return summary
        waits = f" and waits for {summary.waiting_for.value}" if summary.waiting_for is not None else ""
        raise WaitTimeout(
            f"waited {timeout_s:g} s for {self._id}: it is {summary.state.value}{waits}. It goes on while a worker"
            f" does; look at it with `driverun status {self._id}`"
        )

    def result(
        self,
        dest: str | Path | None = None,
        *,
        timeout_s: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Path:
        """The folder on this machine with its results, each file verified; it is waited for.

        Args:
            dest: that folder, which is made; None: one of the run's name in the current folder.
            timeout_s: as `wait` has it.

        Raises:
            RunFailed: it failed or was cancelled, so there are none.
            WaitTimeout: it was not over by then.
            UsageError: the folder holds other files of these names; nothing was touched.
            IntegrityError: a result is not what the manifest says; it was not written.
        """
        summary = self.wait(timeout_s)
        if summary.state is not RunState.SUCCEEDED:
            reason = summary.failure.message if summary.failure is not None else summary.reason
            raise RunFailed(
                f"{self._id} has no results: it is {summary.state.value}{f', {reason}' if reason else ''}. "
                f"See `driverun logs {self._id}`, mend it, then `driverun retry {self._id}`",
                run_id=self._id,
                state=summary.state.value,
                reason=reason,
            )
        folder = Path(dest) if dest is not None else self._here.cwd / self._id
        self._calls.fetch(self._id, folder, on_progress)
        return folder

    def logs(self, *, follow: bool = False) -> Iterator[str]:
        """What it wrote, line by line without their ends, attempt after attempt.

        Args:
            follow: go on as it grows, until the run is over.
        """
        rest, attempt = "", None
        for piece in self._calls.logs(self._id, follow=follow):
            if rest and piece.attempt != attempt:
                yield rest
                rest = ""
            attempt = piece.attempt
            *lines, rest = (rest + piece.text).split("\n")
            yield from lines
        if rest:
            yield rest

    def metrics(self) -> dict[str, float]:
        """The newest value of each, as in `{"fit.loss": 0.03, "evaluate.accuracy": 0.99}`."""
        return dict(self._calls.run(self._id).metrics)

    def history(self) -> Curves:
        """Every metric of every fit over epochs and steps, whole from the first step however often it was cut."""
        return self._calls.curves(self._id)

    def cancel(self) -> None:
        """Stop it for good. Raises UsageError where it is over."""
        self._calls.cancel(self._id)

    def prioritize(self, priority: int) -> None:
        """Put it before runs of a lower priority. Raises UsageError where it is over."""
        self._calls.prioritize(self._id, priority)

    def retry(self, *, fresh: bool = False) -> None:
        """Have it taken up again after it failed or was cancelled, with its job's code as it is now.

        Args:
            fresh: start over, not from the last checkpoint.

        Raises:
            UsageError: it has succeeded, is running, or waits for its first try.
        """
        self._calls.retry(self._id, fresh=fresh)

    def review(self) -> Review:
        """What would run if it were approved. Raises UsageError where nothing of it waits for that."""
        return self._calls.review(self._id)

    def approve(self, *, code: str | None = None) -> Review:
        """Let its code be run, which somebody changed who is not trusted; gives what was approved.

        Args:
            code: the digest of the code that was looked at, as `review` has it; other code is refused.
        """
        return self._calls.approve(self._id, code=code)

    def report(self, file: str | Path | None = None) -> Path:
        """Write one HTML page about it; returns where, which is `<id>.html` in the current folder if None is said."""
        place = Path(file) if file is not None else self._here.cwd / f"{self._id}.html"
        place.write_text(self._calls.report(self._id), encoding="utf-8")
        return place


@contextmanager
def _handing_over_first(stop: StopSignal) -> Iterator[None]:
    """Within the block an interrupt asks to commit and hand over, and is raised at its end; a second asks to abandon.

    Where an interrupt raises no KeyboardInterrupt, or comes to another thread, everything stays as it is.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    interrupts: list[int] = []

    def on_interrupt(number: int, _: object) -> None:
        interrupts.append(number)
        stop.ask(Stop.USER)

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if interrupts:
        raise KeyboardInterrupt


def _id_of(run: str | RunHandle) -> str:
    return run.id if isinstance(run, RunHandle) else run


def _states(given: RunState | str | Collection[RunState | str] | None) -> frozenset[RunState] | None:
    """Raises UsageError for a state that there is not."""
    if given is None:
        return None
    several = [given] if isinstance(given, RunState | str) else list(given)
    try:
        return frozenset(RunState(each.upper()) if isinstance(each, str) else each for each in several)
    except ValueError as exc:
        raise UsageError(
            f"cannot look for runs so: {exc}; there are {', '.join(each.value for each in RunState)}"
        ) from exc
