"""The training process: `python -m driverun.training SPOOL LIFELINE_FD`."""

from __future__ import annotations

import faulthandler
import fcntl
import os
import random
import signal
import sys
import traceback
from pathlib import Path

from driverun.clock import SystemClock
from driverun.errors import JobError, SpoolError
from driverun.spool.events import EventKind
from driverun.spool.folder import SpoolFolder
from driverun.spool.request import TrainingRequest
from driverun.training.current import CurrentRun, set_current_run
from driverun.training.imports import after_import
from driverun.training.lifeline import hold
from driverun.training.script import call_function, run_command, run_script
from driverun.training.session import TrainingSession


def main(spool: SpoolFolder, lifeline: int) -> int:
    """Run one attempt's job; gives the process's exit code."""
    hold(lifeline)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Jupyter sends it to the whole group; the runner decides
    lock = open(spool.trainer_lock, "ab")  # noqa: SIM115 (held until the process ends)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        raise SpoolError(f"cannot train in {spool.path}: another training process is at work there") from exc
    request = TrainingRequest.read(spool.request)
    session = TrainingSession(request, spool, clock=SystemClock())
    signal.signal(signal.SIGTERM, lambda *_: session.ask_hand_over())
    faulthandler.enable()
    folder = Path(request.working_folder)
    os.chdir(folder)
    set_current_run(
        CurrentRun(
            params=request.params,
            data_dir=folder / "data",
            output_dir=folder,
            seed=request.seed,
            attempt=request.attempt,
            run_id=request.run_id,
        )
    )
    _prepare(session)
    return _run(session, folder)


def _prepare(session: TrainingSession) -> None:
    seed = session.request.seed
    random.seed(seed)

    def seed_numpy() -> None:
        sys.modules["numpy"].random.seed(seed)

    def install_keras() -> None:
        from driverun.training import keras_data, keras_fit, keras_stack

        keras_stack.prepare(session)
        if sys.modules["keras"].backend.backend() == "tensorflow":
            keras_data.count_iterations()
            keras_fit.install(session)

    after_import("numpy", seed_numpy)
    after_import("keras", install_keras)


def _run(session: TrainingSession, folder: Path) -> int:
    request = session.request
    code = 0
    try:
        if request.entrypoint_kind == "script":
            run_script(folder / request.entrypoint, request.argv)
        elif request.entrypoint_kind == "function":
            call_function(request.entrypoint, request.params, folder)
        else:
            code = run_command(request.argv, folder)
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else 0 if exc.code is None else 1
        if isinstance(exc.code, str):
            print(exc.code, file=sys.stderr)  # noqa: T201 (what Python itself does with a text)
    except JobError as exc:
        return _failed(session, kind="JobError", message=str(exc), trace="")
    except Exception as exc:  # the boundary of a run: whatever a job's code raises is its outcome
        text = "".join(traceback.format_exception(exc))
        print(text, file=sys.stderr, flush=True)  # noqa: T201 (the child's stderr is the job's log)
        return _failed(session, kind=type(exc).__name__, message=_one_line(exc), trace=text)
    if code:
        return _failed(session, kind="exit code", message=f"the script ended with exit code {code}", trace="")
    return _finished(session)


def _finished(session: TrainingSession) -> int:
    for task in session.at_end:
        task()
    request = session.request
    if request.restore_checkpoint and session.fits_begun <= request.restore_fits:
        session.approximate(
            f"the checkpoint is of fit {request.restore_fits + 1}, the script called fit {session.fits_begun} times"
        )
    if request.attempt > 1 and not session.fits_begun and request.interrupted_before:
        session.approximate("the script calls no fit, so there is nothing to resume: it started over")
    session.events.write(EventKind.FINISHED, state_sha256=session.state_sha256, step=session.step)
    return 0


def _failed(session: TrainingSession, *, kind: str, message: str, trace: str) -> int:
    session.events.write(EventKind.FAILED, kind=kind, message=message, traceback=trace)
    return 1


def _one_line(exc: BaseException) -> str:
    text = str(exc).strip().splitlines()
    return text[0][:500] if text else type(exc).__name__


if __name__ == "__main__":
    sys.exit(main(SpoolFolder(path=Path(sys.argv[1])), int(sys.argv[2])))
