"""Every fitted model as a file among the results."""

from __future__ import annotations

import weakref
from typing import Any

from driverun.spool.events import EventKind
from driverun.training.session import TrainingSession


class FittedModels:
    """Remembers what was fitted, and saves it: the newest at the end, another as soon as the next one's turn comes.

    Only the newest is kept alive by this; a script that makes ten models in a loop may still let go of nine.
    """

    def __init__(self, session: TrainingSession) -> None:
        self._session = session
        self._models: list[weakref.ref[Any]] = []
        self._newest: Any = None

    def begin(self, model: Any) -> None:
        """`model` is about to be fitted."""
        if self._newest is not None and self._newest is not model:
            self._save(self._newest)
        self._newest = model
        if not any(known() is model for known in self._models):
            self._models.append(weakref.ref(model))

    def save_all(self) -> None:
        """Save every fitted model that is still alive, as it is now."""
        for known in self._models:
            model = known()
            if model is not None:
                self._save(model)

    def _save(self, model: Any) -> None:
        number = next(at for at, known in enumerate(self._models) if known() is model)
        name = "model.keras" if number == 0 else f"model-{number + 1}.keras"
        try:
            model.save(self._session.spool.models / name)
        except Exception as exc:  # the run's training is whole all the same; its owner is told
            self._session.say(f"cannot save the fitted model as {name}: {exc}")
            return
        self._session.events.write(EventKind.MODEL_SAVED, name=name)
