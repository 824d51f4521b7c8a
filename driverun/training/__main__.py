"""The training process: `python -m driverun.training SPOOL LIFELINE_FD`.

The runner starts it with PYTHONUNBUFFERED, so that the log is whole when the process is killed, with PYTHONHASHSEED, so
that sets have the same order in every attempt, and with /dev/null to read from.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import faulthandler
import fcntl
import os
import random
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import driverun.training
from driverun.clock import SystemClock
from driverun.errors import JobError, SpoolError
from driverun.spool.boards import STACKS_SIGNAL
from driverun.spool.events import EventKind
from driverun.spool.folder import REFUSED, SpoolFolder
from driverun.spool.request import TrainingRequest
from driverun.training.colab import PACKAGE as COLAB
from driverun.training.colab import advice_on_path, install_stand_in
from driverun.training.current import SPOOL_VARIABLE, run_of, set_current_run
from driverun.training.imports import after_import
from driverun.training.lifeline import stand_guard
from driverun.training.notebook_file import CellFailed
from driverun.training.script import call_function, run_command, run_script, traceback_of_job
from driverun.training.session import TrainingSession

LONGEST_TRACEBACK = 64 * 1024  #: characters in an event; the log has all of it


def main(spool: SpoolFolder, lifeline: int) -> int:
    """Run one attempt's job; gives the process's exit code."""
    try:
        stand_guard(lifeline)
        lock = _lock(spool)  # noqa: F841 (held until the process ends)
        request = TrainingRequest.read(spool.request)
        session = TrainingSession(request, spool, clock=SystemClock())
    except SpoolError as exc:
        print(f"driverun: {exc}", file=sys.stderr)  # noqa: T201 (the child's stderr is the job's log)
        return REFUSED
    faulthandler.enable()
    # In C, so that it answers while a library holds the interpreter's lock.
    faulthandler.register(STACKS_SIGNAL, all_threads=True, chain=False)
    _listen(session)
    folder = Path(request.working_folder)
    os.chdir(folder)
    os.environ[SPOOL_VARIABLE] = str(spool.path.absolute())
    set_current_run(run_of(request))
    _forget_own_path()
    _seed(session)
    return _Attempt(session, folder).run()


def _lock(spool: SpoolFolder) -> IO[str]:
    try:
        lock = open(spool.trainer_lock, "a+", encoding="ascii")  # noqa: SIM115 (held until the process ends)
    except OSError as exc:
        raise SpoolError(f"cannot train in {spool.path}: {exc.strerror}") from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        lock.seek(0)
        raise SpoolError(
            f"cannot train in {spool.path}: another training process (pid {lock.read().strip()}) is at work there;"
            " a spool belongs to one attempt, start this one in a folder of its own"
        ) from exc
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def _listen(session: TrainingSession) -> None:
    """From now on SIGTERM asks for a snapshot and the end."""

    def ask(_number: int, _frame: object) -> None:
        session.ask_hand_over()

    # A process that the script forks (a pool's worker, say) is ended by SIGTERM like any other. One that comes
    # in between is kept back: Python forgets in a new process which signals have arrived.
    mask = threading.local()

    def keep_back() -> None:
        mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def let_in() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask.before)

    def be_ended() -> None:
        if signal.getsignal(signal.SIGTERM) is ask:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        let_in()

    signal.signal(signal.SIGTERM, ask)
    os.register_at_fork(before=keep_back, after_in_parent=let_in, after_in_child=be_ended)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _forget_own_path() -> None:
    """Let the script see the import path that it would see without driverun, and driverun at its end."""
    if not sys.flags.safe_path:
        del sys.path[0]  # where this process was started
    home = str(Path(driverun.training.__file__).parents[2])
    if home not in sys.path:
        sys.path.append(home)


def _seed(session: TrainingSession) -> None:
    seed = session.request.seed
    random.seed(seed)

    def seed_numpy() -> None:
        sys.modules["numpy"].random.seed(seed)

    def install_keras() -> None:
        from driverun.training import keras_data, keras_fit, keras_stack

        keras_stack.prepare(session)
        if sys.modules["keras"].backend.backend() == "tensorflow":
            keras_data.count_iterations()
            # A process that the script forks has a fit of its own; it would tell of it as if it were this one's.
            os.register_at_fork(after_in_child=keras_fit.install(session))

    after_import("numpy", seed_numpy)
    after_import("keras", install_keras)


class _Attempt:
    """The job's code, from its first line to its outcome."""

    def __init__(self, session: TrainingSession, folder: Path) -> None:
        self._session = session
        self._folder = folder
        self._pid = os.getpid()
        self._has_finished = False
        self._shell: Any = None  #: of a script that was saved from a notebook
        # The first to be registered is the last to be called: what the script's own exit handlers and threads
        # still write is there when the end is told.
        atexit.register(self._tell_finished)

    def run(self) -> int:
        try:
            code = self._execute()
        except SystemExit as exc:
            code = _exit_code(exc)
            message = (
                f"the script ended with {exc.code if isinstance(exc.code, str) else f'exit code {code}'}"
            )
        except JobError as exc:
            self._session.say(str(exc))
            return self._failed(kind="JobError", message=str(exc))
        except CellFailed as exc:
            where = f"cell {exc.cell.number}: "
            if isinstance(exc.cause, JobError):
                self._session.say(f"{where}{exc.cause}")
                return self._failed(kind="JobError", message=f"{where}{exc.cause}")
            return self._raised(exc.cause, where=where)
        except (Exception, KeyboardInterrupt) as exc:  # the boundary of a run: this is the job's outcome
            return self._raised(exc)
        else:
            message = f"the command {_told(code)}"
        if os.getpid() != self._pid:
            return code & 0xFF  # a process that the script forked, and that came to the script's end
        if code and self._session.hand_over_wanted:
            self._session.hand_over()
        if code:
            self._session.say(message)
            self._failed(kind="exit code", message=message)
            return code & 0xFF or 1
        return self._finished()

    def _execute(self) -> int:
        request = self._session.request
        if request.entrypoint_kind == "command":
            return run_command(request.argv, self._folder)
        if request.entrypoint_kind == "function":
            self._stand_in_for_colab()
            call_function(request.entrypoint, request.params, self._folder)
        elif request.entrypoint_kind == "notebook":
            from driverun.training.notebook import run_notebook  # most jobs are scripts

            self._stand_in_for_colab()
            run_notebook(self._session, self._folder, request.entrypoint, request.argv)
        else:
            self._stand_in_for_colab()
            run_script(self._folder, request.entrypoint, request.argv, start_shell=self._shell_of)
        return 0

    def _shell_of(self, main: ModuleType) -> Any:
        if self._shell is None:
            from driverun.training.notebook import start_shell

            self._shell = start_shell(main, self._session, name=self._session.request.entrypoint)
        return self._shell

    def _stand_in_for_colab(self) -> None:
        """For code that asks for it: a library that finds Colab's package takes itself to be in a browser."""
        request = self._session.request
        for name in (request.entrypoint, *request.code_files):
            path = self._folder / name
            if name.endswith((".py", ".ipynb")) and path.is_file() and COLAB.encode() in path.read_bytes():
                install_stand_in(self._folder, say=lambda text: print(f"driverun: {text}", flush=True))  # noqa: T201
                return

    def _raised(self, exc: BaseException, *, where: str = "") -> int:
        exc = exc.with_traceback(traceback_of_job(exc))
        text = "".join(traceback.format_exception(exc))
        with contextlib.suppress(OSError, ValueError):  # the script closed them
            sys.stdout.flush()
            if where:  # of a notebook: only this knows the source of cells
                print(text, end="", file=sys.stderr)  # noqa: T201 (the child's stderr is the job's log)
            else:
                sys.excepthook(type(exc), exc, exc.__traceback__)
            sys.stderr.flush()
        # Before anything is cut: half a secret would not be known for one any more.
        mask = self._session.masker.text
        text = mask(text)
        if len(text) > LONGEST_TRACEBACK:
            text = f"{text[: LONGEST_TRACEBACK // 2]}\n[…]\n{text[-LONGEST_TRACEBACK // 2 :]}"
        return self._failed(kind=type(exc).__name__, message=where + _cause(exc, mask), trace=text)

    def _failed(self, *, kind: str, message: str, trace: str = "") -> int:
        if os.getpid() == self._pid:
            self._session.events.write(EventKind.FAILED, kind=kind, message=message, traceback=trace)
        return 1

    def _finished(self) -> int:
        session, request = self._session, self._session.request
        for task in session.at_end:
            task()
        if request.restore_checkpoint and session.fits_begun <= request.restore_fits:
            session.approximate(
                f"the checkpoint is of fit {request.restore_fits + 1}, the script called fit"
                f" {session.fits_begun} times"
            )
        if request.weights_of is not None and not session.fits_begun:
            session.approximate(
                f"the script calls no fit, so the weights of {request.weights_of} were not used"
            )
        if request.attempt > 1 and not session.fits_begun and request.interrupted_before:
            session.approximate("the script calls no fit, so there is nothing to resume: it started over")
        self._has_finished = True
        return 0

    def _tell_finished(self) -> None:
        session = self._session
        if self._has_finished and os.getpid() == self._pid:
            session.events.write(EventKind.FINISHED, state_sha256=session.state_sha256, step=session.step)


