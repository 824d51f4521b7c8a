"""Proof on this machine that a sweep survives power cuts: once whole, once with cuts, the same table."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from driverun.assembly import Surroundings
from driverun.errors import UsageError
from driverun.launchers.ground import Audit, Ground
from driverun.launchers.rehearsal import LOOK_S, PowerCut, Rehearsal, side_by_side
from driverun.report.compare import Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepCut(PowerCut):
    """One power cut in the middle of a sweep."""

    run_id: str  #: the run that was at work
    done: int  #: runs of the sweep that had succeeded by then
    attempt: int  #: the one that was cut


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepDrillResult:
    """What a drill of a sweep showed."""

    rows: tuple[SweepCut, ...]
    whole: Comparison  #: the table of the sweep that nobody touched
    cut: Comparison
    points: int
    differences: tuple[str, ...]  #: one for each run that did not end the same
    audit: Audit | None

    @property
    def is_identical(self) -> bool:
        return not self.differences and all(row.is_ok for row in self.rows)

    @property
    def is_ok(self) -> bool:
        return self.is_identical and not (self.audit is not None and self.audit.faults)


def run_sweep_drill(
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
) -> SweepDrillResult:
    """Run all points of `job` twice, once with `kills` power cuts spread over them; arguments are as `run_drill`'s.

    Each cut falls behind the first commit of another point's run, at a random instant.

    Raises:
        JobError: a run does not succeed even without cuts.
        UsageError: `keep` is taken, or the runs are too short to be cut.
    """
    chosen = random.Random(seed)
    with side_by_side(job, kills=kills, keep=keep, params=params, root=root, here=here, on=on) as (
        whole,
        cut,
    ):
        points = len(whole.submission.runs)
        say(f"running the {points} points of {job.name} without a cut")
        began_s = here.clock.monotonic()
        whole.run_to_end()
        lasted_s = here.clock.monotonic() - began_s
        say(f"they took {lasted_s:.0f} s; now with {kills} power cuts")
        rows = _with_cuts(cut, kills=kills, longest_s=0.3 * lasted_s / points, chosen=chosen, say=say)
        with cut.ground.calm():
            return SweepDrillResult(
                rows=tuple(rows),
                whole=whole.client.compare([whole.submission.sweep or whole.run_id]),
                cut=cut.client.compare([cut.submission.sweep or cut.run_id]),
                points=points,
                differences=tuple(_differences(whole, cut)),
                audit=cut.ground.audit(),
            )


def _with_cuts(
    rehearsal: Rehearsal, *, kills: int, longest_s: float, chosen: random.Random, say: Callable[[str], None]
) -> list[SweepCut]:
    run_ids = [run.run_id for run in rehearsal.submission.runs]
    rows: list[SweepCut] = []
    for number in range(kills):
        target = run_ids[number * len(run_ids) // kills]
        cut = _cut_once(rehearsal, number + 1, target, delay_s=chosen.uniform(0.0, longest_s))
        if cut is None:
            say(f"the run of cut {number + 1} ended before it: its points are too short for more")
            continue
        rows.append(cut)
        say(
            f"cut {cut.cut}: {cut.run_id}, step {cut.step_reached} reached, {cut.committed_step or 0} committed;"
            f" {cut.done} of {len(run_ids)} were done"
        )
    if not rows:
        raise UsageError(
            "cannot drill this job: each of its runs ended before a checkpoint could be cut off. Give it more to do"
            " with -p, or a shorter `checkpoint: {every: ...}`."
        )
    rehearsal.run_to_end()
    return [replace(row, resumed_at=_resumed_at(rehearsal, row)) for row in rows]


def _resumed_at(rehearsal: Rehearsal, row: SweepCut) -> int | None:
    later = [each for each in rehearsal.summary(row.run_id).attempts if each.number > row.attempt]
    return later[0].first_step if later else None


def _cut_once(rehearsal: Rehearsal, number: int, run_id: str, *, delay_s: float) -> SweepCut | None:
    """Start a worker and cut its power in the middle of that run; None if it got beyond it."""
    clock = rehearsal.clock
    attempt = len(rehearsal.summary(run_id).attempts) + 1
    runtime = rehearsal.start()
    try:
        if not rehearsal.wait_for_commit(runtime, attempt, run_id):
            return None
        end_s = clock.monotonic() + delay_s
        while runtime.is_alive and clock.monotonic() < end_s:
            clock.sleep(LOOK_S)
    finally:
        progress = runtime.power_cut()
    summary = rehearsal.summary(run_id)
    if summary.state.is_over:
        return None
    done = sum(rehearsal.summary(run.run_id).state.is_over for run in rehearsal.submission.runs)
    return SweepCut(
        cut=number,
        run_id=run_id,
        done=done,
        step_reached=progress.step if progress is not None and progress.step >= 0 else None,
        committed_step=rehearsal.committed_step(run_id),
        attempt=attempt,
    )


def _differences(whole: Rehearsal, cut: Rehearsal) -> list[str]:
    """In what the runs differ, point by point, and the tables."""
    found: list[str] = []
    for run in whole.submission.runs:
        a, b = whole.summary(run.run_id), cut.summary(run.run_id)
        for name in ("state", "state_sha256", "outputs_sha256", "metrics", "total_steps"):
            if getattr(a, name) != getattr(b, name):
                found.append(f"{run.run_id}: {name}: {getattr(a, name)} and {getattr(b, name)}")
        if a.results_path and b.results_path:
            histories = [
                rehearsal.client.store.read(f"{path}/history.csv")
                for rehearsal, path in ((whole, a.results_path), (cut, b.results_path))
            ]
            if histories[0] != histories[1]:
                found.append(f"{run.run_id}: history.csv")
    tables = [each.client.compare([each.submission.sweep or each.run_id]).to_csv() for each in (whole, cut)]
    if tables[0] != tables[1]:
        found.append("the tables")
    return found
