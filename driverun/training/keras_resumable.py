"""One call of `fit`, made to take up where an earlier process lost it.

The script is unchanged and so is Keras: the data are given in an order that a later process can bring about again, the
callbacks sit in a list that watches, and a resumed fit is Keras' own fit called for the rest of the interrupted
epoch and then for the epochs after it. An uninterrupted fit is one call, as the script would have made it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from driverun.errors import JobError
from driverun.spool.events import EventKind
from driverun.spool.snapshot import SnapshotHeader
from driverun.training import keras_stack
from driverun.training.arrays import NamedArray, digest_of, read_tensors
from driverun.training.keras_callback_files import flush_writers, open_paths, reopen_files
from driverun.training.keras_callback_state import (
    Clocks,
    callbacks_state,
    draw_globally,
    read_clocks,
    restore_callbacks,
)
from driverun.training.keras_callbacks import FitCallbacks, SilentCallbacks
from driverun.training.keras_data import source_of
from driverun.training.keras_fingerprint import check_fit, fingerprint_of
from driverun.training.keras_iterators import owe, shuffle_counts, top_up
from driverun.training.keras_pipelines import Memory
from driverun.training.keras_source import Part
from driverun.training.keras_state import hidden_random_operations, misfit, model_arrays, restore_model
from driverun.training.keras_surroundings import restore_surroundings, surroundings_state
from driverun.training.keras_validation import Validation
from driverun.training.keras_weights import start_from_weights
from driverun.training.randomness import derived_seed, host_random_state, restore_host_random_state
from driverun.training.session import TrainingSession

OriginalFit = Callable[..., Any]
SAMPLE_EVERY_S = 10.0  #: how often a long epoch tells its metrics
HAND_OVER_TRIES = 100  #: a tenth of a second apart, while both buffers are being read
DATA_ARGUMENTS = ("x", "y", "sample_weight", "class_weight", "batch_size", "steps_per_epoch", "shuffle")
OWNED = frozenset({*DATA_ARGUMENTS, "callbacks", "initial_epoch", "epochs"})
NOT_SHARED = ("callbacks_own", "surroundings")  #: groups of arrays that may hold wall times


def floats_of(logs: Mapping[str, Any] | None) -> dict[str, float]:
    """The logs that are numbers."""
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


def _pythonified(logs: Any) -> dict[str, Any]:
    from keras.src.utils.python_utils import pythonify_logs

    found = pythonify_logs(logs) if isinstance(logs, dict) else {}
    return {name: value if isinstance(value, int | float) else None for name, value in found.items()}


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
        self._several_a_call = int(getattr(model, "steps_per_execution", 1) or 1)
        self._source = source_of(
            arguments,
            seed=self._seed,
            epochs=self._epochs,
            first_epoch=self._first_epoch,
            steps_per_execution=self._several_a_call,
        )
        self._validation = Validation(
            arguments.get("validation_data"), steps=arguments.get("validation_steps"), seed=self._seed
        )
        arguments["validation_data"] = self._validation.argument
        given = self._given_callbacks()
        self._fingerprint = fingerprint_of(
            model, self._source, given, first_epoch=self._first_epoch, epochs=self._epochs
        )
        self._callbacks = self._make_callbacks(given)
        # Where the fit stands.
        self.batch_offset = 0
        self._step_at_start = session.step
        self._step_at_epoch = session.step
        self._epoch = self._first_epoch
        self._step_in_epoch = 0
        self._batches_here = 0  #: calls of this process in the epoch
        self._updates_at_epoch: int | None = None
        self._last_logs: Any = None
        self._epochs_since_snapshot = 0
        self._monitored: float | None = None
        self._sampled_at = session.clock.monotonic()
        # What is needed to be taken up again.
        self._orders_at_open: dict[str, int] = {}
        self._random_at_open: dict[str, Any] | None = None
        self._known_gaps: list[str] | None = None
        # Taking up.
        self._taken_up: tuple[Path, SnapshotHeader] | None = None
        self._position: SnapshotHeader | None = None  #: until the first batch after it is asked for
        self._part: Part | None = None
        self._in_later_part = False
        self._more_parts = False
        self._between_parts: tuple[dict[str, Any], dict[str, Any]] | None = None
        self._stopped_short = False
        self._wanted_stop = False
        self._consumed_before: dict[str, Any] | None = None  #: logs of an epoch that has no batch left
        self._begun_at: Clocks = read_clocks()

    # The three ways.

    def run(self) -> Any:
        finished = self._session.finished_fit(self._index)
        if finished is not None:
            return self._replay(*finished)
        session = self._session
        for reason in (
            *self._source.reasons(session.deterministic),
            *self._validation.reasons(session.deterministic),
        ):
            session.approximate(reason)
        self._source.begin_fit()
        self._taken_up = session.checkpoint_of(self._index)
        parts = self._parts()
        self._tell_begun()
        history = None
        for at, part in enumerate(parts):
            self._part = part
            self._more_parts = at + 1 < len(parts)
            self._in_later_part = at > 0
            history = self._train(part)
            if self._model.stop_training:
                break
        self._finish()
        return history

    def _parts(self) -> list[Part]:
        report = self._session.approximate
        if self._taken_up is None:
            return self._source.parts(self._first_epoch, 0, self._epochs, report)
        header = self._taken_up[1]
        check_fit(self._session, self._index, self._fingerprint, header)
        self._build()
        self._bring_data_to(header)
        self._epoch = header.epoch
        if header.epoch >= self._epochs or _is_stopped(header):
            # All epochs were trained, a callback ended the fit, or the code was changed to train for less.
            return [Part(arguments=self._source.native(), initial_epoch=self._epochs, epochs=self._epochs)]
        return self._source.parts(header.epoch, header.step_in_epoch, self._epochs, report)

    def _train(self, part: Part) -> Any:
        self.batch_offset = part.batch_offset
        arguments = {name: value for name, value in self._arguments.items() if name not in OWNED}
        with self._average_kept(), _silence_about_the_end(part):
            return self._original(
                self._model,
                **{
                    **arguments,
                    **part.arguments,
                    "callbacks": self._callbacks,
                    "initial_epoch": part.initial_epoch,
                    "epochs": part.epochs,
                },
            )

    @contextmanager
    def _average_kept(self) -> Iterator[None]:
        """Keras ends a fit by overwriting the weights with their average: not where another part follows."""
        optimizer = self._model.optimizer
        if not self._more_parts or optimizer is None:
            yield
            return
        original = optimizer.finalize_variable_values

        def finalize(variables: Any) -> None:
            if self._model.stop_training:
                original(variables)

        optimizer.finalize_variable_values = finalize
        try:
            yield
        finally:
            del optimizer.finalize_variable_values

    def _replay(self, folder: Path, header: SnapshotHeader) -> Any:
        """Leave behind what this fit left when it was trained in an earlier attempt."""
        session = self._session
        check_fit(session, self._index, self._fingerprint, header)
        arrays = read_tensors(folder, header)
        if header.state.get("variables_left_out"):
            session.approximate(f"the variables at the end of fit {self._index + 1} were not kept")
        else:
            if misfit(self._model, arrays) is not None:
                self._build()
            restore_model(self._model, arrays, what=f"the end of fit {self._index + 1}")
        self._bring_data_to(header, later=True)
        self._source.leave()
        self._restore_data(arrays)
        self._restore_around(header, arrays)
        self._model.stop_training = bool(header.state["stop_training"])
        session.count_replayed_fit(header, self._digest(_all(arrays), header.state))
        self._restore_random(header)
        keras_stack.reseed(derived_seed(self._seed, "after"))
        session.events.write(
            EventKind.FIT_ENDED,
            fit=self._index,
            step=header.step,
            history=header.state["history"]["values"],
            epochs=header.state["history"]["epochs"],
            replayed=True,
        )
        session.say(f"fit {self._index + 1} was finished before, at step {header.step}")
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

    def _given_callbacks(self) -> list[Any]:
        given = self._arguments.get("callbacks")
        if isinstance(given, keras.callbacks.CallbackList):
            given = given.callbacks
        flat = [callback for callback in keras.tree.flatten(given) if callback is not None] if given else []
        kept = [item for item in flat if not isinstance(item, keras.callbacks.BackupAndRestore)]
        if len(kept) < len(flat):
            self._session.say(
                "BackupAndRestore is left out: it would repeat steps, and driverun resumes this fit exactly"
            )
        return kept

    def _make_callbacks(self, given: Sequence[Any]) -> FitCallbacks:
        verbose = self._arguments.get("verbose", "auto")
        return FitCallbacks(
            self,
            given,
            add_progbar=verbose != 0,
            verbose=verbose,
            epochs=self._epochs,
            steps=self._source.batches,
            model=self._model,
        )

    def _build(self) -> None:
        """Let Keras make every variable by one step on a sample; all that it changes is restored afterwards."""
        import tensorflow as tf

        failed: Exception | None = None
        for sample in self._source.samples(self._session.approximate):
            try:
                self._original(
                    self._model,
                    **{**sample, "epochs": 1, "verbose": 0, "callbacks": SilentCallbacks(self._model)},
                )
            except (ValueError, RuntimeError, TypeError, tf.errors.OpError) as exc:
                failed = exc
            else:
                self._model.history = self._callbacks.history
                return
        raise JobError(f"cannot build the model of fit {self._index + 1} to take it up: {failed}") from failed

    # What the list of callbacks tells (keras_callbacks.FitEvents).

    def enters(self) -> bool:
        if self._starts_from_weights:
            start_from_weights(self._session, self._model)
        if self._in_later_part and self._between_parts is not None:
            host, hidden = self._between_parts  # what Keras drew to begin once more
            restore_host_random_state(host)
            keras_stack.restore_hidden_random_state(hidden)
        self._begun_at = read_clocks()
        return not self._in_later_part

    @property
    def _starts_from_weights(self) -> bool:
        return (
            self._session.request.weights_of is not None
            and self._index == 0
            and self._taken_up is None
            and not self._in_later_part
        )

    def begun(self) -> None:
        header = self._taken_up[1] if self._taken_up is not None else None
        if header is not None and (not header.step_in_epoch or header.epoch >= self._epochs):
            self._take_up()

    def epoch_opens(self, epoch: int) -> None:
        self._epoch = epoch
        self._step_at_epoch = self._session.step
        self._step_in_epoch = 0
        self._batches_here = 0
        self._last_logs = None
        self._updates_at_epoch = self._updates() if self._counts_updates else None
        self._source.open_epoch(epoch)
        for pipeline in self._pipelines():
            pipeline.open_here()
        if not self._source.is_stream or epoch == self._first_epoch:
            self._orders_at_open = shuffle_counts()

    def epoch_opened(self, epoch: int) -> None:
        # The callbacks' on_epoch_begin has run a second time for this epoch; what it did is undone here.
        if self._taken_up is not None:
            self._take_up()
        elif self._source.draws_globally and not (self._source.is_stream and epoch > self._first_epoch):
            self._random_at_open = host_random_state()

    def batch_opens(self) -> bool:
        if self._position is None:
            return True
        position, self._position = self._position, None
        is_empty = self._part is not None and self._part.is_empty
        if is_empty:
            self._source.enter_empty_epoch()
        top_up(position.state["orders"]["now"])
        if is_empty:
            self._source.leave_empty_epoch()
        return not is_empty

    def step_done(self, batch: int, logs: Any) -> None:
        session = self._session
        batches = self._source.batches
        in_epoch = batch + 1
        if self._several_a_call > 1:
            in_epoch = self._counted(in_epoch)
        self._batches_here += 1
        self._last_logs = logs
        step = self._step_at_epoch + in_epoch
        session.executed += step - session.step
        session.step = step
        self._step_in_epoch = in_epoch
        is_stopping = self._model.stop_training
        part = self._part
        if part is not None and part.stops_at == (self._epoch, in_epoch):
            self._wanted_stop = bool(is_stopping)
            self._stopped_short = True
            self._model.stop_training = True
        session.put_progress(
            fit=self._index,
            epoch=self._epoch,
            step_in_epoch=in_epoch,
            steps_per_epoch=-1 if batches is None else batches,
            total_steps=self._total_steps(-1),
        )
        if is_stopping:
            return  # the epoch ends here, and with it the fit
        if session.hand_over_wanted:
            self._hand_over()
        elif in_epoch != batches and session.snapshot_due():
            self._snapshot(self._epoch, in_epoch)
            self._tell_sample()

    def validation_opens(self) -> None:
        self._validation.opens()

    def epoch_closes(self, epoch: int, logs: dict[str, Any]) -> dict[str, Any]:
        del epoch
        if self._stopped_short:
            self._model.stop_training = self._wanted_stop
            self._stopped_short = False
        if self._consumed_before is not None:
            if not self._batches_here:
                logs = {**self._consumed_before, **logs}
            self._consumed_before = None
        self.batch_offset = 0
        return logs

    def epoch_closed(self, epoch: int, logs: dict[str, Any]) -> None:
        session = self._session
        if self._source.batches is None:
            self._source.batches = self._step_in_epoch or None
            self._callbacks.params["steps"] = self._source.batches
        for pipeline in self._pipelines():
            pipeline.close_epoch()
        self._epoch = epoch + 1
        self._step_in_epoch = 0
        self._step_at_epoch = session.step
        self._epochs_since_snapshot += 1
        floats = floats_of(logs)
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
        if epoch + 1 >= self._epochs or self._model.stop_training:
            # The end of the fit follows at once. Callbacks change the model there, so who is to train it for more
            # epochs needs the state before; but not of each round of a loop that calls fit for one epoch.
            if not self._index or self._epochs - self._first_epoch > 1:
                self._snapshot(epoch + 1, 0)
            return
        if session.hand_over_wanted:
            self._hand_over()
        elif session.snapshot_due(epochs_since=self._epochs_since_snapshot):
            self._snapshot(epoch + 1, 0)

    def leaves(self) -> bool:
        if self._more_parts and not self._model.stop_training:
            self._between_parts = (host_random_state(), keras_stack.hidden_random_state())
            return False
        return True

    # Counting.

    @property
    def _counts_updates(self) -> bool:
        return self._several_a_call > 1 and self._source.batches is None

    def _updates(self) -> int | None:
        iterations = getattr(self._model.optimizer, "iterations", None)
        return None if iterations is None else int(iterations)

    def _counted(self, in_epoch: int) -> int:
        """Batches of the epoch so far: with steps_per_execution its last call may be shorter than the others."""
        if self._source.batches is not None:
            return min(in_epoch, self._source.batches)
        now = self._updates()
        if now is None or self._updates_at_epoch is None:
            return in_epoch
        made = now - self._updates_at_epoch
        return made if in_epoch - self._several_a_call < made <= in_epoch else in_epoch

    def _pipelines(self) -> list[Any]:
        found = [self._source.pipeline, self._validation.pipeline]
        return [pipeline for pipeline in found if pipeline is not None]

    def _total_steps(self, unknown: Any) -> Any:
        if self._source.batches is None:
            return unknown
        return self._step_at_start + self._source.batches * max(0, self._epochs - self._first_epoch)

    # Putting down.

    def _state(self) -> tuple[dict[str, Any], list[NamedArray]]:
        self._callbacks.settle()
        flush_writers(self._session.files.folder)
        report = self._session.gap
        callbacks = self._callbacks.callbacks
        states, arrays = callbacks_state(callbacks, report)
        notes, around = surroundings_state(callbacks, report)
        history = self._callbacks.history
        train, validation = self._source.pipeline, self._validation.pipeline
        return {
            "callbacks": states,
            "surroundings": notes,
            "history": {
                "epochs": [int(epoch) for epoch in history.epoch],
                "values": _numbers(history.history),
            },
            "random": host_random_state(),
            "random_at_open": self._random_at_open,
            "hidden_random": keras_stack.hidden_random_state(),
            "stop_training": bool(self._wanted_stop if self._stopped_short else self._model.stop_training),
            "orders": {"open": self._orders_at_open, "now": shuffle_counts()},
            "readings": [train.readings if train else [], validation.readings if validation else []],
            "validation_passes": self._validation.passes,
        }, [*arrays, *around, *self._validation.variables()]

    def _snapshot(self, epoch: int, step_in_epoch: int) -> bool:
        """Put the state at this step boundary down."""
        self._report_gaps()
        state, arrays = self._state()
        if not step_in_epoch and not self._source.is_stream:
            state["orders"]["open"] = state["orders"]["now"]
        if step_in_epoch:
            state["logs"] = _pythonified(self._last_logs)
        data = self._source.variables() if step_in_epoch else self._source.variables_now()
        taken = self._session.take_snapshot(
            [*model_arrays(self._model), *arrays, *data],
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

    def _report_gaps(self) -> None:
        for gap in (*self._source.gaps(), *self._validation.gaps(self._source.x)):
            self._session.gap(gap)
        if self._known_gaps is None:
            self._known_gaps = []
            hidden = hidden_random_operations(self._model)
            if hidden:
                self._known_gaps.append(
                    f"the model draws from TensorFlow's hidden random state ({', '.join(hidden)}):"
                    " use keras.random with a SeedGenerator"
                )
            if self._source.draws_globally and draw_globally(self._callbacks.callbacks):
                self._known_gaps.append("the data pipeline and callbacks draw from the same global generator")
        for gap in self._known_gaps:
            self._session.gap(gap)

    def _hand_over(self) -> None:
        for _ in range(HAND_OVER_TRIES):
            if self._snapshot(self._epoch, self._step_in_epoch):
                break
            self._session.clock.sleep(0.1)
        self._session.hand_over()

    def _finish(self) -> None:
        session = self._session
        self._source.leave()
        self._report_gaps()
        state, callback_arrays = self._state()
        state["epochs_run"] = self._epoch - self._first_epoch
        arrays = [*model_arrays(self._model), *callback_arrays, *self._source.variables_now()]
        session.put_fit_end(
            arrays,
            epoch=self._epoch,
            state=state,
            fingerprint=self._fingerprint,
            monitored=self._monitored,
            digest=self._digest(arrays, state),
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

    @staticmethod
    def _digest(arrays: Sequence[NamedArray], state: Mapping[str, Any]) -> str:
        """Of the part of a fit's end that two equal runs share."""
        shared = {name: state[name] for name in ("history", "random", "stop_training", "epochs_run")}
        shared["callbacks"] = [
            {name: value for name, value in callback.items() if name != "own"}
            for callback in state["callbacks"]
        ]
        return digest_of([named for named in arrays if named.group not in NOT_SHARED], shared)

    # Taking up.

    def _bring_data_to(self, header: SnapshotHeader, *, later: bool = False) -> None:
        """Let the data remember what the epochs before `header` left in them; `later`: when they are next read."""
        state = header.state
        self._source.replay(header.epoch - self._first_epoch)
        self._validation.replay(int(state["validation_passes"]))
        train, validation = self._source.pipeline, self._validation.pipeline
        readings = [list(counts) for counts in state["readings"]]
        if self._source.is_stream:
            readings[0] = []
        orders = state["orders"]["now" if later else "open"]

        started_with = [pipeline.values("data") for pipeline in self._pipelines()]

        def read_again() -> None:
            left_with = [pipeline.values("data") for pipeline in self._pipelines()]
            for pipeline, values in zip(self._pipelines(), started_with, strict=True):
                pipeline.restore(values)
            for epoch in range(max(len(counts) for counts in readings)):
                for pipeline, counts in zip((train, validation), readings, strict=True):
                    if pipeline is not None and epoch < len(counts):
                        pipeline.reread(counts[epoch])
            for pipeline, values in zip(self._pipelines(), left_with, strict=True):
                pipeline.restore(values)
            top_up(orders)

        needs_reading = any(
            pipeline is not None and pipeline.memory is Memory.PASSES and any(counts)
            for pipeline, counts in zip((train, validation), readings, strict=True)
        )
        if needs_reading and later:
            owe(read_again)
            return
        if needs_reading:
            self._session.say("reads the data of past epochs once more: nothing else brings their order back")
        read_again()

    def _take_up(self) -> None:
        """Restore everything, after every callback's own beginning."""
        assert self._taken_up is not None
        folder, header = self._taken_up
        self._taken_up = None
        session = self._session
        arrays = read_tensors(folder, header)
        restore_model(self._model, arrays, what=f"fit {self._index + 1} at step {header.step}")
        self._restore_data(arrays)
        self._restore_around(header, arrays)
        self._model.stop_training = bool(header.state["stop_training"])
        restarts = bool(header.step_in_epoch) and (
            self._part is None or self._part.batch_offset != header.step_in_epoch
        )
        session.took_up(header)
        if restarts:
            session.step = header.step - header.step_in_epoch
        elif header.step_in_epoch:
            self._consumed_before = self._logs_of(header)
            self._step_in_epoch = header.step_in_epoch
        self._step_at_start = header.step - self._steps_before(header)
        self._step_at_epoch = header.step - header.step_in_epoch
        self._monitored = header.monitored
        self._orders_at_open = dict(header.state["orders"]["open"])
        self._position = header
        if self._counts_updates:
            updates = self._updates()
            self._updates_at_epoch = None if updates is None else updates - header.step_in_epoch
        session.events.write(
            EventKind.RESUMED,
            fit=self._index,
            step=session.step,
            epoch=header.epoch,
            step_in_epoch=0 if restarts else header.step_in_epoch,
        )
        session.say(
            f"goes on at step {session.step} (epoch {header.epoch + 1},"
            f" batch {1 if restarts else header.step_in_epoch + 1})"
        )
        self._restore_random(header)

    def _steps_before(self, header: SnapshotHeader) -> int:
        """Steps of this fit before `header`, as far as its epochs have a known length."""
        if not self._source.batches:
            return 0
        return (header.epoch - self._first_epoch) * self._source.batches + header.step_in_epoch

    def _logs_of(self, header: SnapshotHeader) -> dict[str, Any]:
        """The logs of the epoch so far, as Keras has them after its last batch."""
        metrics = _pythonified(self._model.get_metrics_result())
        saved = dict(header.state.get("logs") or {})
        return metrics if set(saved) <= set(metrics) else saved

    def _restore_data(self, arrays: Mapping[str, Sequence[NamedArray]]) -> None:
        for data, group in ((self._source, "data"), (self._validation, "validation_data")):
            try:
                data.restore_variables(arrays.get(group, []))
            except ValueError as exc:
                self._session.approximate(f"code changed: the data pipeline holds other variables ({exc})")

    def _restore_around(self, header: SnapshotHeader, arrays: Mapping[str, Sequence[NamedArray]]) -> None:
        """Callbacks, what they share with the script, the history, the files."""
        callbacks = self._callbacks.callbacks
        state = header.state
        difference = restore_callbacks(
            callbacks,
            state["callbacks"],
            arrays.get("callbacks", []),
            arrays.get("callbacks_own", []),
            begun_at=self._begun_at,
            longer=(int(header.fingerprint["epochs"]), self._epochs),
        )
        missing = restore_surroundings(callbacks, state["surroundings"], arrays.get("surroundings", []))
        for found in (difference, missing):
            if found is not None:
                self._session.approximate(f"code changed: {found}")
        history = self._callbacks.history
        self._model.history = history
        history.epoch = list(state["history"]["epochs"])
        history.history = {name: list(values) for name, values in state["history"]["values"].items()}
        if not state.get("files_left_out"):
            files = self._session.files
            flush_writers(files.folder)
            files.restore(header.files, keep=open_paths(files.folder))
            reopen_files(files.folder, callbacks)

    def _restore_random(self, header: SnapshotHeader) -> None:
        keras_stack.restore_hidden_random_state(header.state["hidden_random"])
        at_open = header.state.get("random_at_open")
        if (
            self._source.draws_globally
            and at_open is not None
            and (header.step_in_epoch or self._source.is_stream)
        ):
            self._random_at_open = at_open  # skipping the batches that were consumed draws from it once more
            restore_host_random_state(at_open)
        else:
            restore_host_random_state(header.state["random"])

    # Telling.

    def _tell_sample(self) -> None:
        """The metrics in the middle of a long epoch, now and then: reading them waits for the device."""
        session = self._session
        if session.clock.monotonic() - self._sampled_at >= SAMPLE_EVERY_S:
            self._sampled_at = session.clock.monotonic()
            logs = floats_of(self._model.get_metrics_result())
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


def _is_stopped(header: SnapshotHeader) -> bool:
    """Whether a callback ended the fit with the epoch at whose end this snapshot was taken."""
    return bool(header.state["stop_training"]) and not header.step_in_epoch


@contextmanager
def _silence_about_the_end(part: Part) -> Iterator[None]:
    """Keras warns where data end before their steps; those of an epoch that was all consumed are meant to."""
    if not part.is_empty:
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Your input ran out of data")
        yield


def _all(arrays: Mapping[str, Sequence[NamedArray]]) -> list[NamedArray]:
    return [named for group in arrays.values() for named in group]
