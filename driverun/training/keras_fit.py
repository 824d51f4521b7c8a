"""`keras.Model.fit`, made to take up where an earlier process lost it.

The script is unchanged and so is Keras: the data are given in an order that is a function of (seed, fit, epoch), the
callbacks sit in a list that watches, and a resumed fit is Keras' own fit called for the rest of the interrupted epoch and
then for the epochs after it. An uninterrupted fit is one call, exactly as the script would have made it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from driverun.errors import JobError
from driverun.spool.events import EventKind
from driverun.spool.snapshot import SnapshotHeader
from driverun.training import keras_stack
from driverun.training.arrays import NamedArray, digest_of, read_tensors
from driverun.training.keras_callbacks import (
    FitCallbacks,
    SilentCallbacks,
    callbacks_state,
    reopen_files,
    restore_callbacks,
)
from driverun.training.keras_data import Part, is_reshuffled, iterators_of, source_of, top_up
from driverun.training.keras_models import FittedModels
from driverun.training.keras_state import misfit, model_arrays, restore_model
from driverun.training.randomness import derived_seed, host_random_state, restore_host_random_state
from driverun.training.session import TrainingSession

OriginalFit = Callable[..., Any]
SAMPLE_EVERY_S = 10.0  #: how often a long epoch tells its metrics


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
        with inside:
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            arguments = {name: value for name, value in bound.arguments.items() if name != "self"}
            models.begin(self)
            return ResumableFit(session, original_fit, self, arguments).run()

    @functools.wraps(original_evaluate)
    def evaluate(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = original_evaluate(self, *args, **kwargs)
        if not inside.depth:
            session.events.write(EventKind.EVALUATED, logs=_floats(self.get_metrics_result()))
        return found

    keras.Model.fit = fit
    keras.Model.evaluate = evaluate
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


def _floats(logs: Mapping[str, Any] | None) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in (logs or {}).items():
        try:
            found[name] = float(value)
        except (TypeError, ValueError):
            continue
    return found


def _numbers(history: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Keras' history as JSON: float64, or nested lists where a metric is an array."""
    return {
        name: [value if isinstance(value, int | float) else np.asarray(value).tolist() for value in values]
        for name, values in history.items()
    }


