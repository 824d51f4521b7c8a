"""The state of callbacks, and the list through which Keras calls them.

Dumping `vars(callback)` would be wrong: Keras sets `min_delta` lazily and flips its sign, so a restored one flips
twice (measured: another learning rate 64 steps later). Hence a table of fields for Keras' own callbacks and the
`state_dict()`/`load_state_dict()` protocol for a user's.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import keras
import numpy as np

from driverun.training.arrays import NamedArray
from driverun.training.trees import NotRepresentable, decode, encode

#: What each of Keras' own callbacks remembers between batches and epochs. Those with an empty tuple remember nothing
#: that the model, the files or a new `on_train_begin` does not bring back.
FIELDS: dict[str, tuple[str, ...]] = {
    "EarlyStopping": ("wait", "best", "best_epoch", "stopped_epoch", "best_weights"),
    "ReduceLROnPlateau": ("wait", "best", "cooldown_counter"),
    "ModelCheckpoint": ("best", "epochs_since_last_save", "_current_epoch", "_last_batch_seen",
                        "_batches_seen_since_last_saving"),
    "CSVLogger": ("keys",),
    "LearningRateScheduler": (),
    "TerminateOnNaN": (),
    "LambdaCallback": (),
    "ProgbarLogger": (),
    "RemoteMonitor": (),
    "SwapEMAWeights": ("_ema_weights_in_model",),
    "TensorBoard": ("_global_train_batch", "_global_test_batch", "_previous_epoch_iterations"),
}  # fmt: skip
SMALL_ARRAY_BYTES = 1_000_000  #: larger arrays in a callback are taken for data that the script loads again
NOT_STATE = ("_model", "model", "params", "validation_data")


def _is_keras_own(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "keras"


def _table_fields(callback: Any) -> tuple[str, ...] | None:
    for kind in type(callback).__mro__:
        if kind.__name__ in FIELDS and _is_keras_own(kind):
            return FIELDS[kind.__name__]
    return None


def _own_fields(callback: Any) -> dict[str, Any]:
    """The fields that a user's class has beside those that Keras' classes beneath it work with."""
    foreign: set[str] = set(NOT_STATE)
    for kind in type(callback).__mro__:
        if _is_keras_own(kind) and kind is not keras.callbacks.Callback:
            for function in vars(kind).values():
                foreign.update(getattr(getattr(function, "__code__", None), "co_names", ()))
    return {name: value for name, value in vars(callback).items() if name not in foreign}


def _has_protocol(callback: Any) -> bool:
    return callable(getattr(callback, "state_dict", None)) and callable(
        getattr(callback, "load_state_dict", None)
    )


def callbacks_state(
    callbacks: Sequence[Any], report: Callable[[str], None]
) -> tuple[list[Any], list[NamedArray]]:
    """The state of each callback as JSON, and the arrays it refers to; what cannot be kept is reported."""
    arrays: list[Any] = []
    states: list[Any] = []
    for callback in callbacks:
        kind = type(callback).__name__
        fields = _table_fields(callback)
        mark = len(arrays)
        try:
            if _has_protocol(callback):
                states.append({"kind": kind, "state_dict": encode(callback.state_dict(), arrays, where=kind)})
                continue
            if isinstance(callback, keras.callbacks.History):
                states.append({"kind": kind})
                continue
            found = {name: getattr(callback, name) for name in fields or () if hasattr(callback, name)}
            if not _is_keras_own(type(callback)):
                found.update(_plain_fields(callback, report))
            states.append({"kind": kind, "fields": encode(found, arrays, where=kind)})
        except NotRepresentable as exc:
            del arrays[mark:]
            states.append({"kind": kind})
            report(f"the state of callback {kind} cannot be kept: {exc}")
    return states, [NamedArray(group="callbacks", path=f"array {at}", array=a) for at, a in enumerate(arrays)]


def _plain_fields(callback: Any, report: Callable[[str], None]) -> dict[str, Any]:
    """What a user's callback without the protocol has gathered in plain values: numbers, texts, lists, small arrays."""
    fields = _own_fields(callback)
    left = sorted(name for name, value in fields.items() if not _is_plain(value) and not _is_rebuilt(value))
    if left:
        report(
            f"callback {type(callback).__name__} holds {', '.join(left)}, which only it can save:"
            " give it state_dict() and load_state_dict()"
        )
    return {name: value for name, value in fields.items() if _is_plain(value)}


