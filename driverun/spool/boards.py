"""Two small mapped files through which the processes see each other without a system call."""

from __future__ import annotations

import enum
import mmap
import os
import signal
import struct
from dataclasses import dataclass
from pathlib import Path

STACKS_SIGNAL = signal.SIGUSR2  #: has a training process write the stacks of its threads into its log


class Control(enum.IntEnum):
    """What the runner wants from the trainer."""

    GO_ON = 0
    HAND_OVER = 1  #: take a snapshot at the next step boundary, then end
    END = 2  #: end at the next step boundary


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where training stands; every number -1 until it is known."""

    fit: int = -1  #: index of the fit in progress, from 0
    epoch: int = -1  #: epochs finished in it
    step: int = -1  #: optimiser updates of the whole run
    step_in_epoch: int = -1
    steps_per_epoch: int = -1
    total_steps: int = -1
    executed: int = 0  #: optimiser updates that this process has made, repeated ones included


_PROGRESS = struct.Struct("<7q")


class _Board:
    def __init__(self, path: Path, initial: bytes) -> None:
        if not path.exists() or path.stat().st_size != len(initial):
            # Whole at once: a board cut short under the other process's map would end that process.
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            temporary.write_bytes(initial)
            os.replace(temporary, path)
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), len(initial))

    def close(self) -> None:
        self._map.close()


class ControlBoard(_Board):
    """One byte, written by the runner."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, bytes([Control.GO_ON]))

    def read(self) -> Control:
        return Control(self._map[0])

    def write(self, control: Control) -> None:
        self._map[0] = int(control)

    @property
    def is_raised(self) -> bool:
        """Whether anything but GO_ON is wanted; cheap enough for every step."""
        return self._map[0] != 0


class ProgressBoard(_Board):
    """Seven numbers, written by the trainer. A reader may see two steps mixed; they are for display."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _PROGRESS.pack(-1, -1, -1, -1, -1, -1, 0))

    def write(self, progress: Progress) -> None:
        self.put(
            progress.fit,
            progress.epoch,
            progress.step,
            progress.step_in_epoch,
            progress.steps_per_epoch,
            progress.total_steps,
            progress.executed,
        )

    def put(self, *numbers: int) -> None:
        """The fields of Progress, in order, without making one: for every step."""
        # Not pack_into: it clears the memory first, and a reader would see zeros.
        self._map[:] = _PROGRESS.pack(*numbers)

    def read(self) -> Progress:
        fit, epoch, step, step_in_epoch, steps_per_epoch, total_steps, executed = _PROGRESS.unpack_from(
            self._map
        )
        return Progress(
            fit=fit,
            epoch=epoch,
            step=step,
            step_in_epoch=step_in_epoch,
            steps_per_epoch=steps_per_epoch,
            total_steps=total_steps,
            executed=executed,
        )
