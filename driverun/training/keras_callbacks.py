"""The list through which Keras calls the callbacks of a resumable fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import keras


class FitEvents(Protocol):
    """What the list below tells while Keras runs one fit."""

    @property
    def batch_offset(self) -> int:
        """How many batches of the epoch in progress were consumed before this process."""

    def enters(self) -> bool:
        """Keras begins a fit; False where it only goes on with one that has begun."""

    def begun(self) -> None:
        """Every callback has seen on_train_begin."""

    def epoch_opens(self, epoch: int) -> None:
        """Before any callback sees on_epoch_begin."""

    def epoch_opened(self, epoch: int) -> None:
        """After every callback saw it, before the first batch is drawn."""

    def batch_opens(self) -> bool:
        """Before a batch is drawn; False where Keras only finds out that none is left."""

    def step_done(self, batch: int, logs: Any) -> None:
        """After every callback saw on_train_batch_end of `batch`, counted from 0 in the whole epoch."""

    def validation_opens(self) -> None:
        """Before the validation of an epoch."""

    def epoch_closes(self, epoch: int, logs: dict[str, Any]) -> dict[str, Any]:
        """Before any callback sees on_epoch_end; gives the logs to show them."""

    def epoch_closed(self, epoch: int, logs: dict[str, Any]) -> None:
        """After every callback saw it."""

    def leaves(self) -> bool:
        """Keras ends a fit; False where another part of the same fit follows."""


class FitCallbacks(keras.callbacks.CallbackList):  # type: ignore[misc]  # keras ships no types
    """Keras' own list, with the true batch numbers and an observer around each call.

    An observer in the list would have to be first and last at once, and Keras would take it for a user's
    callback with batch hooks and stop calling batch ends in the background.
    """

    def __init__(self, fit: FitEvents, callbacks: Sequence[Any], **params: Any) -> None:
        self._fit = fit
        super().__init__(list(callbacks), add_history=True, **params)

    @property
    def history(self) -> Any:
        """The History that Keras' fit returns; there is always one."""
        return next(item for item in self.callbacks if isinstance(item, keras.callbacks.History))

    def settle(self) -> None:
        """Wait until every callback has seen the batches that were handed out in the background."""
        if self._async_train and self._futures:
            self._flush_futures()

    def on_train_begin(self, logs: Any = None) -> None:
        if self._fit.enters():
            super().on_train_begin(logs)
            self._fit.begun()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._fit.epoch_opens(epoch)
        super().on_epoch_begin(epoch, logs)
        self._fit.epoch_opened(epoch)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self._fit.batch_opens():
            super().on_train_batch_begin(batch + self._fit.batch_offset, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        batch += self._fit.batch_offset
        super().on_train_batch_end(batch, logs)
        self._fit.step_done(batch, logs)

    def on_test_begin(self, logs: Any = None) -> None:
        self._fit.validation_opens()
        super().on_test_begin(logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.settle()
        shown = self._fit.epoch_closes(epoch, dict(logs or {}))
        super().on_epoch_end(epoch, shown)
        self._fit.epoch_closed(epoch, shown)

    def on_train_end(self, logs: Any = None) -> None:
        self.settle()
        if self._fit.leaves():
            super().on_train_end(logs)


class SilentCallbacks(keras.callbacks.CallbackList):  # type: ignore[misc]  # keras ships no types
    """No callback at all, for a fit that only builds."""

    def __init__(self, model: Any) -> None:
        super().__init__([], add_history=True, model=model)
