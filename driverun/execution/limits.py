"""How long a run may work and how long its job may be silent, watched while an attempt trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from driverun.runs.record import Failure
from driverun.runs.retries import TIMEOUT
from driverun.spec.model import JobSpec
from driverun.spec.units import format_duration

IDLE = "Idle"  #: the kind of a failure: neither a step nor a line for as long as the job allows
HELD_UP_S = 5.0  #: between two looks; beyond it this worker stood still itself, and its job with it


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a job allows, as it was submitted last; None: there is no limit."""

    timeout_s: float | None = None
    stop_when_idle_s: float | None = None

    @classmethod
    def of(cls, spec: JobSpec) -> Self:
        return cls(timeout_s=spec.timeout_s, stop_when_idle_s=spec.stop_when_idle_s)


class LimitWatch:
    """Tells when an attempt has reached a limit. It may be used from many threads."""

    def __init__(self, limits: Limits, *, run_id: str, began_s: float, worked_before_s: float) -> None:
        """Count from `began_s`, by the monotonic clock.

        Args:
            worked_before_s: of the allowance, what earlier attempts have used.
        """
        self.limits = limits  #: replaced as a whole where a newer submission says otherwise
        self._run_id = run_id
        self._began_s = began_s
        self._worked_before_s = worked_before_s
        self._active_s: float | None = None  # None: there is no training process
        self._looked_s: float | None = None
        self._executed = 0

    def process_started(self, now_s: float) -> None:
        """From now on the job may be silent for no longer than it allows."""
        self._active_s = now_s

    def wrote_line(self, now_s: float) -> None:
        self._active_s = now_s

    def has_executed(self, steps: int, now_s: float) -> None:
        """The training process has made so many steps in all."""
        if steps != self._executed:
            self._executed = steps
            self._active_s = now_s

    def timed_out(self, now_s: float) -> Failure | None:
        """Why the run may not work any longer; None while it may."""
        timeout_s = self.limits.timeout_s
        worked_s = self._worked_before_s + now_s - self._began_s
        if timeout_s is None or worked_s < timeout_s:
            return None
        allowed = format_duration(timeout_s)
        message = (
            f"the run has worked for {format_duration(worked_s)} in all, and `timeout` allows {allowed}."
            f" Its newest checkpoint is kept: `driverun retry {self._run_id}` goes on from there for {allowed} more;"
            " for longer, submit the job with another timeout first."
        )
        return Failure(kind=TIMEOUT, message=message, traceback="")

    def fell_idle(self, now_s: float) -> Failure | None:
        """Why the job counts as stuck; None while it does not. Asked at every look.

        Time in which nobody looked is not held against the job: Ctrl-Z stops both processes, and so does a virtual
        machine that is put to sleep.
        """
        if self._active_s is not None and self._looked_s is not None:
            held_up_s = max(0.0, now_s - self._looked_s - HELD_UP_S)
            self._active_s = min(now_s, self._active_s + held_up_s)
        self._looked_s = now_s
        idle_s = self.limits.stop_when_idle_s
        if idle_s is None or self._active_s is None or now_s - self._active_s < idle_s:
            return None
        message = (
            f"no step and no line of output for {format_duration(idle_s)}, which is what `stop_when_idle` allows."
            f" Where each thread of the job stood is at the end of `driverun logs {self._run_id}`."
        )
        return Failure(kind=IDLE, message=message, traceback="")
