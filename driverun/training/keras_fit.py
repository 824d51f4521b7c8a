"""`keras.Model.fit` and `evaluate`, replaced for a process that trains under driverun."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras

from driverun.spool.events import EventKind
from driverun.training.keras_fingerprint import check_all_taken_up
from driverun.training.keras_iterators import fit_open
from driverun.training.keras_models import FittedModels
from driverun.training.keras_resumable import ResumableFit, floats_of
from driverun.training.session import TrainingSession


def install(session: TrainingSession) -> Callable[[], None]:
    """Make every later `fit` of this process resumable and every `evaluate` recorded; gives what undoes it."""
    original_fit = keras.Model.fit
    original_evaluate = keras.Model.evaluate
    signature = inspect.signature(original_fit)
    models = FittedModels(session)
    inside = _Inside()

    @functools.wraps(original_fit)
    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        if inside.depth:
            return original_fit(self, *args, **kwargs)
        with inside, fit_open():
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            arguments = {name: value for name, value in bound.arguments.items() if name != "self"}
            models.begin(self)
            return ResumableFit(session, original_fit, self, arguments).run()

    @functools.wraps(original_evaluate)
    def evaluate(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = original_evaluate(self, *args, **kwargs)
        if not inside.depth:
            session.events.write(EventKind.EVALUATED, logs=floats_of(self.get_metrics_result()))
        return found

    keras.Model.fit = fit
    keras.Model.evaluate = evaluate
    session.at_end.append(lambda: check_all_taken_up(session))
    session.at_end.append(models.save_all)

    def uninstall() -> None:
        keras.Model.fit = original_fit
        keras.Model.evaluate = original_evaluate

    return uninstall


class _Inside:
    """Whether a fit is running, so that what it calls itself is left alone."""

    def __init__(self) -> None:
        self.depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *exc: object) -> None:
        self.depth -= 1
