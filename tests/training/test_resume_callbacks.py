"""Callbacks, Keras' own and a person's: after a resume each is where it was."""

from __future__ import annotations

import io
import json
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import callbacks as kc

from driverun.spool.events import EventKind
from tests.training.lab import SAVES_MODELS, Lab, assert_resumes, reasons_after
from tests.training.small import BATCH, classifier, dataset, fit, points

pytestmark = SAVES_MODELS

EPOCHS = 4  #: 24 steps


def watched_by(*make: Callable[[], Any], **arguments: Any) -> Callable[[], None]:
    def script() -> None:
        model = classifier(metrics=["accuracy"])
        watching = [one() for one in make]
        given = {"epochs": EPOCHS, "batch_size": BATCH, "validation_data": points(20, seed=1), **arguments}
        fit(model, *points(), callbacks=watching, **given)
        model.evaluate(*points(), verbose=0)

    return script


def stops_early() -> Any:
    return kc.EarlyStopping("val_loss", patience=1, min_delta=10.0, restore_best_weights=True)


def plateau() -> Any:
    return kc.ReduceLROnPlateau("loss", patience=1, factor=0.5, min_delta=10.0, cooldown=1)


def best_alone() -> Any:
    return kc.ModelCheckpoint("best.keras", "val_accuracy", save_best_only=True)


def every_few_batches() -> Any:
    return kc.ModelCheckpoint("{epoch}-{batch}.weights.h5", save_freq=5, save_weights_only=True)


def every_epoch() -> Any:
    return kc.ModelCheckpoint("weights/{epoch}-{val_loss:.3f}.weights.h5", save_weights_only=True)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(watched_by(stops_early), id="EarlyStopping that stops"),
        pytest.param(watched_by(plateau), id="ReduceLROnPlateau"),
        pytest.param(watched_by(lambda: kc.LearningRateScheduler(lambda epoch, rate: rate * 0.7)),
                     id="LearningRateScheduler that multiplies"),
        pytest.param(watched_by(best_alone, every_epoch), id="ModelCheckpoint, the best and each"),
        pytest.param(watched_by(every_few_batches), id="ModelCheckpoint by batches"),
        pytest.param(watched_by(lambda: kc.CSVLogger("log.csv"), plateau), id="CSVLogger"),
        pytest.param(watched_by(lambda: kc.CSVLogger("log.csv", separator=";", append=True)), id="CSVLogger append"),
        pytest.param(watched_by(lambda: kc.TensorBoard("logs", update_freq=2)), id="TensorBoard"),
        pytest.param(watched_by(kc.TerminateOnNaN), id="TerminateOnNaN"),
        pytest.param(watched_by(kc.ProgbarLogger), id="ProgbarLogger"),
    ],
)  # fmt: skip
def test_callbacks_of_keras(script: Callable[[], None], tmp_path: Path) -> None:
    assert_resumes(tmp_path, script, 4, 11)


def test_early_stopping_stops_where_it_would_have(tmp_path: Path) -> None:
    lab = assert_resumes(tmp_path, watched_by(stops_early), 7, 8, every_steps=1)
    assert len(lab.attempts[-1].histories[0]["loss"]) == 2


def averaged() -> None:
    model = classifier(optimizer=keras.optimizers.SGD(0.2, use_ema=True))
    watching = [kc.SwapEMAWeights(), stops_early()]
    fit(model, *points(), batch_size=BATCH, epochs=4, validation_split=0.2, callbacks=watching)


def test_weights_are_averaged_where_the_resumed_epoch_is_the_last(tmp_path: Path) -> None:
    assert_resumes(tmp_path, averaged, 4, 8)


def backed_up() -> None:
    watching = [kc.BackupAndRestore("backup"), kc.CSVLogger("log.csv")]
    fit(classifier(), *points(), batch_size=BATCH, epochs=3, callbacks=watching)


def test_backup_and_restore_is_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lab = assert_resumes(tmp_path, backed_up, 4, 11)
    assert "BackupAndRestore is left out" in capsys.readouterr().err
    assert list(lab.attempts[-1].outputs) == ["log.csv"]


def diverging() -> None:
    x, y = points()
    weight = np.ones(len(x), dtype=np.float32)
    weight[30] = np.nan  # of the fourth batch
    watching = [kc.TerminateOnNaN()]
    fit(
        classifier(),
        x,
        y,
        sample_weight=weight,
        batch_size=BATCH,
        epochs=3,
        shuffle=False,
        callbacks=watching,
    )


