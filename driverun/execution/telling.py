"""What the trainer's events say about the attempt, gathered for its record and its results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from driverun.runs.record import Exactness, Failure
from driverun.spool.events import Event, EventKind


@dataclass(slots=True, kw_only=True)
class Told:
    """The sum of all events so far."""

    environment: dict[str, Any] = field(default_factory=dict)
    exactness: Exactness = Exactness.EXACT
    reasons: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    histories: list[Mapping[str, Any]] = field(default_factory=list)  #: the fields of fit_ended events
    first_step: int | None = None
    step: int = 0
    fit: int | None = None
    epoch: int | None = None
    total_steps: int | None = None
    logs: Mapping[str, float] = field(
        default_factory=dict
    )  #: the newest of the epoch in progress, or of the last
    buffers: str | None = None  #: where snapshots are kept
    snapshots: int = 0
    fits_ended: int = 0  #: in this attempt, replayed ones not counted
    state_sha256: str | None = None
    finished: bool = False
    handed_over: bool = False
    failure: Failure | None = None

    def take(self, event: Event) -> None:
        """Add one event."""
        fields = event.fields
        match event.kind:
            case EventKind.STARTED:
                self.environment.update(fields["environment"])
            case EventKind.APPROXIMATE:
                self.weaken(Exactness.APPROXIMATE, fields["reason"])
            case EventKind.STEP_EXACT:
                self.weaken(Exactness.STEP_EXACT, fields["reason"])
            case EventKind.FIT_BEGUN:
                self.fit, self.epoch, self.logs = fields["fit"], 0, {}
                self.total_steps = fields["total_steps"]
                self.step = max(self.step, fields["step"])
                if not fields["taken_up"] and self.first_step is None:
                    self.first_step = fields["step"]
            case EventKind.RESUMED:
                self.epoch, self.step = fields["epoch"], fields["step"]
                self.first_step = fields["step"]
            case EventKind.EPOCH_ENDED:
                self.epoch, self.step = fields["epoch"] + 1, fields["step"]
                self._measure("fit", fields["logs"])
                self.logs = _numbers(fields["logs"])
            case EventKind.PROGRESS:
                self.logs = _numbers(fields["logs"])
            case EventKind.FIT_ENDED:
                self._fit_ended(fields)
            case EventKind.EVALUATED:
                self._measure("evaluate", fields["logs"])
            case EventKind.SNAPSHOT:
                self.snapshots += 1
                self.buffers = fields["buffers"]
            case EventKind.FINISHED:
                self.finished = True
                self.state_sha256 = fields["state_sha256"]
            case EventKind.FAILED:
                self.failure = Failure(
                    kind=fields["kind"], message=fields["message"], traceback=fields["traceback"]
                )
            case EventKind.HANDED_OVER:
                self.handed_over = True
            case EventKind.SAID | EventKind.MODEL_SAVED:
                pass

    def weaken(self, level: Exactness, reason: str) -> None:
        """The attempt can claim no more than `level`, for this reason."""
        if level.rank > self.exactness.rank:
            self.exactness = level
        if reason not in self.reasons:
            self.reasons.append(reason)

    def _fit_ended(self, fields: Mapping[str, Any]) -> None:
        self.histories = [known for known in self.histories if known["fit"] != fields["fit"]]
        self.histories.append(fields)
        self.step = self.total_steps = fields["step"]
        self.fit, self.epoch = fields["fit"], (fields["epochs"][-1] + 1 if fields["epochs"] else 0)
        self._measure("fit", {name: values[-1] for name, values in fields["history"].items() if values})
        if not fields["replayed"]:
            self.fits_ended += 1
        elif self.first_step is None or self.first_step < fields["step"]:
            self.first_step = fields["step"]

    def _measure(self, what: str, logs: Mapping[str, Any]) -> None:
        for name, value in _numbers(logs).items():
            self.metrics[f"{what}.{name}"] = value


def _numbers(logs: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in logs.items() if isinstance(value, int | float)}
