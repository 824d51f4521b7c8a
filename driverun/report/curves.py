"""The curves of a run, put together from what each of its attempts told."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# The names of the trainer's events, as spool/events.py spells them: a report reads them from the root, where
# they outlive the trainer that wrote them.
_EPOCH_ENDED, _PROGRESS, _FIT_BEGUN = "epoch_ended", "progress", "fit_begun"
_RESUMED, _FIT_ENDED, _EVALUATED = "resumed", "fit_ended", "evaluated"
REPORTED = frozenset((_EPOCH_ENDED, _PROGRESS, _FIT_BEGUN, _RESUMED, _FIT_ENDED, _EVALUATED))


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One value of a metric."""

    epoch: float  #: epochs trained when it was measured: 1.0 is the end of the first
    step: int | None  #: optimiser updates of the whole run; None where only a history tells of it
    value: float
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One metric of one fit."""

    metric: str  #: Keras' name: "loss", "val_loss"
    points: tuple[Point, ...]  #: at ends of epochs, in order
    samples: tuple[Point, ...] = ()  #: in the middle of epochs, in order


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Where an attempt took a fit up."""

    attempt: int
    step: int
    epoch: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FitHistory:
    """What `fit` returned: the metrics of each epoch."""

    fit: int  #: index in the order of calls, from 0
    epochs: tuple[int, ...]  #: numbers, from 0
    history: Mapping[str, Sequence[float | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitCurves:
    """All curves of one fit."""

    fit: int
    series: tuple[Series, ...]  #: in order of first appearance
    epochs: int | None = None  #: that were asked for
    steps_per_epoch: int | None = None
    resumes: tuple[Resume, ...] = ()
    history: FitHistory | None = None  #: None until the fit has ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """All curves of one run."""

    fits: tuple[FitCurves, ...] = ()
    evaluations: tuple[Mapping[str, float], ...] = ()  #: of the newest attempt that evaluated, in order

    @property
    def histories(self) -> tuple[FitHistory, ...]:
        return tuple(fit.history for fit in self.fits if fit.history is not None)


def read_curves(segments: Iterable[tuple[int, bytes]]) -> Curves:
    """The curves of a run whose attempts uploaded `segments`.

    An attempt that takes up at some step undoes what earlier ones told of later steps, and repeats it. Lines
    that make no sense are passed over: a report has to come about all the same.

    Args:
        segments: (number of the attempt, content of one metrics segment); those of one attempt in order.
    """
    fits: dict[int, _Fit] = {}
    evaluations: dict[int, list[Mapping[str, float]]] = {}
    told: set[tuple[int, int]] = set()  # (attempt, fit): this attempt has said where it took the fit up
    for attempt, event in _events(segments):
        kind = event.get("event")
        if kind == _EVALUATED:
            evaluations.setdefault(attempt, []).append(_numbers(event.get("logs")))
            continue
        index = _int(event.get("fit"))
        if index is None:
            continue
        if kind == _RESUMED:
            told.add((attempt, index))
            _take_up(fits, attempt, index, event)
        elif kind in (_EPOCH_ENDED, _PROGRESS) and (attempt, index) not in told:
            told.add((attempt, index))
            _undo(fits, attempt, index, step=-1)
        fit = fits.setdefault(index, _Fit(index=index))
        if kind == _FIT_BEGUN:
            fit.begin(event)
        elif kind == _EPOCH_ENDED:
            fit.add_epoch(attempt, event)
        elif kind == _PROGRESS:
            fit.add_sample(attempt, event)
        elif kind == _FIT_ENDED:
            fit.end(attempt, event)
    curves = [fit.curves() for _, fit in sorted(fits.items())]
    return Curves(
        fits=tuple(fit for fit in curves if fit.series or fit.epochs is not None),
        evaluations=tuple(evaluations[max(evaluations)]) if evaluations else (),
    )


def read_histories(events: Iterable[Mapping[str, Any]]) -> tuple[FitHistory, ...]:
    """The histories in the fields of `fit_ended` events; of one fit, the last counts."""
    found = {history.fit: history for event in events if (history := _history(event)) is not None}
    return tuple(found[fit] for fit in sorted(found))


def history_csv(fits: Iterable[FitHistory]) -> str:
    """All histories as one table: fit, epoch, then every metric in the order of its first appearance.

    Floats are written so that reading them gives the same bits; what a metric does not tell of is left empty.
    """
    known = sorted(fits, key=lambda fit: fit.fit)
    metrics = list(dict.fromkeys(metric for fit in known for metric in fit.history))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["fit", "epoch", *metrics])
    for fit in known:
        columns = {metric: _placed(values, len(fit.epochs)) for metric, values in fit.history.items()}
        for row, epoch in enumerate(fit.epochs):
            values = (columns[metric][row] if metric in columns else None for metric in metrics)
            writer.writerow([fit.fit, epoch, *("" if value is None else repr(value) for value in values)])
    return text.getvalue()


@dataclass(slots=True, kw_only=True)
class _Fit:
    """What has been heard of one fit so far."""

    index: int
    epochs: int | None = None
    steps_per_epoch: int | None = None
    begun_at: int | None = None  # the lowest step of the run at which an attempt began it
    resumes: list[Resume] = field(default_factory=list)
    history: FitHistory | None = None
    order: dict[str, None] = field(default_factory=dict)  # metrics as they appeared
    by_epoch: dict[tuple[str, int], Point] = field(default_factory=dict)
    by_step: dict[tuple[str, int], Point] = field(default_factory=dict)

    def begin(self, event: Mapping[str, Any]) -> None:
        self.epochs = _int(event.get("epochs")) or self.epochs
        self.steps_per_epoch = _int(event.get("steps_per_epoch")) or self.steps_per_epoch
        step = _int(event.get("step"))
        if step is not None:
            self.begun_at = step if self.begun_at is None else min(step, self.begun_at)

    def add_epoch(self, attempt: int, event: Mapping[str, Any]) -> None:
        epoch = _int(event.get("epoch"))
        if epoch is None:
            return
        for metric, value in _numbers(event.get("logs")).items():
            self.order.setdefault(metric)
            point = Point(epoch=epoch + 1, step=_int(event.get("step")), value=value, attempt=attempt)
            self.by_epoch[metric, epoch] = point

    def add_sample(self, attempt: int, event: Mapping[str, Any]) -> None:
        epoch, step = _int(event.get("epoch")), _int(event.get("step"))
        if epoch is None or step is None:
            return
        for metric, value in _numbers(event.get("logs")).items():
            self.order.setdefault(metric)
            # Where in its epoch a sample lies is known once all of the fit is: see `_spread`.
            self.by_step[metric, step] = Point(epoch=epoch, step=step, value=value, attempt=attempt)

    def end(self, attempt: int, event: Mapping[str, Any]) -> None:
        """Take the history for what an upload that was cut off has lost, too."""
        self.history = _history(event)
        if self.history is None:
            return
        for metric, values in self.history.history.items():
            self.order.setdefault(metric)
            places = _placed(values, len(self.history.epochs))
            for epoch, value in zip(self.history.epochs, places, strict=True):
                known = self.by_epoch.get((metric, epoch))
                if value is not None and known is None:
                    point = Point(epoch=epoch + 1, step=None, value=value, attempt=attempt)
                    self.by_epoch[metric, epoch] = point

    def undo(self, step: int) -> None:
        """Forget what lies after `step`."""
        self.history = None
        for known in (self.by_epoch, self.by_step):
            for key in [key for key, point in known.items() if point.step is None or point.step > step]:
                del known[key]

    def curves(self) -> FitCurves:
        series = [self._series(metric) for metric in self.order]
        return FitCurves(
            fit=self.index,
            series=tuple(item for item in series if item.points or item.samples),
            epochs=self.epochs,
            steps_per_epoch=self.steps_per_epoch,
            resumes=tuple(sorted(self.resumes, key=lambda item: item.attempt)),
            history=self.history,
        )

    def _series(self, metric: str) -> Series:
        points = (self.by_epoch[key] for key in sorted(self.by_epoch) if key[0] == metric)
        samples = (self.by_step[key] for key in sorted(self.by_step) if key[0] == metric)
        spread = (self._spread(sample) for sample in samples)
        return Series(
            metric=metric,
            points=tuple(points),
            samples=tuple(sample for sample in spread if sample is not None),
        )

    def _spread(self, sample: Point) -> Point | None:
        """The sample at its place within its epoch; None where the length of an epoch is not known."""
        if self.steps_per_epoch is None or sample.step is None:
            return None
        starts = {
            point.step - round(point.epoch) * self.steps_per_epoch
            for point in self.by_epoch.values()
            if point.step is not None
        }
        # A finished epoch tells best at which step the fit began: the first attempt's word may be lost.
        begun_at = min(starts) if starts else (self.begun_at or 0)
        place = (sample.step - begun_at) / self.steps_per_epoch
        if not sample.epoch <= place <= sample.epoch + 1:
            return None
        return Point(epoch=place, step=sample.step, value=sample.value, attempt=sample.attempt)


def _take_up(fits: dict[int, _Fit], attempt: int, index: int, event: Mapping[str, Any]) -> None:
    step = _int(event.get("step")) or 0
    _undo(fits, attempt, index, step=step)
    fit = fits.setdefault(index, _Fit(index=index))
    place = float(_int(event.get("epoch")) or 0)
    if fit.steps_per_epoch:
        place += (_int(event.get("step_in_epoch")) or 0) / fit.steps_per_epoch
    fit.resumes.append(Resume(attempt=attempt, step=step, epoch=place))


def _undo(fits: dict[int, _Fit], attempt: int, index: int, *, step: int) -> None:
    """Forget what earlier attempts told of the fit after `step`, and of all fits behind it."""
    for fit in fits.values():
        if fit.index == index:
            fit.undo(step)
        elif fit.index > index:
            fit.undo(-1)
            fit.resumes = [resume for resume in fit.resumes if resume.attempt == attempt]


def _events(segments: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    # Sorting is stable, so segments of one attempt stay in the order they were given in.
    for attempt, content in sorted(segments, key=lambda segment: segment[0]):
        for line in content.splitlines():
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict):
                yield attempt, event


def _history(event: Mapping[str, Any]) -> FitHistory | None:
    fit, epochs, history = _int(event.get("fit")), event.get("epochs"), event.get("history")
    if fit is None or not isinstance(epochs, Sequence) or not isinstance(history, Mapping):
        return None
    return FitHistory(
        fit=fit,
        epochs=tuple(int(epoch) for epoch in epochs),
        history={
            str(metric): tuple(_float(value) for value in values)
            for metric, values in history.items()
            if isinstance(values, Sequence) and not isinstance(values, str)
        },
    )


def _placed(values: Sequence[float | None], count: int) -> list[float | None]:
    """`values` over `count` epochs.

    Keras gives one value per epoch, but for `validation_freq` above 1 it gives fewer: those of every n-th
    epoch, without saying which; the greatest n that fits is taken.
    """
    if len(values) >= count or not values:
        return [*values[:count], *([None] * (count - len(values)))]
    every = count // len(values)
    placed: list[float | None] = [None] * count
    for number, value in enumerate(values, start=1):
        placed[number * every - 1] = value
    return placed


def _numbers(logs: Any) -> dict[str, float]:
    if not isinstance(logs, Mapping):
        return {}
    found = ((str(name), _float(value)) for name, value in logs.items())
    return {name: value for name, value in found if value is not None}


def _float(value: Any) -> float | None:
    """The number that `value` is; one of a foreign type arrives as its text."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _int(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
