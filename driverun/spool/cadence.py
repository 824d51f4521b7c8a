"""When the training process takes its next snapshot."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Self

from driverun.errors import SpoolError

MTBF_S = 2 * 3600.0  #: how long a runtime lives on average; free Colab sessions end after minutes to 12 hours
SHORTEST_S = 10.0
LARGEST_SHARE = 0.01  #: of the time, for taking snapshots


def auto_interval_s(capture_s: float, commit_s: float = 0.0) -> float:
    """The interval between snapshots, in seconds, that loses least time in all.

    The first-order optimum sqrt(2 * cost * mean time between failures) of Young (1974), which Daly (2006)
    refines by terms that vanish where the cost is small against the MTBF, as it is here. It is raised so that
    snapshots take no more than 1 % of the time, that one is committed before the next, and to 10 s.

    Args:
        capture_s: for how long one snapshot holds training up.
        commit_s: how long it takes to get one to the root; that does not hold training up.
    """
    optimum_s = math.sqrt(2 * max(0.0, capture_s) * MTBF_S)
    return max(SHORTEST_S, optimum_s, capture_s / LARGEST_SHARE, commit_s)


class CadenceKind(enum.Enum):
    """What is counted between two snapshots; the values are those of a training request."""

    AUTO = "auto"  #: from measured cost
    SECONDS = "seconds"
    STEPS = "steps"
    EPOCHS = "epochs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cadence:
    """How often a snapshot is taken."""

    kind: CadenceKind = CadenceKind.AUTO
    value: float = 0.0  #: in the unit of `kind`; AUTO has none

    @classmethod
    def of_request(cls, kind: str, value: float | None) -> Self:
        """From a request's `cadence_kind` and `cadence_value`. Raises SpoolError for what is none."""
        try:
            known = CadenceKind(kind)
        except ValueError as exc:
            raise SpoolError(f"cannot take a snapshot every {value} {kind}: no such cadence") from exc
        if known is CadenceKind.AUTO:
            return cls()
        if value is None or not value > 0:
            raise SpoolError(f"cannot take a snapshot every {value} {kind}: it has to be more than 0")
        return cls(kind=known, value=value)

    def due(
        self,
        *,
        now_s: float,
        last_s: float,
        steps_since: int,
        epochs_since: int,
        capture_s: float,
        commit_s: float = 0.0,
    ) -> bool:
        """Whether to take a snapshot at this step boundary.

        Args:
            now_s: by a monotonic clock.
            last_s: by the same clock, when the last snapshot had been taken, or training began.
            steps_since: optimiser updates since then.
            epochs_since: epochs that ended since then.
            capture_s: for how long the last one held training up; 0 before the first.
            commit_s: how long the last one took to get to the root, if that is known.
        """
        if steps_since <= 0:
            return False  # a checkpoint is known by its step, so there is nothing new to keep
        match self.kind:
            case CadenceKind.AUTO:
                return now_s - last_s >= auto_interval_s(capture_s, commit_s)
            case CadenceKind.SECONDS:
                return now_s - last_s >= self.value
            case CadenceKind.STEPS:
                return steps_since >= self.value
            case CadenceKind.EPOCHS:
                return epochs_since >= self.value
