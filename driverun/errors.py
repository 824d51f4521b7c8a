"""Every exception that driverun raises on purpose.

    DriverunError
    ├── UsageError                  mend the call: bad arguments, a root that is none       (exit 2)
    │   ├── SpecError               mend the job file: carries every fault at once
    │   ├── RootNotFound            there is no root here: run `driverun init`
    │   ├── RunNotFound             no run of that name
    │   └── UnsafePath              a path that leaves the place it belongs to
    ├── StoreError                  something about bytes on the root
    │   ├── ObjectNotFound          nothing is there
    │   ├── ObjectExists            something is there already, nothing was changed
    │   ├── TransientStoreError     try again; the operation may have happened              (exit 75)
    │   ├── StoreQuotaExceeded      the root is full: free space, then go on
    │   └── StoreAccessDenied       the root refuses us: mend permissions
    ├── IntegrityError              bytes are not what their checksum says: never use them
    ├── LostOwnership               another worker owns the run: stop, change nothing
    ├── SpoolError                  the two processes disagree about the folder between them
    ├── RunFailed                   a run whose results were asked for has none and will not have any
    ├── WaitTimeout                 a run was not over in the time that was given; a TimeoutError as well
    ├── RequirementsError           the packages that a job asks for cannot be had: mend the job file
    ├── IndexOutOfReach             packages cannot be downloaded now: try again later
    └── JobError                    the job itself ended badly: its owner has to act
        └── DiskFull                this machine has no room for it: free some, or take another machine

The branches are split by what the caller will do; retry is decided by type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class DriverunError(Exception):
    """Base of every error that driverun raises on purpose.

    The message says what was being done, to what, what happened, what to do next.
    """


class UsageError(DriverunError):
    """The call cannot work as it was made; nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong in a job file, with the place where a person mends it."""

    file: str
    line: int | None  #: counted from 1; None where no line is to blame
    field: str  #: dotted, as in `checkpoint.every`; empty for the file as a whole
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        subject = f"{self.field}: " if self.field else ""
        return f"{place}: {subject}{self.message}"


class SpecError(UsageError):
    """A job file is faulty; `faults` lists all of them, in the order of the file."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class RootNotFound(UsageError):
    """No root was given and none was found."""


class RunNotFound(UsageError):
    """The root holds no run of that name."""


class UnsafePath(UsageError):
    """A path leaves the folder that it has to stay in."""


class StoreError(DriverunError):
    """An operation on the root did not succeed.

    Attributes:
        path: the path on the root that the operation was about, "" for the root itself.
    """

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class ObjectNotFound(StoreError):
    """Nothing is stored under the path."""


class ObjectExists(StoreError):
    """The path is taken; what is there was not changed."""


class TransientStoreError(StoreError):
    """The answer was lost or the root is busy; repeating the same call is safe.

    Attributes:
        retry_after_s: for how long the root wants to be left alone, in seconds; None where it did not say.
        made_progress: a part of the work is done for good, and repeating the call goes on from there.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str = "",
        retry_after_s: float | None = None,
        made_progress: bool = False,
    ) -> None:
        super().__init__(message, path=path)
        self.retry_after_s = retry_after_s
        self.made_progress = made_progress


class StoreQuotaExceeded(StoreError):
    """The root is full; nothing was created."""


class StoreAccessDenied(StoreError):
    """The root refuses the operation and will go on refusing it."""


class IntegrityError(DriverunError):
    """Bytes differ from what their checksum promises; nothing of them was used."""


class RequirementsError(DriverunError):
    """The packages that a job asks for do not exist, or do not go with each other or with the runtime's."""


class IndexOutOfReach(DriverunError):
    """Where packages come from does not answer; nothing is wrong with the job."""


class LostOwnership(DriverunError):
    """A newer attempt owns the run; this one has to stop and write nothing more."""


class SpoolError(DriverunError):
    """The spool is taken by another process or does not hold what it should."""


class RunFailed(DriverunError):
    """A run ended without results.

    Attributes:
        run_id: the run.
        state: FAILED or CANCELLED.
        reason: one line; "" where there is nothing to say.
    """

    def __init__(self, message: str, *, run_id: str, state: str, reason: str) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.state = state
        self.reason = reason


class WaitTimeout(DriverunError, TimeoutError):
    """What was waited for did not come in the time that was given; it may come yet."""


class JobError(DriverunError):
    """The job's own code or environment failed; running it again unchanged would fail again."""


class DiskFull(JobError):
    """The disk of this machine has no room for the job; another machine may have."""
