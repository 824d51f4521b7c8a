"""What the runner asks of a training process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from driverun.errors import SpoolError


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRequest:
    """Everything a training process needs to know; written once, before it starts."""

    run_id: str
    name: str
    attempt: int
    worker: str
    entrypoint_kind: str  #: "script", "notebook", "function", "command"
    entrypoint: str
    argv: tuple[str, ...]
    params: Mapping[str, Any]
    seed: int
    deterministic: bool | None  #: None: on where there is only a CPU
    backend: str | None
    working_folder: str  #: absolute; holds the code and data/
    buffers: str  #: absolute; where the two snapshots are kept, on disk
    cadence_kind: str  #: "auto", "seconds", "steps", "epochs"
    cadence_value: float | None
    monitor: str | None
    code_files: Mapping[str, str] = field(
        default_factory=dict
    )  #: path in the working folder -> sha256: not a result
    outputs_include: tuple[str, ...] = ("**",)
    outputs_exclude: tuple[str, ...] = ()
    max_checkpoint_size_bytes: int = 10**9
    restore_fits: int = 0  #: how many finished fits lie under restore/fits/
    restore_checkpoint: bool = False  #: whether restore/checkpoint/ holds a fit to take up
    resumed_step: int = 0  #: optimiser updates of the run that need not be made again
    interrupted_before: bool = False  #: whether an earlier attempt began this run and did not end it
    code_changed: bool = False  #: whether the code is another than the one that was checkpointed
    continues: str | None = (
        None  #: the run whose fit restore/checkpoint/ holds: this one trains it for more epochs
    )
    weights_of: str | None = (
        None  #: the run whose state restore/weights/ holds: the first fit starts from its weights
    )
    memory_buffers: str | None = None  #: the same in memory, for a state that is a small part of what is free
    code_sha256: str = ""  #: of the code that runs, for the checkpoint's fingerprint
    data_sha256: str = ""  #: of the data it was given, likewise
    secrets: tuple[str, ...] = ()  #: variables of the process that hold one; the values are in no file
    due: str | None = None  #: when its schedule wanted the run, ISO 8601 in UTC; None: no schedule made it
    notes: tuple[str, ...] = ()  #: reasons why the run is approximate that the runner already knows

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises SpoolError for what is no request; fields that this version does not know are ignored."""
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            known = {name: raw[name] for name in cls.__dataclass_fields__ if name in raw}
            for name in ("argv", "outputs_include", "outputs_exclude", "notes", "secrets"):
                if name in known:
                    known[name] = tuple(known[name])
            return cls(**known)
        except (OSError, TypeError, ValueError, KeyError) as exc:
            raise SpoolError(f"cannot read the request {path}: {exc}") from exc
