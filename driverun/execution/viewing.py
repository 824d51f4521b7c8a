"""What a worker is at, as values for a live display."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from driverun.execution.context import Stop
from driverun.execution.outcome import Outcome
from driverun.runs.record import Exactness
from driverun.runs.state import RunState

PACE_OVER_S = 15.0  #: what the pace is an average of
PACE_EVERY_S = 0.5  #: between two samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """How far the checkpoint is that is on its way to the root."""

    done_bytes: int
    total_bytes: int
    left_s: float | None  #: at the present rate; None where there is none yet


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run of the queue, as of the worker's last look."""

    run_id: str
    state: RunState
    note: str = ""  #: why it waits, or how it ended; "" where there is nothing to say


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptView:
    """What an attempt of this worker is at, or how it ended."""

    run_id: str
    number: int
    doing: str  #: one plain phrase: "training", "bringing data: 12 of 50 files, ..."
    fit: int | None = None  #: index of the fit in progress, from 0
    epoch: int | None = None  #: epochs finished in it
    step: int = 0  #: optimiser updates of the whole run so far
    total_steps: int | None = None  #: None where it cannot be known
    steps_per_s: float | None = None  #: of late; None where it does not train
    logs: Mapping[str, float]  #: loss and metrics, as the training process told them last
    first_step: int | None = None  #: where training took up; None until it began
    resumed_step: int = 0  #: of the checkpoint that it takes up; 0: from the start
    resumed_from_attempt: int | None = None  #: which attempt made that checkpoint
    committed_step: int | None = None  #: of the newest checkpoint that this attempt committed
    committed_age_s: float | None = None  #: since that checkpoint was on the root
    sending: Sending | None = None  #: the checkpoint that is on its way now
    exactness: Exactness = Exactness.EXACT
    outcome: Outcome | None = None  #: None while it is at work


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """What a worker is at."""

    runs: tuple[RunView, ...] = ()  #: all that are not over, and those that ended here
    attempt: AttemptView | None = None  #: in progress
    finished: tuple[AttemptView, ...] = ()  #: that ended here, oldest first
    stop: Stop | None = None  #: why it hands over; None: nobody asked
    waiting: str = ""  #: what it waits for; "" while it works


class Pace:
    """Steps per second of late. One thread notes, any may ask."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()
        self.steps_per_s: float | None = None  #: None until two samples differ

    def note(self, now_s: float, executed: int) -> None:
        """At `now_s`, by a monotonic clock, so many steps were made in all."""
        samples = self._samples
        if samples and now_s - samples[-1][0] < PACE_EVERY_S:
            return
        if not samples and not executed:
            return  # the time until the first step says nothing about the next ones
        samples.append((now_s, executed))
        while len(samples) > 2 and now_s - samples[1][0] > PACE_OVER_S:
            samples.popleft()
        (began_s, began), (ended_s, ended) = samples[0], samples[-1]
        if ended > began and ended_s > began_s:
            self.steps_per_s = (ended - began) / (ended_s - began_s)
        elif ended_s - began_s > PACE_OVER_S:
            self.steps_per_s = None