class ResumableFit:
    """One call of `fit`: replayed, taken up or trained from its start."""

    def __init__(
        self, session: TrainingSession, original: OriginalFit, model: Any, arguments: dict[str, Any]
    ) -> None:
        self._session = session
        self._original = original
        self._model = model
        self._arguments = arguments
        self._index = session.fits_begun
        session.fits_begun += 1
        self._seed = derived_seed(session.request.seed, "fit", self._index)
        self._split_validation()
        self._first_epoch = int(arguments["initial_epoch"])
        self._epochs = int(arguments["epochs"])
        self._source = source_of(
            arguments, seed=self._seed, epochs=self._epochs, initial_epoch=self._first_epoch
        )
        self._validation = self._validation_dataset()
        self._validation_base = 0
        self._fingerprint = self._make_fingerprint()
        self._callbacks = self._make_callbacks()
        # Where the fit stands.
        self.batch_offset = 0
        self._step_at_start = session.step
        self._step_at_epoch = session.step
        self._epoch = self._first_epoch
        self._step_in_epoch = 0
        self._batches_here = 0  #: calls of this process in the epoch
        self._several_a_call = int(getattr(model, "steps_per_execution", 1) or 1) > 1
        self._taken_up: tuple[Path, SnapshotHeader] | None = None
        self._in_later_part = False
        self._more_parts = False
        self._stop_after: int | None = None
        self._stopped_short = False
        self._wanted_stop = False
        self._resumed_epoch: int | None = None
        self._files_before: set[str] = set()
        self._epochs_since_snapshot = 0
        self._monitored: float | None = None
        self._sampled_at = session.clock.monotonic()

    # The three ways.

    def run(self) -> Any:
        finished = self._session.finished_fit(self._index)
        if finished is not None:
            return self._replay(*finished)
        for reason in self._source.reasons(self._session.deterministic):
            self._session.approximate(reason)
        self._taken_up = self._session.checkpoint_of(self._index)
        self._source.begin_fit()
        if self._validation is not None:
            self._validation_base = iterators_of(self._validation)
        if self._taken_up is not None:
            self._check_fingerprint(self._taken_up[1])
            self._build()
            self._files_before = self._session.files.paths()
            self._epoch = self._taken_up[1].epoch
        batch = self._taken_up[1].step_in_epoch if self._taken_up else 0
        parts = self._source.parts(self._epoch, batch, self._epochs, self._session.approximate)
        if not parts or (batch and parts[0].batch_offset != batch):
            self._resumed_epoch = None
        elif batch:
            self._resumed_epoch = self._epoch
        self._tell_begun()
        history = None
        for at, part in enumerate(parts):
            self._more_parts = at + 1 < len(parts)
            self._in_later_part = at > 0
            history = self._train(part)
            if self._model.stop_training:
                break
        self._finish()
        return history

    def _train(self, part: Part) -> Any:
        self.batch_offset = part.batch_offset
        self._stop_after = part.stop_after
        keep_average = self._more_parts and getattr(self._model.optimizer, "use_ema", False)
        if keep_average:
            # Keras ends a fit by overwriting the weights with their average; this fit is not at its end.
            self._model.optimizer.finalize_variable_values = lambda *_, **__: None
        try:
            return self._original(
                self._model,
                **{
                    **{name: value for name, value in self._arguments.items() if name not in _OWNED},
                    **part.arguments,
                    "callbacks": self._callbacks,
                    "initial_epoch": part.initial_epoch,
                    "epochs": part.epochs,
                },
            )
        finally:
            if keep_average:
                del self._model.optimizer.finalize_variable_values

    def _replay(self, folder: Path, header: SnapshotHeader) -> Any:
        """Leave behind what this fit left when it was trained in an earlier attempt."""
        self._check_fingerprint(header)
        arrays = read_tensors(folder, header)
        self._source.begin_fit()
        validation_base = iterators_of(self._validation) if self._validation is not None else 0
        if misfit(self._model, arrays) is not None:
            self._build()
        before = self._session.files.paths()
        if header.state.get("variables_left_out"):
            self._session.approximate(f"the variables at the end of fit {self._index + 1} were not kept")
        else:
            restore_model(self._model, arrays, what=f"the end of fit {self._index + 1}")
        self._restore_callbacks(header, arrays)
        epochs_run = int(header.state["epochs_run"])
        self._source.restore_variables(arrays.get("data", []))
        self._source.close_fit(epochs_run)
        if self._validation is not None and is_reshuffled(self._validation):
            top_up(self._validation, validation_base + 4 * epochs_run)
        self._restore_files(header, before)
        self._model.stop_training = bool(header.state["stop_training"])
        self._session.count_replayed_fit(header, digest_of(_all(arrays), _digested(header.state)))
        self._restore_random(header)
        keras_stack.reseed(derived_seed(self._seed, "after"))
        self._session.events.write(
            EventKind.FIT_ENDED,
            fit=self._index,
            step=header.step,
            history=header.state["history"]["values"],
            epochs=header.state["history"]["epochs"],
            replayed=True,
        )
        self._session.say(f"fit {self._index + 1} was finished before, at step {header.step}")
        return self._callbacks.history

    # Preparing.

    def _split_validation(self) -> None:
        """Do what Keras does with `validation_split`, before the order of the data is made."""
        arguments = self._arguments
        if arguments.get("validation_split") and arguments.get("validation_data") is None:
            from keras.src.trainers.data_adapters.array_slicing import train_validation_split

            (x, y, weight), validation = train_validation_split(
                (arguments["x"], arguments["y"], arguments["sample_weight"]),
                validation_split=arguments["validation_split"],
            )
            arguments.update(x=x, y=y, sample_weight=weight, validation_data=validation, validation_split=0.0)
        if arguments.get("validation_batch_size") is None:
            arguments["validation_batch_size"] = arguments.get("batch_size")

    def _validation_dataset(self) -> Any:
        import tensorflow as tf

        data = self._arguments.get("validation_data")
        return data if isinstance(data, tf.data.Dataset) else None

    def _make_callbacks(self) -> FitCallbacks:
        given = self._arguments.get("callbacks")
        if isinstance(given, keras.callbacks.CallbackList):
            given = given.callbacks
        flat = [callback for callback in keras.tree.flatten(given) if callback is not None] if given else []
        for callback in flat:
            if isinstance(callback, keras.callbacks.BackupAndRestore):
                self._session.say(
                    "BackupAndRestore is left out: it would repeat steps, and driverun resumes this fit exactly"
                )
        flat = [callback for callback in flat if not isinstance(callback, keras.callbacks.BackupAndRestore)]
        verbose = self._arguments.get("verbose", "auto")
        return FitCallbacks(
            self,
            flat,
            add_progbar=verbose != 0,
            verbose=verbose,
            epochs=self._epochs,
            steps=self._source.batches,
            model=self._model,
        )

    def _make_fingerprint(self) -> dict[str, Any]:
        model = self._model
        return {
            "model": type(model).__name__,
            "layers": [type(layer).__name__ for layer in model.layers],
            "optimizer": type(model.optimizer).__name__,
            "epochs": self._epochs,
            "initial_epoch": self._first_epoch,
            "data": self._source.describe(),
            "callbacks": [type(callback).__name__ for callback in self._own_callbacks()],
        }

    def _own_callbacks(self) -> Sequence[Any]:
        given = self._arguments.get("callbacks")
        if isinstance(given, keras.callbacks.CallbackList):
            given = given.callbacks
        return [item for item in keras.tree.flatten(given) if item is not None] if given else []

    def _check_fingerprint(self, header: SnapshotHeader) -> None:
        there = {name: header.fingerprint.get(name) for name in self._fingerprint}
        differing = [name for name in there if there[name] != self._fingerprint[name]]
        if differing:
            text = "; ".join(f"{name}: {self._fingerprint[name]}, was {there[name]}" for name in differing)
            if not self._session.request.code_changed:
                raise JobError(
                    f"cannot take up fit {self._index + 1}: it is not the fit that was interrupted ({text})."
                    " The script does not do the same when it runs again; make it, or start over with"
                    " `driverun retry RUN --fresh`."
                )
            self._session.approximate(f"code changed: fit {self._index + 1} differs ({text})")
        stack = header.fingerprint.get("stack", {})
        for name, value in self._session.stack.items():
            if name in stack and stack[name] != value:
                self._session.approximate(f"{name} changed from {stack[name]} to {value}")
        for gap in header.state.get("gaps", []):
            self._session.approximate(gap)
        if header.state.get("files_left_out"):
            self._session.approximate("the files that the script wrote were too large for the checkpoint")

    def _build(self) -> None:
        """Let Keras make every variable, by one step on a sample; all that it changes is restored afterwards."""
        failed: Exception | None = None
        for sample in self._source.samples():
            try:
                self._original(
                    self._model,
                    **{**sample, "epochs": 1, "verbose": 0, "callbacks": SilentCallbacks(self._model)},
                )
                self._model.history = self._callbacks.history
                return
            except (ValueError, RuntimeError) as exc:
                failed = exc
        raise JobError(f"cannot build the model of fit {self._index + 1} to take it up: {failed}") from failed

    # What the list of callbacks tells (keras_callbacks.FitEvents).

    def enters(self) -> bool:
        return not self._in_later_part

    def begun(self) -> None:
        if self._taken_up is not None and self._taken_up[1].step_in_epoch == 0:
            self._take_up(*self._taken_up)

    def epoch_opens(self, epoch: int) -> None:
        self._epoch = epoch
        self._step_at_epoch = self._session.step
        self._step_in_epoch = 0
        self._batches_here = 0
        self._source.open_epoch(epoch)
        if self._validation is not None and is_reshuffled(self._validation):
            top_up(self._validation, self._validation_base + 4 * (epoch - self._first_epoch))

    def epoch_opened(self, epoch: int) -> None:
        # The callbacks' on_epoch_begin has run a second time for this epoch; what it did is undone here.
        if (
            self._taken_up is not None
            and epoch == self._taken_up[1].epoch
            and self._taken_up[1].step_in_epoch
        ):
            self._take_up(*self._taken_up)

    def step_done(self, batch: int) -> None:
        session = self._session
        in_epoch = batch + 1
        batches = self._source.batches
        if self._several_a_call and batches is not None:
            in_epoch = min(
                in_epoch, batches
            )  # with steps_per_execution the last call of an epoch may be shorter
        self._batches_here += 1
        step = self._step_at_epoch + in_epoch
        session.executed += step - session.step
        session.step = step
        self._step_in_epoch = in_epoch
        if self._stop_after is not None and in_epoch >= self.batch_offset + self._stop_after:
            self._wanted_stop = bool(self._model.stop_training)
            self._stopped_short = True
            self._model.stop_training = True
        session.put_progress(
            fit=self._index,
            epoch=self._epoch,
            step_in_epoch=in_epoch,
            steps_per_epoch=-1 if batches is None else batches,
            total_steps=self._total_steps(-1),
        )
        if session.hand_over_wanted:
            self._hand_over()
        elif in_epoch != batches and session.snapshot_due():
            self._snapshot(self._epoch, in_epoch)
            self._tell_sample()

    def epoch_closes(self, epoch: int, logs: dict[str, Any]) -> dict[str, Any]:
        if self._stopped_short:
            self._model.stop_training = self._wanted_stop
            self._stopped_short = False
            self._stop_after = None
        if epoch == self._resumed_epoch and not self._batches_here:
            # Of an epoch whose batches were all consumed before, Keras saw none; the restored metrics know it all.
            result = _floats(self._model.get_metrics_result())
            if not set(result) & set(logs):
                logs = {**result, **logs}
        self.batch_offset = 0
        return logs

    def epoch_closed(self, epoch: int, logs: dict[str, Any]) -> None:
        session = self._session
        if self._source.batches is None and epoch != self._resumed_epoch:
            self._source.batches = self._step_in_epoch or None
            self._callbacks.params["steps"] = self._source.batches
        self._epoch = epoch + 1
        self._step_in_epoch = 0
        self._step_at_epoch = session.step
        self._epochs_since_snapshot += 1
        floats = _floats(logs)
        self._monitored = floats.get(session.request.monitor or "val_loss", self._monitored)
        session.events.write(
            EventKind.EPOCH_ENDED, fit=self._index, epoch=epoch, step=session.step, logs=floats
        )
        session.put_progress(
            fit=self._index,
            epoch=epoch + 1,
            step_in_epoch=0,
            steps_per_epoch=-1 if self._source.batches is None else self._source.batches,
            total_steps=self._total_steps(-1),
        )
        last = epoch + 1 >= self._epochs or bool(self._model.stop_training)
        if last:
            return  # the end of the fit follows at once
        if session.hand_over_wanted:
            self._hand_over()
        elif session.snapshot_due(epochs_since=self._epochs_since_snapshot):
            self._snapshot(epoch + 1, 0, opening=True)

    def leaves(self) -> bool:
        return not self._more_parts or bool(self._model.stop_training)

    # Putting down.

    def _state(self) -> tuple[dict[str, Any], list[NamedArray]]:
        self._callbacks.settle()
        states, arrays = callbacks_state(self._callbacks.callbacks, self._session.gap)
        history = self._callbacks.history
        return {
            "callbacks": states,
            "history": {
                "epochs": [int(epoch) for epoch in history.epoch],
                "values": _numbers(history.history),
            },
            "random": host_random_state(),
            "stop_training": bool(self._wanted_stop if self._stopped_short else self._model.stop_training),
        }, arrays

    def _snapshot(self, epoch: int, step_in_epoch: int, *, opening: bool = False) -> bool:
        """Put the state at this step boundary down; `opening`: no batch of the epoch was drawn yet."""
        state, callback_arrays = self._state()
        data = self._source.variables_now() if opening else self._source.variables()
        taken = self._session.take_snapshot(
            [*model_arrays(self._model), *callback_arrays, *data],
            epoch=epoch,
            step_in_epoch=step_in_epoch,
            steps_per_epoch=self._source.batches,
            total_steps=self._total_steps(None),
            state=state,
            fingerprint=self._fingerprint,
            monitored=self._monitored,
        )
        if taken:
            self._epochs_since_snapshot = 0
        return taken

    def _hand_over(self) -> None:
        opening = self._step_in_epoch == 0
        for _ in range(HAND_OVER_TRIES):
            if self._snapshot(self._epoch, self._step_in_epoch, opening=opening):
                break
            self._session.clock.sleep(0.1)
        self._session.hand_over()

    def _finish(self) -> None:
        session = self._session
        epochs_run = self._epoch - self._first_epoch
        self._source.close_fit(epochs_run)
        if self._validation is not None and is_reshuffled(self._validation):
            top_up(self._validation, self._validation_base + 4 * epochs_run)
        state, callback_arrays = self._state()
        session.put_fit_end(
            [*model_arrays(self._model), *callback_arrays, *self._source.variables()],
            epoch=self._epoch,
            state=_digested({**state, "epochs_run": epochs_run}),
            fingerprint=self._fingerprint,
            monitored=self._monitored,
        )
        keras_stack.reseed(derived_seed(self._seed, "after"))
        session.put_progress(
            fit=self._index,
            epoch=self._epoch,
            step_in_epoch=0,
            steps_per_epoch=-1 if self._source.batches is None else self._source.batches,
            total_steps=session.step,
        )
        session.events.write(
            EventKind.FIT_ENDED,
            fit=self._index,
            step=session.step,
            history=state["history"]["values"],
            epochs=state["history"]["epochs"],
            replayed=False,
        )
        if session.hand_over_wanted:
            session.hand_over()

    # Taking up.

    def _take_up(self, folder: Path, header: SnapshotHeader) -> None:
        """Restore everything, after every callback's own beginning."""
        arrays = read_tensors(folder, header)
        restore_model(self._model, arrays, what=f"fit {self._index + 1} at step {header.step}")
        self._restore_callbacks(header, arrays)
        self._source.restore_variables(arrays.get("data", []))
        self._restore_files(header, self._files_before)
        self._model.stop_training = bool(header.state["stop_training"])
        self._session.took_up(header)
        self._step_at_epoch = header.step - header.step_in_epoch
        self._step_in_epoch = header.step_in_epoch
        self._monitored = header.monitored
        self._taken_up = None
        self._session.events.write(
            EventKind.RESUMED,
            fit=self._index,
            step=header.step,
            epoch=header.epoch,
            step_in_epoch=header.step_in_epoch,
        )
        self._session.say(
            f"goes on at step {header.step} (epoch {header.epoch + 1}, batch {header.step_in_epoch + 1})"
        )
        self._restore_random(header)

    def _restore_callbacks(self, header: SnapshotHeader, arrays: Mapping[str, Sequence[NamedArray]]) -> None:
        difference = restore_callbacks(
            self._callbacks.callbacks, header.state["callbacks"], arrays.get("callbacks", [])
        )
        if difference is not None:
            self._session.approximate(f"code changed: {difference}")
        history = self._callbacks.history
        self._model.history = history
        history.epoch = list(header.state["history"]["epochs"])
        history.history = {name: list(values) for name, values in header.state["history"]["values"].items()}

    def _restore_files(self, header: SnapshotHeader, before: set[str]) -> None:
        if header.state.get("files_left_out"):
            return
        self._session.files.restore(header.files, here_before=before)
        reopen_files(self._callbacks.callbacks)

    def _restore_random(self, header: SnapshotHeader) -> None:
        restore_host_random_state(header.state["random"])

    # Telling.

    def _total_steps(self, unknown: Any) -> Any:
        if self._source.batches is None:
            return unknown
        return self._step_at_start + self._source.batches * max(0, self._epochs - self._first_epoch)

    def _tell_sample(self) -> None:
        """The metrics in the middle of a long epoch, now and then: reading them waits for the device."""
        session = self._session
        if session.clock.monotonic() - self._sampled_at >= SAMPLE_EVERY_S:
            self._sampled_at = session.clock.monotonic()
            logs = _floats(self._model.get_metrics_result())
            session.events.write(
                EventKind.PROGRESS, fit=self._index, epoch=self._epoch, step=session.step, logs=logs
            )

    def _tell_begun(self) -> None:
        self._session.events.write(
            EventKind.FIT_BEGUN,
            fit=self._index,
            step=self._session.step,
            epochs=self._epochs,
            steps_per_epoch=self._source.batches,
            total_steps=self._total_steps(None),
            taken_up=self._taken_up is not None,
        )


_OWNED = (
    "x",
    "y",
    "sample_weight",
    "class_weight",
    "batch_size",
    "steps_per_epoch",
    "shuffle",
    "callbacks",
    "initial_epoch",
    "epochs",
)
HAND_OVER_TRIES = 100  #: a tenth of a second apart, while both buffers are being read


def _all(arrays: Mapping[str, Sequence[NamedArray]]) -> list[NamedArray]:
    return [named for group in arrays.values() for named in group]


def _digested(state: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a fit's state that two equal runs share."""
    return {
        name: state[name]
        for name in ("callbacks", "history", "random", "stop_training", "epochs_run")
        if name in state
    }
