"""What the end of an attempt means, for its run and for the person whose job it was."""

from __future__ import annotations

import errno
import traceback

from driverun.errors import (
    DiskFull,
    DriverunError,
    IndexOutOfReach,
    LostOwnership,
    ObjectNotFound,
    StoreAccessDenied,
    StoreQuotaExceeded,
)
from driverun.execution.context import Stop
from driverun.execution.ending import Ended
from driverun.execution.outcome import ABANDONED, Outcome
from driverun.execution.stopping import Abandoned
from driverun.execution.supervising import Trained
from driverun.execution.telling import Told
from driverun.execution.trainer import Exit
from driverun.runs.record import AttemptState, Failure
from driverun.runs.retries import MEMORY


def outcome_of_exit(trained: Trained, told: Told, *, stop: Stop | None) -> Outcome:
    """The outcome when the script did not come to its end and nobody cancelled the run.

    Args:
        stop: why the worker hands over; None: it does not.
    """
    if trained.limit is not None:
        return Outcome.failed(trained.limit)
    if told.failure is not None:
        return Outcome.failed(told.failure)
    if stop is not None:
        return Outcome.interrupted(stop.value)
    return Outcome.failed(_failure_of(trained.exit_))


def outcome_of_error(exc: Exception) -> Outcome:
    """The outcome when the attempt could not go on: some reasons lie in the job, some are over elsewhere or later."""
    match exc:
        case Abandoned():
            return ABANDONED
        case Ended():
            return exc.outcome
        case LostOwnership():
            return Outcome(state=AttemptState.INTERRUPTED, reason=str(exc), superseded=True)
        case StoreQuotaExceeded() | StoreAccessDenied() | ObjectNotFound():
            # A full root, a login that ended, data that somebody removed a moment ago: no fault of the job's.
            return Outcome.interrupted(str(exc))
        case DiskFull() | IndexOutOfReach():
            return Outcome.interrupted(str(exc))
        case DriverunError():
            return Outcome.failed(Failure(kind=type(exc).__name__, message=str(exc), traceback=""))
        case OSError() if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            return Outcome.interrupted(
                f"the disk of this machine is full: {exc}. Free space there, or use a machine with a larger disk"
            )
        case OSError():
            kind = "OSError"
            message = (
                f"this machine could not go on: {exc}. See what is wrong with it, then `driverun retry`."
            )
        case _:
            kind, message = type(exc).__name__, str(exc)
    trace = "".join(traceback.format_exception(exc))
    return Outcome.failed(Failure(kind=kind, message=message, traceback=trace))


def _failure_of(exit_: Exit) -> Failure:
    """Why a process ended that neither finished nor said what went wrong."""
    if exit_.killed_by_kernel:
        return Failure(
            kind=MEMORY,
            message=(
                f"the system killed the training process for its memory, at a peak of {exit_.peak_bytes / 1e9:.1f} GB."
                " Use a smaller batch, load the data piece by piece, or take a machine with more memory;"
                " then `driverun retry` goes on from the last checkpoint."
            ),
            traceback="",
        )
    if exit_.code < 0:
        return Failure(
            kind="signal",
            message=(
                f"the training process was ended by signal {-exit_.code}, at a peak of"
                f" {exit_.peak_bytes / 1e9:.1f} GB of memory. See the end of `driverun logs`; `driverun retry` goes on"
                " from the last checkpoint."
            ),
            traceback="",
        )
    return Failure(
        kind="exit code",
        message=f"the training process ended with code {exit_.code} before the script did. See `driverun logs`.",
        traceback="",
    )
