"""Keeps trying to put on the root what must not be lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from driverun.errors import (
    LostOwnership,
    SpoolError,
    StoreAccessDenied,
    StoreError,
    StoreQuotaExceeded,
    TransientStoreError,
)
from driverun.execution.context import WorkerContext
from driverun.execution.stopping import rest, unless_abandoned
from driverun.execution.trouble import Trouble

T = TypeVar("T")

#: For the last commits and the results while the root as a whole is the trouble, and nobody wants the worker to end ...
PATIENCE_S = 12 * 3600.0
FINAL_S = 300.0  #: ... and for everything else
RETRY_S = 5.0
LONGEST_RETRY_S = 60.0


def persist(context: WorkerContext, act: Callable[[], T], *, what: str) -> T:
    """Do it, again and again while the root is the trouble: what was trained is not given up lightly.

    Args:
        act: is safe to be called again after it failed.
        what: it puts there, for who watches the worker.

    Raises:
        LostOwnership, SpoolError: at once; trying again would not help.
        StoreError: the root stood in the way for longer than PATIENCE_S, or FINAL_S once somebody asked for the end.
        Abandoned: a person has asked twice.
    """
    clock, stop = context.clock, context.stop
    trouble = Trouble(context.say, clock)
    began_s = clock.monotonic()
    final_from_s: float | None = None
    retry_s = RETRY_S
    while True:
        try:
            done = unless_abandoned(context, act)
            trouble.over(f"{what}: the root lets us go on")
            return done
        except (LostOwnership, SpoolError):
            raise
        except StoreError as exc:
            now_s = clock.monotonic()
            is_roots = isinstance(exc, TransientStoreError | StoreQuotaExceeded | StoreAccessDenied)
            is_patient = is_roots and stop.stop is None and now_s - began_s < PATIENCE_S
            if final_from_s is None and not is_patient:
                final_from_s = now_s
            is_over = final_from_s is not None and now_s - final_from_s >= FINAL_S
            if is_over or stop.abandon:
                raise
            trouble.met(exc, f"{what}: not on the root yet, this worker keeps trying: {exc}")
            _rest(context, retry_s)
            retry_s = min(2 * retry_s, LONGEST_RETRY_S)
            context.tasks.turn()


def _rest(context: WorkerContext, seconds: float) -> None:
    """Sleep so long; shorter where somebody asks for something meanwhile."""
    stop = context.stop
    before = stop.stop
    rest(context.clock, seconds, unless=lambda: stop.abandon or stop.stop is not before)
