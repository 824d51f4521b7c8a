"""The schedules of a root: since when each counts, and which due times want a run."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from driverun.dispatch.ledger import Ledger
from driverun.errors import Fault, ObjectExists
from driverun.runs.evidence import RunEvidence
from driverun.runs.layout import SCHEDULES, ScheduleWish, schedule_file
from driverun.runs.schedule import ScheduleFile, ScheduleHistory, histories
from driverun.spec.due import Span, next_due, to_make
from driverun.spec.identity import due_text
from driverun.spec.reader import read_yaml
from driverun.spec.schedule import ScheduleRules
from driverun.storage.base import ObjectInfo, ObjectStore

_SUFFIX = len("-") + 12  #: of a run's id, behind the name


@dataclass(frozen=True, slots=True, kw_only=True)
class DueRun:
    """A run that a schedule made."""

    run_id: str
    due: datetime
    tag: str  #: of the schedule that made it
    sweep: str = ""  #: of a job with a matrix, the sweep that it belongs to
    points: int = 1  #: how many runs make up that sweep


class Schedules:
    """What the root tells of its schedules, as of the last `refresh`. All times are the store's."""

    def __init__(self, store: ObjectStore, *, by: str) -> None:
        self._store = store
        self._by = by
        self._own: dict[str, ScheduleFile] = {}  # what listings may not show yet, by path
        self._histories: Mapping[str, ScheduleHistory] = {}
        self._made_here: list[tuple[str, tuple[DueRun, ...]]] = []  # likewise, by job and due time
        self._settled: dict[str, tuple[object, datetime | None]] = {}  # what was seen of a job -> until when

    def refresh(self) -> None:
        """List what there is. Raises StoreError; then all stays as it was."""
        listed = {info.path: _file(info) for info in self._store.list(SCHEDULES)}
        self._histories = histories({**self._own, **listed}.values())

    def history(self, name: str) -> ScheduleHistory:
        return self._histories.get(name, ScheduleHistory())

    def suspended(self, name: str) -> tuple[Span, ...]:
        """When the job's schedule was suspended; the last span has no end if it is so now."""
        return tuple(Span(begin=begin, end=end) for begin, end in self.history(name).suspensions())

    def is_suspended(self, name: str) -> bool:
        spans = self.suspended(name)
        return bool(spans) and spans[-1].end is None

    def fault(self, name: str, rules: ScheduleRules, *, file: str, text: bytes) -> Fault | None:
        """What is wrong with a schedule that is new here, and would never come."""
        if self.history(name).anchor(rules.tag) is not None:
            return None  # one that has come to its end
        now = self._store.now()
        if next_due(rules, after=now) is not None:
            return None
        until = rules.until_at
        is_past = until is not None and until <= now
        return Fault(
            file=file,
            line=read_yaml(text, file=file).line(("schedule", "until")),
            field="schedule.until",
            message=f"{rules.until} {'is in the past' if is_past else 'comes before the first due time'}, so no run "
            "would ever be made; write a later one, or leave it out",
        )

    def note(self, name: str, rules: ScheduleRules) -> datetime:
        """Have it on the root that this schedule of the job was seen; gives from when on it counts."""
        anchor = self.history(name).anchor(rules.tag)
        if anchor is not None:
            return anchor
        self._create(name, rules.tag, {"schedule": rules.model_dump(mode="json")})
        anchor = self.history(name).anchor(rules.tag)
        assert anchor is not None, "it was just created"
        return anchor

    def wish(self, name: str, wish: ScheduleWish) -> None:
        """Suspend or resume the job's schedule."""
        self._create(name, wish, {})

    def due(self, name: str, rules: ScheduleRules, ledger: Ledger) -> list[datetime]:
        """The due times of the job that get a run now. The ledger must be fresh."""
        now = self._store.now()
        anchor = self.note(name, rules)
        seen = (rules, self.history(name))
        before = self._settled.get(name)
        if before is not None and before[0] == seen and (before[1] is None or now < before[1]):
            return []
        made = self.runs(name, ledger)
        suspended = self.suspended(name)
        due = to_make(
            rules,
            anchor=anchor,
            suspended=suspended,
            made={run.due for run in made},
            reached=max((run.due for run in made if run.tag == rules.tag), default=None),
            now=now,
        )
        self._settled.pop(name, None)
        if not due:
            self._settled[name] = (seen, next_due(rules, after=now, suspended=suspended))
        return due

    def runs(self, name: str, ledger: Ledger) -> list[DueRun]:
        """The runs that the job's schedule has made, here or elsewhere; of a sweep all or none."""
        return _whole(
            [*due_runs(ledger, name), *(run for job, of in self._made_here if job == name for run in of)]
        )

    def made(self, name: str, runs: Iterable[DueRun]) -> None:
        """Remember that these runs were made for one due time, until listings show them."""
        self._made_here = [(name, tuple(runs)), *self._made_here][:1000]

    def seconds_until_due(self, name: str, rules: ScheduleRules) -> float | None:
        """Until the job's next due time; None: none is to be seen."""
        now = self._store.now()
        due = next_due(rules, after=now, suspended=self.suspended(name))
        return (due - now).total_seconds() if due is not None else None

    def _create(self, name: str, what: str | ScheduleWish, content: Mapping[str, object]) -> None:
        path = schedule_file(name, what, uuid.uuid4().hex)
        written = json.dumps({"schema_version": 1, "job": name, "by": self._by, **content}, indent=1)
        try:
            info = self._store.create(path, f"{written}\n".encode())
        except ObjectExists:  # the answer to this very call was lost: nobody else has the id
            info = self._store.stat(path)
        self._own[path] = _file(info)
        known = [file for history in self._histories.values() for file in history.files]
        self._histories = histories([*known, self._own[path]])


