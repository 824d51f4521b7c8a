"""Runs to report on."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from driverun.report.summary import AttemptSummary, CheckpointSummary, RunSummary
from driverun.runs.evidence import ClaimEvidence
from driverun.runs.layout import AttemptKey
from driverun.runs.record import AttemptState, ProcessId, Record, RunFile
from driverun.runs.state import RunState

RUN_ID = "mnist-0123456789ab"
START = datetime(2025, 3, 1, 12, 0, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def key(number: int) -> AttemptKey:
    return AttemptKey(run_id=RUN_ID, number=number, worker=f"work{number}")


def claim(number: int, seconds: float, *, heard: float | None = None, **fields: Any) -> ClaimEvidence:
    """The claim of an attempt with the record that `fields` describe, if there are any."""
    record = None
    if fields:
        fields = {"state": AttemptState.RUNNING, "beat": 1, **fields}
        record = Record(
            run_id=RUN_ID,
            number=number,
            worker=f"work{number}",
            process=ProcessId(host="lab", boot_id="b", pid=1, started=""),
            started_at=at(seconds),
            updated_at=at(seconds),
            **fields,
        )
    return ClaimEvidence(
        key=key(number),
        created_at=at(seconds),
        object_id=f"claim-{number}",
        record=record,
        record_modified_at=at(seconds if heard is None else heard) if record is not None else None,
    )


RUN_FILE = RunFile(
    run_id=RUN_ID,
    name="mnist",
    code_sha256="c0de" * 16,
    computed={
        "code_sha256": "c0de" * 16,
        "entrypoint": {"kind": "script", "value": "train.py", "argv": ["--fast"]},
        "params": {"epochs": 3, "optimizer": {"name": "adam"}},
        "data": [{"source": "data/mnist.npz", "target": "data/mnist.npz", "optional": False}],
        "outputs": {"include": ["**"], "exclude": ["*.tmp"]},
        "seed": 7,
        "deterministic": True,
        "requirements": [],
        "repeat": 0,
    },
)


def attempt(
    number: int, begin: float, end: float | None, first: int, last: int, **fields: Any
) -> AttemptSummary:
    return AttemptSummary(
        **{
            "number": number,
            "worker": f"work{number}",
            "state": AttemptState.INTERRUPTED,
            "started_at": at(begin),
            "ended_at": at(end) if end is not None else None,
            "first_step": first,
            "last_step": last,
            **fields,
        }
    )


ATTEMPTS = (
    attempt(1, 0, 30, 0, 130, died=True, reason="it ended without a word"),
    attempt(2, 60, 90, 100, 300, state=AttemptState.SUCCEEDED),
)


def run(**fields: Any) -> RunSummary:
    """A run that was cut once and succeeded."""
    return RunSummary(
        **{
            "run_id": RUN_ID,
            "name": "mnist",
            "state": RunState.SUCCEEDED,
            "epoch": 3,
            "step": 300,
            "total_steps": 300,
            "committed_step": 300,
            "state_sha256": "5a" * 32,
            "outputs_sha256": "0b" * 32,
            "metrics": {"fit.loss": 0.25, "fit.val_loss": 0.5, "evaluate.loss": 0.4375},
            "attempts": ATTEMPTS,
            "checkpoints": (
                CheckpointSummary(
                    step=100, attempt=1, size_bytes=2_000_000, new_bytes=2_000_000, created_at=at(20)
                ),
                CheckpointSummary(
                    step=300, attempt=2, size_bytes=2_000_000, new_bytes=500_000, created_at=at(88)
                ),
            ),
            "results_path": f"runs/{RUN_ID}.0002.work2/results",
            "created_at": at(-10),
            "code_sha256": "c0de" * 16,
            **fields,
        }
    )


def event(kind: str, **fields: Any) -> bytes:
    return json.dumps({"event": kind, "at": 0.0, **fields}).encode() + b"\n"


def epoch_ended(fit: int, epoch: int, step: int, **logs: float) -> bytes:
    return event("epoch_ended", fit=fit, epoch=epoch, step=step, logs=logs)
