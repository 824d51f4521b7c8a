"""NumPy arrays: a fit that lost its process goes on at the very step, to the same bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from tests.training.lab import Lab, assert_resumes, assert_same
from tests.training.small import BATCH, classifier, fit, points

EPOCHS = 3  #: 18 steps


def plain(**arguments: Any) -> Callable[[], None]:
    """A script that fits arrays with these arguments."""

    def script() -> None:
        x, y = points()
        fit(classifier(metrics=["accuracy"]), x, y, **{"epochs": EPOCHS, "batch_size": BATCH, **arguments})

    return script


VALIDATED = {"validation_data": points(20, seed=1)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = Lab(tmp_path_factory.mktemp("whole"))
    lab.run(plain(**VALIDATED))
    return lab


@pytest.mark.parametrize("every_steps", [1, 3, 7])
def test_cuts_at_every_kind_of_step_leave_no_trace(every_steps: int, whole: Lab, tmp_path: Path) -> None:
    first_step, mid_epoch, last_batch, first_batch, later_epoch = 1, 4, 6, 7, 16
    lab = Lab(tmp_path, every_steps=every_steps)
    lab.run(plain(**VALIDATED), first_step, mid_epoch, last_batch, first_batch, later_epoch)
    assert_same(whole.attempts, lab.attempts)


def test_snapshots_at_epochs_alone(whole: Lab, tmp_path: Path) -> None:
    lab = Lab(tmp_path, every_steps=1, cadence="epochs")
    lab.run(plain(**VALIDATED), 4, 9, 17)
    assert_same(whole.attempts, lab.attempts)
    assert [attempt.executed for attempt in lab.attempts] == [4, 9, 11, 6]


def test_only_the_step_of_the_cut_is_repeated_where_every_step_is_kept(tmp_path: Path) -> None:
    lab = assert_resumes(tmp_path, plain(), 1, 5, 12, every_steps=1)
    assert sum(attempt.executed for attempt in lab.attempts) == 18 + 3


@pytest.mark.parametrize(
    "arguments",
    [
        {"shuffle": False},
        {"shuffle": "batch"},
        {"validation_split": 0.2},
        {"validation_data": points(20, seed=1), "validation_freq": 2},
        {"validation_data": points(20, seed=1), "validation_batch_size": 5, "validation_steps": 2},
        {"sample_weight": np.linspace(0, 1, 43, dtype=np.float32)},
        {"class_weight": {0: 1.0, 1: 2.0, 2: 0.5}},
        {"initial_epoch": 2, "epochs": 5},
        {"steps_per_epoch": 6},
        {"batch_size": None},
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_arguments_of_fit(arguments: dict[str, Any], tmp_path: Path) -> None:
    assert_resumes(tmp_path, plain(**arguments), *((1, 5) if "batch_size" in arguments else (5, 14)))


def several_inputs_and_outputs() -> None:
    generator = np.random.default_rng(1)
    left, right = generator.random((43, 3)), generator.random((43, 2)).astype("float32")
    one, other = keras.Input((3,), name="left"), keras.Input((2,), name="right")
    joined = layers.Dropout(0.2)(layers.Concatenate()([one, other]))
    outputs = {"sum": layers.Dense(1, name="sum")(joined), "kind": layers.Dense(2, name="kind")(joined)}
    model = keras.Model({"left": one, "right": other}, outputs)
    model.compile("sgd", {"sum": "mse", "kind": "mae"}, metrics={"sum": ["mae"]})
    fit(
        model,
        {"left": left, "right": right},
        {"sum": left.sum(axis=1, keepdims=True), "kind": right},
        epochs=EPOCHS,
        batch_size=BATCH,
        validation_split=0.25,
    )


def test_several_inputs_and_outputs_and_float64(tmp_path: Path) -> None:
    assert_resumes(tmp_path, several_inputs_and_outputs, 4, 10)


def other_steps_than_an_epoch() -> None:
    x, y = points()
    fit(classifier(), x, y, epochs=4, batch_size=BATCH, steps_per_epoch=3)


def test_arrays_read_in_other_steps_than_an_epoch_say_so(tmp_path: Path) -> None:
    attempts = Lab(tmp_path, every_steps=2).run(other_steps_than_an_epoch, 5)
    assert len(attempts[-1].histories[0]["loss"]) == 4
    (reason,) = attempts[-1].reasons
    assert "other steps" in reason