def test_a_stop_in_mid_epoch_stays_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = Lab(tmp_path / "whole", every_steps=1)
    cut = Lab(tmp_path / "cut", every_steps=1)
    for lab in (whole, cut):
        lab.folder.mkdir()
    (one,) = whole.run(diverging)
    *_, other = cut.run(diverging, 2, 4)
    assert other.executed == 1
    assert (
        other.of(EventKind.FIT_ENDED)[0].fields["step"] == one.of(EventKind.FIT_ENDED)[0].fields["step"] == 4
    )
    assert other.state_sha256 == one.state_sha256


# A person's callbacks.


class Remembers(kc.Callback):  # type: ignore[misc]  # keras ships no types
    """Speaks the protocol."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[int, float] = {}
        self._lock = threading.Lock()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        with self._lock:
            self._seen[len(self._seen)] = logs["loss"]

    def on_train_end(self, logs: Any = None) -> None:
        Path("seen.json").write_text(json.dumps(self._seen))

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._seen = state["seen"]


class Counts(kc.Callback):  # type: ignore[misc]  # keras ships no types
    """Plain fields of every kind, with a subclass's habits."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = 0
        self.epochs: list[int] = []
        self.best = np.float64("inf")
        self.average = np.zeros(2)
        self.kinds: Counter[str] = Counter()
        self.last = deque([0.0], maxlen=3)
        self.set_of = {("start", 0)}
        self.mean = keras.metrics.Mean()
        self.scale = tf.Variable(1.0)
        self.generator = np.random.default_rng(4)
        self.numbers = random.Random(4)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.kinds["begun"] += 1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.batches += 1
        self.kinds[f"batch {batch}"] += 1
        self.average += [batch, logs["loss"]]
        self.mean.update_state(logs["loss"])
        self.scale.assign(self.scale * 0.9)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epochs.append(epoch)
        self.set_of.add(("epoch", epoch))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.best = np.minimum(self.best, logs["loss"])
        self.last.append(float(self.mean.result()))

    def on_train_end(self, logs: Any = None) -> None:
        found = [self.batches, self.epochs, self.best, self.average.tolist(), sorted(self.kinds.items())]
        more = [
            list(self.last),
            sorted(self.set_of),
            float(self.scale),
            self.generator.random(),
            self.numbers.random(),
        ]
        assert isinstance(self.best, np.float64)
        assert isinstance(self.kinds, Counter)
        Path("counts.json").write_text(json.dumps([*found, *more]))


