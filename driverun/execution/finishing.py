"""What an attempt publishes once its script has ended."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from driverun.errors import IntegrityError, StoreError
from driverun.execution.checkpoint_list import checkpoint_summaries
from driverun.execution.telling import Told
from driverun.execution.workdir import AttemptFolders
from driverun.report.curves import history_csv, read_curves, read_histories
from driverun.report.page import Report, report_html
from driverun.report.summary import AttemptSummary, RunSummary, attempt_summary
from driverun.runs.evidence import ClaimEvidence
from driverun.runs.record import AttemptState, Record, RunFile, worst
from driverun.runs.state import Derived, RunState
from driverun.spec.model import EntrypointKind, JobSpec
from driverun.spec.paths import storable_name
from driverun.spool.outputs import OutputRule, executed_notebook, outputs_sha256, sha256_of
from driverun.storage.base import ObjectStore
from driverun.transfer.segments import read_segments

LOG_TAIL_LINES = 40
OUTPUTS = "outputs/"  #: in the results: what the script wrote


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """The results of a run, still on local disk."""

    files: Mapping[str, Path]  #: path in the results to local file
    outputs_sha256: str
    summary: Mapping[str, Any]  #: goes into the manifest


def collect_results(
    store: ObjectStore,
    record: Record,
    told: Told,
    folders: AttemptFolders,
    *,
    spec: JobSpec,
    run_file: RunFile,
    derived: Derived,
    claims: Iterable[ClaimEvidence],
    now: datetime,
    withheld: Mapping[str, str] = MappingProxyType({}),
) -> Collected:
    """Gather what the script wrote, its models, and driverun's own files about the run.

    Args:
        withheld: paths of results that are not to be published, with why.
    """
    wanted = {path: file for path, file in results_of(spec, folders).items() if path not in withheld}
    outputs = {path.removeprefix(OUTPUTS): file for path, file in wanted.items() if path.startswith(OUTPUTS)}
    digest = outputs_sha256(outputs)
    made = folders.scratch / "results"
    made.mkdir(exist_ok=True)
    # Both are there whatever the job did, so that a script which reads results need not know that.
    metrics = json.dumps(told.metrics, indent=1, sort_keys=True)
    (made / "metrics.json").write_text(f"{metrics}\n", encoding="utf-8")
    (made / "history.csv").write_text(history_csv(read_histories(told.histories)), encoding="utf-8")
    done = replace(
        record,
        state=AttemptState.SUCCEEDED,
        ended_at=now,
        reason="",
        step=told.step,
        total_steps=told.step,
        state_sha256=told.state_sha256,
        outputs_sha256=digest,
    )
    page = _page(store, done, run_file=run_file, derived=derived, claims=tuple(claims))
    (made / "report.html").write_text(page, encoding="utf-8")
    own = {file.name: file for file in sorted(made.iterdir())}
    return Collected(
        files={**own, **wanted},
        outputs_sha256=digest,
        summary={
            "state_sha256": told.state_sha256,
            "outputs_sha256": digest,
            "metrics": dict(told.metrics),
            "step": told.step,
            "record": {"epoch": told.epoch, "fit": told.fit},
        },
    )


def results_of(spec: JobSpec, folders: AttemptFolders) -> dict[str, Path]:
    """What the script wrote and the models of its fits, by path in the results."""
    outputs: dict[str, Path] = {}
    for path, file in outputs_of(spec, folders).items():
        name = storable_name(path)
        if name != path and ((folders.work / name).exists() or f"{OUTPUTS}{name}" in outputs):
            name += "-" + hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
        outputs[f"{OUTPUTS}{name}"] = file
    return {**outputs, **{file.name: file for file in sorted(folders.spool.models.iterdir())}}


def outputs_of(spec: JobSpec, folders: AttemptFolders) -> dict[str, Path]:
    """What the script wrote in its working folder, its own code as it was delivered left out.

    Of a job that is a notebook, the executed notebook is part of it.
    """
    request = json.loads(folders.spool.request.read_text(encoding="utf-8"))
    rule = OutputRule(
        include=spec.outputs.include, exclude=spec.outputs.exclude, code_files=request["code_files"]
    )
    if spec.entrypoint.kind is EntrypointKind.NOTEBOOK:
        rule = rule.with_notebook(executed_notebook(spec.entrypoint.value, rule.code_files))
    found = {path: folders.work / path for path, _ in rule.find(folders.work)}
    delivered = rule.code_files
    return {
        path: file
        for path, file in found.items()
        if path not in delivered or sha256_of(file) != delivered[path]
    }


def _page(
    store: ObjectStore,
    record: Record,
    *,
    run_file: RunFile,
    derived: Derived,
    claims: tuple[ClaimEvidence, ...],
) -> str:
    """The report as it stands at the end of this attempt; what the root does not give now is left out."""
    earlier = [view for view in derived.attempts if view.owned and view.key.number < record.number]
    attempts = [attempt_summary(view) for view in earlier]
    attempts.append(
        AttemptSummary(
            number=record.number,
            worker=record.worker,
            state=record.state,
            started_at=record.started_at,
            ended_at=record.ended_at,
            first_step=record.first_step,
            last_step=record.step,
            committed_step=record.committed_step,
            exactness=record.exactness,
        )
    )
    records = [
        claim.record for claim in claims if claim.record is not None and claim.key.number < record.number
    ]
    reasons = list(dict.fromkeys(r for known in (*records, record) for r in known.exactness_reasons))
    keys = [*(view.key for view in earlier), record.key]
    segments = [
        (key.number, segment.content) for key in keys for segment in _segments(store, key.folder, "metrics-")
    ]
    log = b"".join(segment.content for segment in _segments(store, record.key.folder, "log-"))
    summary = RunSummary(
        run_id=record.run_id,
        name=run_file.name,
        state=RunState.SUCCEEDED,
        exactness=worst(record.exactness, *(known.exactness for known in records)),
        exactness_reasons=tuple(reasons),
        epoch=record.epoch,
        step=record.step,
        total_steps=record.total_steps,
        committed_step=record.committed_step,
        state_sha256=record.state_sha256,
        outputs_sha256=record.outputs_sha256,
        metrics=record.metrics,
        attempts=tuple(attempts),
        checkpoints=checkpoint_summaries(
            store, record.run_id, claims=claims, resume_after=derived.resume_after
        ),
        code_sha256=run_file.code_sha256,
    )
    return report_html(
        Report(
            summary=summary,
            curves=read_curves(segments),
            run_file=run_file,
            environment=record.environment,
            log_tail="\n".join(log.decode(errors="replace").splitlines()[-LOG_TAIL_LINES:]),
        )
    )


def _segments(store: ObjectStore, folder: str, prefix: str) -> list[Any]:
    try:
        return list(read_segments(store, folder, prefix))
    except (StoreError, IntegrityError):
        return []
