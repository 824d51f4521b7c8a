"""What a script may ask about the run it is part of; it works outside a worker too."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from driverun.errors import SpoolError, UsageError
from driverun.spool.folder import SpoolFolder
from driverun.spool.request import TrainingRequest

SPOOL_VARIABLE = "DRIVERUN_SPOOL"  #: tells processes that the trainer starts where its spool is

#: What unquoted text is a value by YAML 1.2's core schema, and with which characters it begins; else it is text.
_CORE_SCHEMA = (
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", "true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", "[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentRun:
    """The run that the calling script belongs to."""

    params: Mapping[str, Any] = field(default_factory=dict)
    data_dir: Path  #: where `data:` of the job file lands
    output_dir: Path  #: the working folder: what is written here is a result
    seed: int = 0
    attempt: int = 1  #: counts the tries at this run, from 1
    run_id: str = ""  #: "" outside a worker
    due: datetime | None = None  #: when the job's schedule wanted this run, in UTC; None: no schedule made it


_current: CurrentRun | None = None


def set_current_run(run: CurrentRun | None) -> None:
    """Tell every later `current_run()` of this process where it is."""
    global _current
    _current = run


def run_of(request: TrainingRequest) -> CurrentRun:
    """The run that a training process was asked for."""
    folder = Path(request.working_folder)
    return CurrentRun(
        params=request.params,
        data_dir=folder / "data",
        output_dir=folder,
        seed=request.seed,
        attempt=request.attempt,
        run_id=request.run_id,
        due=datetime.fromisoformat(request.due) if request.due is not None else None,
    )


def current_run() -> CurrentRun:
    """The run of this process, or of the one that started it; outside a worker one made from `job.yaml`.

    Outside a worker, the `job.yaml` is that of the current folder, if there is one.

    Raises:
        UsageError: it does not parse.
    """
    if _current is not None:
        return _current
    spool = os.environ.get(SPOOL_VARIABLE)
    if spool:
        try:
            return run_of(TrainingRequest.read(SpoolFolder(path=Path(spool)).request))
        except SpoolError:
            pass  # that run is over: its spool is gone
    return _run_of_folder(Path.cwd())


def _run_of_folder(here: Path) -> CurrentRun:
    job_file = here / "job.yaml"
    if not job_file.is_file():
        return CurrentRun(data_dir=here / "data", output_dir=here)
    import yaml  # only outside a worker: a training process is not to pay for it

    try:
        content = _read_yaml(job_file.read_text(encoding="utf-8"))
        content = content if isinstance(content, dict) else {}
        params, seed = content.get("params") or {}, int(content.get("seed") or 0)
    except (yaml.YAMLError, TypeError, ValueError) as exc:
        raise UsageError(f"cannot read {job_file}: {exc}") from exc
    return CurrentRun(params=params, data_dir=here / "data", output_dir=here, seed=seed)


def _read_yaml(text: str) -> Any:
    """The content of a job file with the numbers and words that a worker reads in it.

    PyYAML alone reads YAML 1.1, where 1e-3 is text, 010 is eight and 2024-01-01 is a date. What a worker refuses
    (yes, .nan) is text here.
    """
    import yaml

    class CoreLoader(yaml.SafeLoader):
        """By the core schema of YAML 1.2."""

    CoreLoader.yaml_implicit_resolvers = {}  # none of YAML 1.1
    for kind, pattern, first in _CORE_SCHEMA:
        tag = f"tag:yaml.org,2002:{kind}"
        CoreLoader.add_implicit_resolver(tag, re.compile(f"(?:{pattern})$"), first)
    CoreLoader.add_constructor(
        "tag:yaml.org,2002:int",
        lambda _, node: int(node.value, 0 if node.value.startswith(("0o", "0x")) else 10),
    )
    return yaml.load(text, Loader=CoreLoader)
