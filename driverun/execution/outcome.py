"""How an attempt ended, for the worker and whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass

from driverun.runs.record import AttemptState


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt ended."""

    state: AttemptState
    reason: str
    superseded: bool = False  #: another worker owns the run; nothing more was written
    abandoned: bool = False  #: a person asked twice; nothing more was written
    moved_on: bool = False  #: it committed a checkpoint
