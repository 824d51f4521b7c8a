"""Runs beside each other, the best first: in which params they differ, and what came of them."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from driverun.errors import UsageError
from driverun.report.summary import json_number
from driverun.report.wording import value_text
from driverun.runs.state import RunState
from driverun.spec.metrics import more_is_better

_MISSING = object()
_USUAL = ("evaluate.accuracy", "evaluate.loss", "fit.val_accuracy", "fit.val_loss")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One run, as far as comparing goes."""

    run_id: str
    state: RunState
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)  #: "fit.<name>", "evaluate.<name>"
    seed: int = 0
    code_sha256: str = ""
    monitor: str | None = None  #: what the job file says about checkpoints
    mode: str = "auto"  #: likewise

    @property
    def settings(self) -> dict[str, Any]:
        """What may differ: every param, nested ones with dots in their names, the seed and the code."""
        named = dict(_leaves(self.params, ""))
        for name, value in (("seed", self.seed), ("code", self.code_sha256[:12])):
            named[f"({name})" if name in named else name] = value
        return named


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """By what runs are put in order."""

    metric: str | None  #: None: no run has any metric
    is_max: bool
    reason: str  #: how it came to be this one, for people


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Runs in order, the best first, and what to show of them."""

    ranking: Ranking
    params: tuple[str, ...]  #: names of those that differ
    metrics: tuple[str, ...]  #: names of all that some run has, that of the ranking first
    runs: tuple[Compared, ...]
    of: str = ""  #: what is compared, for people

    def to_json(self) -> dict[str, Any]:
        """The object that scripts rely on."""
        return {
            "metric": self.ranking.metric,
            "mode": "max" if self.ranking.is_max else "min",
            "reason": self.ranking.reason,
            "runs": [
                {
                    "run_id": run.run_id,
                    "state": run.state.value,
                    "params": {name: run.settings[name] for name in self.params if name in run.settings},
                    "metrics": {name: json_number(value) for name, value in run.metrics.items()},
                }
                for run in self.runs
            ],
        }

    def to_csv(self) -> str:
        """A table for spreadsheets, with a line of names at its head; numbers in full."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["run", "state", *self.params, *self.metrics])
        for run in self.runs:
            params = [value_text(run.settings.get(name)) for name in self.params]
            metrics = [repr(run.metrics[name]) if name in run.metrics else "" for name in self.metrics]
            writer.writerow([run.run_id, run.state.value, *params, *metrics])
        return out.getvalue()


def compare(
    runs: Sequence[Compared], *, metric: str | None = None, mode: str | None = None, of: str = ""
) -> Comparison:
    """Put the runs in order.

    First those that SUCCEEDED and have the metric, the best in front, equal ones as they came; then those without it;
    at the end those that are not done.

    Args:
        runs: in the order in which they were submitted.
        metric: by which; with or without its "fit." or "evaluate."; None: what `ranking_of` finds.
        mode: "min" or "max"; None: what the job file says of its own metric, else by the metric's name.

    Raises:
        UsageError: no run has that metric.
    """
    ranking = ranking_of(runs, metric=metric, mode=mode)
    names = {name for run in runs for name in run.metrics}
    ordered = sorted(names, key=lambda name: (name != ranking.metric, not name.startswith("evaluate."), name))
    return Comparison(
        ranking=ranking,
        params=differing(runs),
        metrics=tuple(ordered),
        runs=tuple(sorted(runs, key=lambda run: _rank(run, ranking))),
        of=of,
    )


def ranking_of(runs: Sequence[Compared], *, metric: str | None, mode: str | None) -> Ranking:
    """By which metric the runs are to be compared, and why. Raises UsageError for one that no run has."""
    names = {name for run in runs for name in run.metrics}
    is_max_of = {"min": False, "max": True}
    if metric is not None:
        found = _named(metric, names)
        if found is None:
            known = f"they have {', '.join(sorted(names))}" if names else "they have none yet"
            raise UsageError(f"cannot compare by {metric}: no run has that metric; {known}.")
        is_max = is_max_of.get(mode or "", more_is_better(found))
        return Ranking(metric=found, is_max=is_max, reason="as asked for")
    for run in runs:
        own = _named(run.monitor, names) if run.monitor is not None else None
        if own is not None:
            is_max = is_max_of.get(mode or run.mode, more_is_better(own))
            return Ranking(metric=own, is_max=is_max, reason="checkpoint.monitor of the job")
    candidates = [
        *_USUAL,
        *sorted(name for name in names if name.startswith("evaluate.")),
        *sorted(name for name in names if name.startswith("fit.val_")),
        *sorted(names),
    ]
    usual = next((name for name in candidates if name in names), None)
    if usual is None:
        return Ranking(metric=None, is_max=False, reason="no run has a metric yet")
    is_max = is_max_of.get(mode or "", more_is_better(usual))
    return Ranking(metric=usual, is_max=is_max, reason="--metric names another")


def differing(runs: Sequence[Compared]) -> tuple[str, ...]:
    """The names of what is not the same in all runs, in the order in which the runs have them."""
    settings = [run.settings for run in runs]
    names = dict.fromkeys(name for each in settings for name in each)
    return tuple(name for name in names if len({_key(each.get(name, _MISSING)) for each in settings}) > 1)


def _named(metric: str, names: Iterable[str]) -> str | None:
    known = set(names)
    return next((name for name in (metric, f"evaluate.{metric}", f"fit.{metric}") if name in known), None)


def _rank(run: Compared, ranking: Ranking) -> tuple[int, float]:
    value = run.metrics.get(ranking.metric or "")
    if run.state is not RunState.SUCCEEDED:
        return (2, 0.0)
    if value is None or not math.isfinite(value):
        return (1, 0.0)
    return (0, -value if ranking.is_max else value)


def _leaves(params: Mapping[str, Any], before: str) -> Iterable[tuple[str, Any]]:
    for name, value in params.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _key(value: Any) -> str:
    return "" if value is _MISSING else "=" + json.dumps(value, sort_keys=True)