def due_details(rules: ScheduleRules | None, due: datetime | None) -> dict[str, str]:
    """What the submission of a run tells of its due time; nothing for one that a person made."""
    return {"due": due_text(due), "schedule_tag": rules.tag} if rules is not None and due is not None else {}


def due_runs(ledger: Ledger, name: str) -> list[DueRun]:
    """The runs of the jobs of this name that their schedule made, in any order."""
    found = (_due_run(evidence) for run_id, evidence in ledger.runs.items() if run_id[:-_SUFFIX] == name)
    return [run for run in found if run is not None]


def fell_due_last(runs: Iterable[DueRun], *, by: datetime | None) -> list[str]:
    """The ids of the runs of the newest due time that is not later than `by`; of the first, where all are later.

    What a job is given that fell due at `by` must not depend on when somebody looks: it is a part of the run's id.

    Args:
        runs: of one job, in any order; whole sweeps.
        by: None: the newest of all.
    """
    by_due: dict[tuple[datetime, str], list[str]] = {}
    for run in runs:
        by_due.setdefault((run.due, run.sweep), []).append(run.run_id)
    in_time = [key for key in by_due if by is None or key[0] <= by]
    if not by_due:
        return []
    return sorted(by_due[max(in_time) if in_time else min(by_due)])


def last_runs(name: str, ledger: Ledger, due: Iterable[DueRun], *, by: datetime | None) -> list[str]:
    """The ids of the runs that stand for a job with a schedule: what fell due last, else what a person made last.

    None where there is none yet. Arguments as for `fell_due_last`.
    """
    return fell_due_last(due, by=by) or _made_by_hand_last(ledger, name)


def _made_by_hand_last(ledger: Ledger, name: str) -> list[str]:
    """The ids of the newest runs of the job that have no due time; of a sweep all or none."""
    found: dict[str, list[tuple[str, str]]] = {}
    sizes: dict[str, int] = {}
    for run_id, evidence in ledger.runs.items():
        if run_id[:-_SUFFIX] != name or not evidence.is_complete:
            continue
        submitted = evidence.submitted
        if "due" not in submitted:
            sweep = str(submitted.get("sweep") or run_id)
            points = submitted.get("points")
            at = (str(evidence.created_at), run_id)
            found.setdefault(sweep, []).append(at)
            sizes[sweep] = points if isinstance(points, int) else 1
    whole = [made for sweep, made in found.items() if len(made) >= sizes[sweep]]
    return sorted(run_id for _, run_id in max(whole, key=max)) if whole else []


def whole_due_runs(ledger: Ledger, name: str) -> list[DueRun]:
    """As `due_runs`; of a sweep all or none."""
    return _whole(due_runs(ledger, name))


def _due_run(evidence: RunEvidence) -> DueRun | None:
    submitted = evidence.submitted
    due = submitted.get("due")
    if not isinstance(due, str):
        return None
    try:
        moment = datetime.fromisoformat(due)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    points = submitted.get("points")
    return DueRun(
        run_id=evidence.run_id,
        due=moment,
        tag=str(submitted.get("schedule_tag")),
        sweep=str(submitted.get("sweep") or ""),
        points=points if isinstance(points, int) else 1,
    )


def _whole(runs: Iterable[DueRun]) -> list[DueRun]:
    """Those of which the whole sweep is there: who made it may have died on the way."""
    by_sweep: dict[tuple[datetime, str], dict[str, DueRun]] = {}
    for run in runs:
        by_sweep.setdefault((run.due, run.sweep), {})[run.run_id] = run
    return [run for sweep in by_sweep.values() for run in sweep.values() if len(sweep) >= run.points]


def _file(info: ObjectInfo) -> ScheduleFile:
    return ScheduleFile(created_at=info.created_at, object_id=info.object_id, path=info.path)
