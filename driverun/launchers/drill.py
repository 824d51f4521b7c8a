"""Proof on this machine that a job survives power cuts: once whole, once with cuts, every bit compared."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from driverun.assembly import Surroundings
from driverun.errors import DriverunError, UsageError
from driverun.launchers.ground import Audit, Ground
from driverun.launchers.rehearsal import LOOK_S, PowerCut, Rehearsal, side_by_side
from driverun.report.summary import RunSummary
from driverun.runs.state import RunState
from driverun.spool.boards import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut(PowerCut):
    """One power cut of a drill."""

    how: str

    @property
    def steps_repeated(self) -> int | None:
        if self.step_reached is None or self.resumed_at is None:
            return None
        return max(0, self.step_reached - self.resumed_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillResult:
    """What a drill showed."""

    rows: tuple[Cut, ...]
    whole: RunSummary
    cut: RunSummary
    difference: str  #: "" if there is none
    remarks: tuple[str, ...]
    report: Path | None
    audit: Audit | None

    @property
    def is_identical(self) -> bool:
        return not self.difference and all(row.is_ok for row in self.rows)

    @property
    def is_ok(self) -> bool:
        return self.is_identical and not (self.audit is not None and self.audit.faults)


def run_drill(
    job: Path,
    *,
    kills: int,
    keep: Path | None,
    params: Sequence[str],
    seed: int | None,
    root: str | None,
    here: Surroundings,
    say: Callable[[str], None],
    on: Callable[[Path], AbstractContextManager[Ground]] | None = None,
) -> DrillResult:
    """Run `job` twice on roots of its own, once with `kills` power cuts at random instants.

    A power cut is SIGKILL to every process of the worker, and everything outside the root deleted. The first one falls
    into a commit, between the packs and the manifest; the others at random instants after an attempt's first commit,
    and in the middle of an epoch where the job tells of epochs.

    Args:
        keep: a folder for both roots; it must be empty or not exist. None: they are removed.
        root: where the job's data are taken from, if there is such a root.
        on: makes, in a folder, the root for the run with cuts; None: it is local, as that of the other run always is.

    Raises:
        JobError: the job does not succeed even without cuts.
        UsageError: `keep` is taken, or the job is too short to be cut.
    """
    chosen = random.Random(seed)
    with side_by_side(job, kills=kills, keep=keep, params=params, root=root, here=here, on=on) as (
        whole,
        cut,
    ):
        say(f"running {job.name} without a cut")
        began_s = here.clock.monotonic()
        whole.run_to_end()
        lasted_s = here.clock.monotonic() - began_s
        say(f"it took {lasted_s:.0f} s; now with {kills} power cuts")
        rows = _with_cuts(cut, kills=kills, lasted_s=lasted_s, chosen=chosen, say=say)
        report = None
        with cut.ground.calm():
            if keep is not None:
                report = keep / "report.html"
                report.write_text(cut.client.report(cut.run_id), encoding="utf-8")
            return DrillResult(
                rows=tuple(rows),
                whole=whole.summary(),
                cut=cut.summary(),
                difference=_difference(whole, cut),
                remarks=tuple(_remarks(cut)),
                report=report,
                audit=cut.ground.audit(),
            )


def _with_cuts(
    rehearsal: Rehearsal, *, kills: int, lasted_s: float, chosen: random.Random, say: Callable[[str], None]
) -> list[Cut]:
    rows: list[Cut] = []
    longest_s = max(0.3, 0.5 * lasted_s / (kills + 1))
    for number in range(1, kills + 1):
        during_commit = number == min(2, kills)
        cut = _cut_once(
            rehearsal,
            number,
            during_commit=during_commit,
            delay_s=chosen.uniform(0.0, longest_s),
        )
        if cut is None:
            say(f"the job ended before cut {number}: it is too short for more")
            break
        rows.append(cut)
        say(f"cut {number} {cut.how}: step {cut.step_reached} reached, {cut.committed_step or 0} committed")
    if not rows:
        raise UsageError(
            "cannot drill this job: it ended before a checkpoint could be cut off. Give it more to do with -p, or a"
            " shorter `checkpoint: {every: ...}`."
        )
    rehearsal.run_to_end()
    attempts = {attempt.number: attempt for attempt in rehearsal.summary().attempts}
    return [
        replace(row, resumed_at=attempts[row.cut + 1].first_step if row.cut + 1 in attempts else None)
        for row in rows
    ]


def _cut_once(rehearsal: Rehearsal, number: int, *, during_commit: bool, delay_s: float) -> Cut | None:
    """Start a worker and cut its power; None if it finished the run before."""
    clock = rehearsal.clock
    marker = rehearsal.folder / f"in-commit-{number}" if during_commit else None
    runtime = rehearsal.start(marker=marker)
    how = "during a commit" if during_commit else "at a random instant"
    try:
        if not rehearsal.wait_for_commit(runtime, number, marker=marker):
            return None
        if not during_commit:
            end_s = clock.monotonic() + delay_s
            while runtime.is_alive and clock.monotonic() < end_s:
                clock.sleep(LOOK_S)
            if _is_in_epoch(runtime.progress()):
                how = "mid-epoch"
        if not runtime.is_alive:
            return None
    finally:
        progress = runtime.power_cut()
    rehearsal.executed += progress.executed if progress is not None else 0
    if rehearsal.summary().state.is_over:
        return None
    return Cut(
        cut=number,
        how=how,
        step_reached=progress.step if progress is not None and progress.step >= 0 else None,
        committed_step=rehearsal.committed_step(),
    )


def _is_in_epoch(progress: Progress | None) -> bool:
    return progress is not None and 0 < progress.step_in_epoch < max(progress.steps_per_epoch, 1)


def _difference(whole: Rehearsal, cut: Rehearsal) -> str:
    """In what the two runs differ; "" if in nothing."""
    a, b = whole.summary(), cut.summary()
    if b.state is not RunState.SUCCEEDED:
        return f"the run with cuts ended {b.state.value}: {b.reason}"
    try:
        found = whole.client.diff(whole.run_id, cut.run_id, other=cut.client)
    except DriverunError as exc:
        return str(exc)
    if found is not None:
        return found.message
    for name in ("state_sha256", "outputs_sha256"):
        if getattr(a, name) != getattr(b, name):
            return f"{name}: {getattr(a, name)} and {getattr(b, name)}"
    histories = [r.client.store.read(f"{r.summary().results_path}/history.csv") for r in (whole, cut)]
    return "" if histories[0] == histories[1] else "history.csv"


def _remarks(cut: Rehearsal) -> list[str]:
    summary = cut.summary()
    lines = [f"exactness: {summary.exactness.value}"]
    lines += [f"  because {reason}" for reason in summary.exactness_reasons]
    if summary.total_steps is not None:
        lines.append(f"{cut.executed} steps executed for {summary.total_steps}")
    return lines