class Draws(kc.Callback):  # type: ignore[misc]  # keras ships no types
    """Uses every global generator, between batches and between epochs."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._note(random.random(), float(tf.random.uniform(())))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._note(np.random.random(), float(keras.random.uniform(())))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._note(np.random.normal(), random.gauss(0, 1))

    def _note(self, *numbers: float) -> None:
        with open("drawn.txt", "a") as file:
            file.write(f"{numbers}\n")


class KeepsOpen(kc.Callback):  # type: ignore[misc]  # keras ships no types
    """A file that stays open, and is not flushed, as long as training lasts."""

    file: io.TextIOBase

    def on_train_begin(self, logs: Any = None) -> None:
        self.file = open("open.txt", "w")  # noqa: SIM115 (that is the point)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.file.write(f"{batch} {logs['loss']}\n")

    def on_train_end(self, logs: Any = None) -> None:
        self.file.close()


@pytest.mark.parametrize(
    "kind", [Remembers, Counts, Draws, KeepsOpen], ids=lambda kind: str(kind.__doc__).partition("\n")[0]
)
def test_callbacks_of_a_person(kind: type[Any], tmp_path: Path) -> None:
    assert_resumes(tmp_path, watched_by(kind), 4, 11)


class Times(kc.Callback):  # type: ignore[misc]  # keras ships no types
    """Measures how long epochs take, by every clock there is."""

    def __init__(self) -> None:
        super().__init__()
        self.built_at = time.time()
        self.durations: list[float] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.began = time.perf_counter()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.t0 = time.time()
        self.ticks = time.monotonic_ns()
        self.epochs_begun = epoch + 1.5

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.durations.append(time.time() - self.t0)


def test_readings_of_a_clock_are_those_of_the_process_that_uses_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Times] = []

    def script() -> None:
        kept.append(Times())
        fit(classifier(), *points(), batch_size=BATCH, epochs=3, callbacks=[kept[-1]])

    # The attempts of two runs differ in all their wall times, and are the same run.
    assert_resumes(tmp_path, script, 9)
    _, interrupted, resumed = kept
    assert resumed.built_at > interrupted.built_at
    assert resumed.began > interrupted.began
    assert resumed.t0 > interrupted.t0
    assert resumed.ticks > interrupted.ticks
    assert resumed.epochs_begun == 3.5
    assert len(resumed.durations) == 3
    assert resumed.durations[0] == interrupted.durations[0]


losses_of_the_module: list[float] = []
epochs_of_the_module = 0


def lambdas_that_fill_what_is_around_them() -> None:
    global epochs_of_the_module
    losses_of_the_module.clear()
    epochs_of_the_module = 0
    losses: list[float] = []
    by_epoch: dict[int, Any] = {}
    total = 0.0
    log = open("log.jsonl", "w", buffering=1)  # noqa: SIM115 (as in Keras' own example)

    def batch_end(batch: int, logs: Any) -> None:
        nonlocal total
        total += logs["loss"]
        losses.append(logs["loss"])
        losses_of_the_module.append(logs["loss"])

    def epoch_end(epoch: int, logs: Any) -> None:
        global epochs_of_the_module
        epochs_of_the_module += 1
        by_epoch[epoch] = logs
        log.write(json.dumps({"epoch": epoch, "loss": logs["loss"]}) + "\n")

    watching = [kc.LambdaCallback(on_train_batch_end=batch_end, on_epoch_end=epoch_end)]
    model = classifier()
    fit(model, *points(), batch_size=BATCH, epochs=3, callbacks=watching)
    fit(model, *points(), batch_size=BATCH, epochs=2)
    log.close()
    found = [losses, losses_of_the_module, epochs_of_the_module, sorted(by_epoch), total]
    Path("found.json").write_text(json.dumps(found))


def test_what_lambdas_leave_in_the_script_around_them(tmp_path: Path) -> None:
    assert_resumes(tmp_path, lambdas_that_fill_what_is_around_them, 4, 11, 20)


class Tally:
    """An object of the script that a callback uses."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.count = 0

    def add(self, value: float) -> None:
        self.values.append(value)
        self.count += 1


def with_a_tally() -> None:
    tally = Tally()
    shared: list[float] = []

    class Tells(kc.Callback):  # type: ignore[misc]  # keras ships no types
        def __init__(self, into: list[float]) -> None:
            super().__init__()
            self.into = into

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            tally.add(logs["loss"])
            self.into.append(logs["loss"])

    fit(classifier(), *points(), batch_size=BATCH, epochs=3, callbacks=[Tells(shared)])
    Path("tally.json").write_text(json.dumps([tally.values, tally.count, shared]))


def test_objects_of_the_script_that_callbacks_use(tmp_path: Path) -> None:
    assert_resumes(tmp_path, with_a_tally, 8, 14)


class Holds(kc.Callback):  # type: ignore[misc]  # keras ships no types
    """Something that only it could save."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class Unknown(kc.Callback):  # type: ignore[misc]  # keras ships no types
    """Keras' own, of a later version."""


Unknown.__module__ = "keras.src.callbacks.unknown"


class Protocol(Holds):
    """Speaks the protocol, but not in plain values."""

    def state_dict(self) -> dict[str, Any]:
        return {"lock": self.lock}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        raise AssertionError("there is no state to load")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Holds, "Holds holds lock, which only it can save"),
        (Protocol, "the state of callback Protocol cannot be kept"),
        (Unknown, "Unknown is not known"),
    ],
)
def test_state_that_cannot_be_kept_is_named(kind: type[Any], words: str, tmp_path: Path) -> None:
    (reason,) = reasons_after(tmp_path, watched_by(kind), 8)
    assert words in reason


def test_an_uninterrupted_run_is_exact_whatever_its_callbacks_hold(tmp_path: Path) -> None:
    assert reasons_after(tmp_path, watched_by(Holds)) == []


def unknown_length_with_a_counter() -> None:
    train = dataset().shuffle(43).filter(lambda x, y: y >= 0).batch(BATCH)
    fit(classifier(), train, epochs=3, callbacks=[Counts(), plateau()], validation_data=points(20, seed=1))


@pytest.mark.filterwarnings(
    "ignore:Your input ran out of data:UserWarning"
)  # as Keras does for unknown length
@pytest.mark.parametrize("cut", [7, 8])
def test_a_snapshot_of_the_last_batch_of_unknown_data(cut: int, tmp_path: Path) -> None:
    assert_resumes(tmp_path, unknown_length_with_a_counter, cut, every_steps=6)