def _is_plain(value: Any, depth: int = 0) -> bool:
    if value is None or isinstance(value, bool | int | float | str | np.generic):
        return True
    if isinstance(value, np.ndarray):
        return value.nbytes <= SMALL_ARRAY_BYTES and not value.dtype.hasobject
    if depth < 4 and isinstance(value, list | tuple):
        return all(_is_plain(item, depth + 1) for item in value)
    if depth < 4 and isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item, depth + 1) for key, item in value.items())
    return False


def _is_rebuilt(value: Any) -> bool:
    """Whether running the script again gives an equal value: functions, models, datasets, open files, modules."""
    if callable(value) or isinstance(
        value, io.IOBase | keras.Model | keras.layers.Layer | keras.optimizers.Optimizer
    ):
        return True
    if hasattr(value, "element_spec") or hasattr(value, "shape"):
        return True
    if isinstance(value, list | tuple) and all(_is_rebuilt(item) or _is_plain(item) for item in value):
        return True
    return isinstance(value, keras.utils.PyDataset) or hasattr(value, "__fspath__")


def restore_callbacks(
    callbacks: Sequence[Any], states: Sequence[Any], arrays: Sequence[NamedArray]
) -> str | None:
    """Give each callback its state back; says how the two lists differ, if they do, and then changes nothing."""
    here = [type(callback).__name__ for callback in callbacks]
    there = [state["kind"] for state in states]
    if here != there:
        return f"callbacks {', '.join(here) or 'none'}, in the checkpoint {', '.join(there) or 'none'}"
    raw = [named.array for named in arrays]
    for callback, state in zip(callbacks, states, strict=True):
        if "state_dict" in state:
            callback.load_state_dict(decode(state["state_dict"], raw))
        elif "fields" in state:
            for name, value in decode(state["fields"], raw).items():
                setattr(callback, name, value)
    return None


def reopen_files(callbacks: Sequence[Any]) -> None:
    """Move every file that a callback has open for writing to its end: its content was just brought back."""
    for callback in callbacks:
        for value in list(vars(callback).values()):
            if isinstance(value, io.IOBase) and not value.closed and value.writable() and value.seekable():
                value.seek(0, os.SEEK_END)
        if isinstance(callback, keras.callbacks.CSVLogger):
            _continue_csv(callback)


def _continue_csv(logger: Any) -> None:
    """A CSVLogger that has written its header goes on with rows."""
    if logger.csv_file is None or logger.csv_file.tell() == 0:
        return
    logger.append_header = False
    if logger.keys and logger.writer is None and os.path.exists(logger.filename):
        with open(logger.filename, newline="", encoding="utf-8") as file:
            header = next(csv.reader(file, delimiter=logger.sep), None)
        if header and header[0] == "epoch":
            logger.keys = header[1:]


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

    def step_done(self, batch: int) -> None:
        """After every callback saw on_train_batch_end of `batch`, counted from 0 in the whole epoch."""

    def epoch_closes(self, epoch: int, logs: dict[str, Any]) -> dict[str, Any]:
        """Before any callback sees on_epoch_end; gives the logs to show them."""

    def epoch_closed(self, epoch: int, logs: dict[str, Any]) -> None:
        """After every callback saw it."""

    def leaves(self) -> bool:
        """Keras ends a fit; False where another part of the same fit follows."""


class FitCallbacks(keras.callbacks.CallbackList):  # type: ignore[misc]  # keras ships no types
    """Keras' own list, with the true batch numbers and an observer around each call.

    An observer in the list would have to be first and last at once, and Keras would take it for a user's callback
    with batch hooks and stop calling batch ends in the background.
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
        super().on_train_batch_begin(batch + self._fit.batch_offset, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        batch += self._fit.batch_offset
        super().on_train_batch_end(batch, logs)
        self._fit.step_done(batch)

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