def _exit_code(exc: SystemExit) -> int:
    """What Python makes of the argument of `sys.exit`: None is fine, a number is the code, all else is told."""
    if exc.code is None:
        return 0
    if isinstance(exc.code, int):
        return exc.code
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        print(exc.code, file=sys.stderr, flush=True)  # noqa: T201 (as Python itself does)
    return 1


def _told(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    memory = ", as the system does when memory runs out" if code == -signal.SIGKILL else ""
    return f"was ended by {signal.Signals(-code).name}{memory}"


def _cause(exc: BaseException, mask: Callable[[str], str]) -> str:
    """One line for the person whose job it is, with what to do where that is known."""
    try:
        lines = mask(str(exc)).strip().splitlines()
    except Exception:  # the job's own __str__
        lines = []
    line = lines[0][:500] if lines else type(exc).__name__
    if isinstance(exc, ModuleNotFoundError) and exc.name and "." not in exc.name:
        return (
            f"{line}: it is neither installed on this machine nor a file of the job; write requirements:"
            f" [{exc.name}] into the job file, or put {exc.name}.py into the job's folder"
        )
    advice = advice_on_path(exc)
    if advice is not None:
        return f"{line}: {advice}"
    if isinstance(exc, OSError) and exc.errno == errno.ENOSPC:
        return (
            f"{line}: the disk of this machine is full; let the job write less, keep what need not be a result out"
            " of the working folder, or take a machine with a larger disk"
        )
    return line


if __name__ == "__main__":
    sys.exit(main(SpoolFolder(path=Path(sys.argv[1])), int(sys.argv[2])))
