"""How often a checkpoint is made, as a value and as it is written."""

from __future__ import annotations

import enum
import math
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, model_serializer, model_validator

from driverun.spec.units import DURATION_PATTERN, exact_duration, parse_duration

_COUNTED = r"([0-9]{1,12}) ?(step|epoch)s?"
CADENCE_PATTERN = rf"^(?:auto|(?=.*[1-9])(?:[0-9]{{1,12}} ?(?:step|epoch)s?|{DURATION_PATTERN}))$"
_HELP = "write auto, a duration (30s), a number of steps (500 steps) or of epochs (1 epoch)"


class CadenceKind(enum.Enum):
    AUTO = "auto"  #: from the measured cost of a snapshot
    SECONDS = "seconds"
    STEPS = "steps"
    EPOCHS = "epochs"


class Cadence(BaseModel):
    """How often a checkpoint is made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: CadenceKind = CadenceKind.AUTO
    value: float | int | None = None

    @property
    def written(self) -> str:
        """The cadence as a job file writes it; `read_cadence` turns it back into the same value."""
        if self.value is None:
            return "auto"
        if self.kind is CadenceKind.SECONDS:
            return exact_duration(self.value)
        unit = self.kind.value if self.value != 1 else self.kind.value.removesuffix("s")
        return f"{self.value} {unit}"

    @model_validator(mode="after")
    def _has_the_value_of_its_kind(self) -> Cadence:
        if (self.kind is CadenceKind.AUTO) != (self.value is None):
            raise ValueError("auto has no value, every other cadence has one")
        if self.value is not None and not (math.isfinite(self.value) and self.value > 0):
            raise ValueError(f"a checkpoint every {self.value:g} {self.kind.value} is not possible; {_HELP}")
        if self.kind in (CadenceKind.STEPS, CadenceKind.EPOCHS) and not isinstance(self.value, int):
            raise ValueError(f"{self.kind.value} are counted in whole numbers")
        return self

    @model_serializer
    def _as_written(self) -> str:
        return self.written


def read_cadence(written: Any) -> Cadence:
    """Return the cadence that a job file writes as text.

    Raises:
        ValueError: it is none, or not above zero.
    """
    if isinstance(written, Cadence):
        return written
    if isinstance(written, (int, float)) and not isinstance(written, bool):
        raise ValueError(f"{written} of what? Write {written}s, {written} steps or {written} epochs")
    if not isinstance(written, str):
        raise ValueError(_HELP)
    if written == "auto":
        return Cadence()
    kind, value = CadenceKind.SECONDS, 0.0
    if counted := re.fullmatch(_COUNTED, written):
        kind, value = CadenceKind(f"{counted[2]}s"), int(counted[1])
    elif re.fullmatch(DURATION_PATTERN, written):
        value = parse_duration(written)
    else:
        raise ValueError(f"{written!r} is not a cadence: {_HELP}")
    if value <= 0:
        raise ValueError(f"a checkpoint every {written} is not possible: the number has to be above zero")
    return Cadence(kind=kind, value=value)
