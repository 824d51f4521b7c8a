"""A finished run trained for more epochs ends as if it had had them from the start; weights alone start another."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from driverun.errors import JobError
from driverun.spool.snapshot import read_header
from driverun.training.arrays import read_tensors
from driverun.training.keras_state import model_arrays
from tests.training import scripts
from tests.training.lab import Attempt, Lab, assert_same

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

Script = Callable[[], None]


class Announcing(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
    """Writes how far the fit is, of how many epochs; and remembers both."""

    def on_train_begin(self, logs: object = None) -> None:
        self.total = self.params["epochs"]
        self.seen = 0

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.seen += 1
        with open("epochs.txt", "a") as file:
            file.write(f"{self.seen} of {self.total}\n" if self.seen == self.total else f"{self.seen}\n")


def training(epochs: int, *, patience: int = 9, mode: str = "auto") -> None:
    x, y = scripts.images()
    model = scripts.network()
    model.fit(
        x,
        y,
        batch_size=16,
        epochs=epochs,
        verbose=0,
        validation_data=(x[:50], y[:50]),
        callbacks=[
            keras.callbacks.EarlyStopping(
                monitor="val_loss", patience=patience, mode=mode, restore_best_weights=True
            ),
            keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=1, factor=0.5, min_delta=0.05),
            keras.callbacks.CSVLogger("log.csv"),
        ],
    )
    model.evaluate(x, y, verbose=0)


def dataset(epochs: int) -> None:
    x, y = scripts.images()
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(200).batch(16)
    scripts.network().fit(data, epochs=epochs, verbose=0)


def averaged(epochs: int) -> None:
    """Keras overwrites the weights with their average when the fit ends."""
    x, y = scripts.images()
    model = scripts.network()
    optimizer = keras.optimizers.Adam(use_ema=True, ema_momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=16, epochs=epochs, verbose=0)


def two_fits(epochs: int) -> None:
    x, y = scripts.images()
    model = scripts.network()
    model.fit(x, y, batch_size=16, epochs=1, verbose=0)
    model.fit(x, y, batch_size=16, epochs=epochs, verbose=0)


def continued(
    folder: Path, script: Callable[[int], None], *cuts: int, epochs: tuple[int, int]
) -> list[Attempt]:
    base = Lab(folder / "base", every_steps=1000)
    base.run(partial(script, epochs[0]))
    more = Lab(folder / "more")
    more.continue_from(base)
    more.run(partial(script, epochs[1]), *cuts)
    assert more.attempts[-1].executed < 13 * epochs[1], "the first epochs are not trained again"
    return more.attempts


@pytest.mark.parametrize("script", [training, dataset, averaged, two_fits])
def test_two_epochs_and_two_more_are_four(tmp_path: Path, script: Callable[[int], None]) -> None:
    whole = Lab(tmp_path / "whole").run(partial(script, 4))
    assert_same(whole, continued(tmp_path, script, epochs=(2, 4)))


@pytest.mark.parametrize("cut", [27, 40])
def test_power_may_fail_in_what_is_continued(tmp_path: Path, cut: int) -> None:
    """Right after it was taken up, before a snapshot of its own, and later."""
    whole = Lab(tmp_path / "whole").run(partial(training, 4))
    assert_same(whole, continued(tmp_path, training, cut, epochs=(2, 4)))


def test_what_was_stopped_early_stays_stopped(tmp_path: Path) -> None:
    script = partial(training, patience=1, mode="max")
    whole = Lab(tmp_path / "whole").run(partial(script, 6))
    stopped_at = len(whole[0].histories[0]["loss"])
    assert stopped_at < 6
    more = continued(tmp_path, script, epochs=(5, 6))
    assert_same(whole, more)
    assert more[-1].executed == 0


def announced(epochs: int) -> None:
    x, y = scripts.images()
    scripts.network().fit(x, y, batch_size=16, epochs=epochs, verbose=0, callbacks=[Announcing()])


def test_a_callback_sees_how_many_epochs_there_are_now(tmp_path: Path) -> None:
    (more,) = continued(tmp_path, announced, epochs=(2, 4))
    assert more.outputs["epochs.txt"].read_text().splitlines() == ["1", "2 of 2", "3", "4 of 4"]


def other_batches(epochs: int) -> None:
    x, y = scripts.images()
    scripts.network().fit(x, y, batch_size=20, epochs=epochs, verbose=0)


def test_another_fit_is_not_continued(tmp_path: Path) -> None:
    base = Lab(tmp_path / "base")
    base.run(partial(dataset, 1))
    more = Lab(tmp_path / "more")
    more.continue_from(base)
    with pytest.raises(JobError, match=r"cannot continue other-0123456789ab: fit 1 .*data.*what: weights"):
        more.run(partial(other_batches, 2))


def test_a_fit_before_that_would_be_longer_makes_it_approximate(tmp_path: Path) -> None:
    def both(epochs: int) -> None:
        x, y = scripts.images()
        model = scripts.network()
        for _ in range(2):
            model.fit(x, y, batch_size=16, epochs=epochs, verbose=0)

    (more,) = continued(tmp_path, both, epochs=(2, 3))
    assert [reason for reason in more.reasons if "ended after 2 epochs" in reason] == more.reasons != []


# Weights.


def weights_at_start(epochs: int = 1) -> None:
    """The first batch is of no consequence for what is looked at: its learning rate is 0."""
    x, y = scripts.images()
    model = scripts.network()
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=16, epochs=epochs, verbose=0)
    arrays = [np.asarray(named.array) for named in model_arrays(model) if named.group == "trainable"]
    np.savez("weights.npz", *arrays)


def started(folder: Path, script: Script) -> tuple[Lab, Path]:
    base = Lab(folder / "base")
    base.run(partial(training, 2))
    lab = Lab(folder / "next", weights=base.disk / "spool" / "fits" / "000")
    lab.run(script)
    assert lab.weights is not None
    return lab, lab.weights


def test_a_fit_starts_from_the_weights_and_nothing_else_of_the_other_run(tmp_path: Path) -> None:
    lab, source = started(tmp_path, weights_at_start)
    header = read_header(source)
    assert header is not None
    expected = [named.array for named in read_tensors(source, header)["trainable"]]
    with np.load(lab.attempts[-1].outputs["weights.npz"]) as found:
        assert all(np.array_equal(found[f"arr_{at}"], array) for at, array in enumerate(expected))
    assert lab.attempts[-1].reasons == []
    own = read_header(lab.disk / "spool" / "fits" / "000")
    assert own is not None
    assert own.step == 13, "it counts its own steps"


def test_a_start_from_weights_resumes_exactly(tmp_path: Path) -> None:
    base = Lab(tmp_path / "base")
    base.run(partial(training, 2))
    weights = base.disk / "spool" / "fits" / "000"
    whole = Lab(tmp_path / "whole", weights=weights).run(partial(training, 2))
    assert_same(whole, Lab(tmp_path / "cut", weights=weights).run(partial(training, 2), 3, 17))
    fresh = Lab(tmp_path / "fresh").run(partial(training, 2))
    assert fresh[0].state_sha256 != whole[0].state_sha256


def wider() -> None:
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(4)])
    model.compile("sgd", "mse")
    model.fit(*scripts.images(), verbose=0)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"cannot start from the weights of other-.*shape"):
        started(tmp_path, wider)
