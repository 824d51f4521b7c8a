"""What a script may ask about the run it is part of; it works outside a worker too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentRun:
    """The run that the calling script belongs to."""

    params: Mapping[str, Any] = field(default_factory=dict)
    data_dir: Path  #: where `data:` of the job file lands
    output_dir: Path  #: the working folder: what is written here is a result
    seed: int = 0
    attempt: int = 1  #: counts the tries at this run, from 1
    run_id: str = ""  #: "" outside a worker


_current: CurrentRun | None = None


def set_current_run(run: CurrentRun | None) -> None:
    """Tell every later `current_run()` of this process where it is."""
    global _current
    _current = run


def current_run() -> CurrentRun:
    """The run of this process; outside a worker one made from the `job.yaml` in the current folder, if there is one."""
    if _current is not None:
        return _current
    here = Path.cwd()
    params: Mapping[str, Any] = {}
    seed = 0
    job_file = here / "job.yaml"
    if job_file.is_file():
        content = yaml.safe_load(job_file.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            params = content.get("params") or {}
            seed = int(content.get("seed") or 0)
    return CurrentRun(params=params, data_dir=here / "data", output_dir=here, seed=seed)
