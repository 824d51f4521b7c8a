"""The state of callbacks, out and in.

Dumping `vars(callback)` would be wrong: Keras sets `min_delta` lazily and flips its sign, so a restored one flips
twice (measured: another learning rate 64 steps later). Hence a table of fields for Keras' own callbacks, the
`state_dict()`/`load_state_dict()` protocol for a user's, and a user's plain fields where it has none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from types import FunctionType
from typing import Any

import keras

from driverun.training.arrays import NamedArray
from driverun.training.keras_reach import draws_globally
from driverun.training.keras_values import is_kept, is_rebuilt, put_back, written
from driverun.training.trees import NotRepresentable, decode, encode

#: What each of Keras' own callbacks remembers between batches and epochs. Those with an empty tuple remember
#: nothing that the model, the files or a new `on_train_begin` does not bring back.
FIELDS: dict[str, tuple[str, ...]] = {
    "EarlyStopping": ("wait", "best", "best_epoch", "stopped_epoch", "best_weights"),
    "ReduceLROnPlateau": ("wait", "best", "cooldown_counter"),
    "ModelCheckpoint": ("best", "epochs_since_last_save", "_current_epoch", "_last_batch_seen",
                        "_batches_seen_since_last_saving"),
    "CSVLogger": ("keys",),
    "History": (),
    "LearningRateScheduler": (),
    "TerminateOnNaN": (),
    "LambdaCallback": (),
    "ProgbarLogger": (),
    "RemoteMonitor": (),
    "SwapEMAWeights": ("_ema_weights_in_model",),
    "TensorBoard": ("_global_train_batch", "_global_test_batch", "_previous_epoch_iterations"),
}  # fmt: skip
NOT_STATE = ("_model", "model", "params", "validation_data")

Clocks = tuple[float, ...]
LOADED_AT_S = time.time()  #: as soon as Keras was there: no callback of this process is older


def read_clocks() -> Clocks:
    """What every clock that a callback may keep a reading of shows, in seconds."""
    return (time.time(), time.monotonic(), time.perf_counter(), time.process_time())


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


def draw_globally(callbacks: Sequence[Any]) -> bool:
    """Whether the script's own callbacks may draw from Python's or NumPy's global generator."""
    for callback in callbacks:
        methods = [] if _is_keras_own(type(callback)) else list(vars(type(callback)).values())
        functions = [f for f in (*methods, *vars(callback).values()) if isinstance(f, FunctionType)]
        if any(draws_globally(function) for function in functions):
            return True
    return False


def callbacks_state(
    callbacks: Sequence[Any], report: Callable[[str], None]
) -> tuple[list[Any], list[NamedArray]]:
    """The state of each callback as JSON, and the arrays it refers to; what cannot be kept is reported.

    What a user's callback holds without the protocol is under "own", in arrays of another group: it may hold wall
    times, which two equal runs do not share.
    """
    arrays: list[Any] = []
    own_arrays: list[Any] = []
    states = [_state_of(callback, arrays, own_arrays, report) for callback in callbacks]
    named = [NamedArray(group="callbacks", path=f"array {at}", array=a) for at, a in enumerate(arrays)]
    return states, named + [
        NamedArray(group="callbacks_own", path=f"array {at}", array=a) for at, a in enumerate(own_arrays)
    ]


def _state_of(
    callback: Any, arrays: list[Any], own_arrays: list[Any], report: Callable[[str], None]
) -> dict[str, Any]:
    kind = type(callback).__name__
    fields = _table_fields(callback)
    if fields is None and _is_keras_own(type(callback)):
        report(f"the state of callback {kind} is not known")
    mark = len(arrays)
    try:
        if _has_protocol(callback):
            return {"kind": kind, "state_dict": encode(callback.state_dict(), arrays, where=kind)}
        found = {name: getattr(callback, name) for name in fields or () if hasattr(callback, name)}
        state: dict[str, Any] = {"kind": kind, "fields": encode(found, arrays, where=kind)}
    except NotRepresentable as exc:
        del arrays[mark:]
        report(f"the state of callback {kind} cannot be kept: {exc}")
        return {"kind": kind}
    if not _is_keras_own(type(callback)):
        state["own"] = _own_state(callback, own_arrays, report)
    return state


def _own_state(callback: Any, arrays: list[Any], report: Callable[[str], None]) -> dict[str, Any]:
    fields = _own_fields(callback)
    kind = type(callback).__name__
    left = sorted(name for name, value in fields.items() if not is_kept(value) and not is_rebuilt(value))
    if left:
        report(
            f"callback {kind} holds {', '.join(left)}, which only it can save:"
            " give it state_dict() and load_state_dict()"
        )
    return {
        name: written(value, arrays, where=f"{kind}.{name}")
        for name, value in fields.items()
        if is_kept(value)
    }


def restore_callbacks(
    callbacks: Sequence[Any],
    states: Sequence[Any],
    arrays: Sequence[NamedArray],
    own_arrays: Sequence[NamedArray],
    *,
    begun_at: Clocks,
    longer: tuple[int, int],
) -> str | None:
    """Give each callback its state back; says how the two lists differ, if they do, and then changes nothing.

    A field that holds a reading of a clock made since `begun_at` keeps it: the old one is of another process. So does
    one that held how many epochs the fit has, and holds how many it has now.

    Args:
        longer: how many epochs the fit had, and has; they differ where a run is continued.
    """
    here = [type(callback).__name__ for callback in callbacks]
    there = [state["kind"] for state in states]
    if here != there:
        return f"callbacks {', '.join(here) or 'none'}, in the checkpoint {', '.join(there) or 'none'}"
    raw = [named.array for named in arrays]
    own = [named.array for named in own_arrays]
    now = read_clocks()
    for callback, state in zip(callbacks, states, strict=True):
        if "state_dict" in state:
            callback.load_state_dict(decode(state["state_dict"], raw))
        for name, value in decode(state.get("fields", {}), raw).items():
            setattr(callback, name, value)
        for name, note in state.get("own", {}).items():
            existing = getattr(callback, name, None)
            is_total = longer[0] != longer[1] and (note.get("$value"), existing) == longer
            if not is_total and not _is_reading(existing, begun_at, now):
                put_back(note, own, existing, partial(setattr, callback, name))
    return None


def _is_reading(value: Any, since: Clocks, until: Clocks) -> bool:
    """Whether the value is what one of the clocks showed between the two moments, in seconds or nanoseconds.

    No other number looks like the time of day, so that may have been read since the process began, as in a constructor.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    seconds = value / 1e9 if isinstance(value, int) else value
    since = (LOADED_AT_S, *since[1:])
    return any(before <= seconds <= after for before, after in zip(since, until, strict=True))
