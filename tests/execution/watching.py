"""Scripted trainers during which a test does something."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from driverun.execution.trainer import Exit, Trainer
from driverun.spool.folder import SpoolFolder
from tests.execution.world import ScriptedTrainer, World


class WatchedTrainer(ScriptedTrainer):
    """Calls `before` with itself each time that it is looked at."""

    before: Callable[[WatchedTrainer], None]

    @property
    def step(self) -> int:
        return self._step

    def poll(self) -> Exit | None:
        if self._exit is None:
            self.before(self)
        return super().poll()


def watched(world: World, before: Callable[[WatchedTrainer], None]) -> Callable[..., Trainer]:
    """A way to start trainers that call `before` at every look."""

    def start(spool: SpoolFolder, *, work: Path, on_line: Callable[[str], None], **_: Any) -> Trainer:
        trainer = WatchedTrainer(world.plan, spool, work, world.executed)
        trainer.before = before
        return trainer

    return start


def once_at(step: int, act: Callable[[], object]) -> Callable[[WatchedTrainer], None]:
    """Do `act` the first time that a trainer has come to `step`."""
    done: list[int] = []

    def before(trainer: WatchedTrainer) -> None:
        if trainer.step >= step and not done:
            done.append(trainer.step)
            act()

    return before
