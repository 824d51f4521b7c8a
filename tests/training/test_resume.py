"""Scripts as people write them end bit for bit as if no power had ever failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from driverun.errors import JobError
from driverun.spool.events import EventKind
from tests.training import scripts
from tests.training.lab import Lab, assert_same

pytestmark = [
    # Keras' own arrays do not know NumPy 2's `copy` argument yet.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
    # A power cut closes no files; the collector finds them later.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    # A data set whose length Keras cannot know ends an epoch by running out.
    pytest.mark.filterwarnings("ignore:Your input ran out of data"),
]


@pytest.mark.parametrize("cuts", [(1,), (12,), (13,), (14,), (40,), (5, 19, 40)])
def test_arrays_with_every_usual_callback(tmp_path: Path, cuts: tuple[int, ...]) -> None:
    """Cuts at the first step, around the edge of an epoch (13 batches, the last ragged), late, and chained."""
    whole = Lab(tmp_path / "whole").run(scripts.arrays_with_everything)
    cut = Lab(tmp_path / "cut").run(scripts.arrays_with_everything, *cuts)
    assert_same(whole, cut)


def test_a_dataset_with_augmentation_two_fits_and_files(tmp_path: Path) -> None:
    whole = Lab(tmp_path / "whole").run(scripts.dataset_with_everything)
    cut = Lab(tmp_path / "cut").run(scripts.dataset_with_everything, 5, 13, 19, 31, 44)
    assert_same(whole, cut)


def dense(units: int = 3) -> keras.Model:
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dropout(0.3),
         keras.layers.Dense(units)]
    )  # fmt: skip
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return model


def numbers(count: int = 90) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    x = generator.random((count, 4))
    return x, (x.sum(axis=1) * 5).astype("int64") % 3


def split_and_weights() -> None:
    x, y = numbers()
    dense().fit(
        x, y, epochs=4, batch_size=10, validation_split=0.2, class_weight={0: 1.0, 1: 2.0, 2: 0.5}, verbose=0
    )


def unshuffled_in_several_steps_a_call() -> None:
    x, y = numbers()
    model = dense(1)
    model.compile("sgd", "mse", steps_per_execution=4)
    model.fit(x, y.astype("float32"), epochs=4, batch_size=10, shuffle=False, verbose=0)


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # keras ships no types
    """Shuffles itself with NumPy's global generator after each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.y = numbers()
        self.order = np.arange(len(self.x))

    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self.order[index * 10 : index * 10 + 10]
        return self.x[chosen], self.y[chosen]

    def on_epoch_end(self) -> None:
        np.random.shuffle(self.order)


def a_py_dataset() -> None:
    dense().fit(Batches(), epochs=4, verbose=0)


def an_endless_stream() -> None:
    x, y = numbers()
    stream = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(90).batch(10).repeat()
    dense().fit(stream, epochs=4, steps_per_epoch=9, verbose=0)


def a_loop_of_fits() -> None:
    x, y = numbers()
    model = dense()
    for _ in range(4):
        model.fit(x, y, epochs=1, batch_size=10, verbose=0)
        model.evaluate(x, y, verbose=0)
        np.random.random()


def a_schedule_that_multiplies() -> None:
    x, y = numbers()
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)
    dense().fit(x, y, epochs=4, batch_size=10, callbacks=[schedule], verbose=0)


class Counting(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
    """Remembers in a field, and writes at the end what it remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        assert logs is not None
        self.losses.append(round(logs["loss"], 6) + batch)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        Path("losses.txt").write_text("\n".join(map(str, self.losses)))


def a_callback_that_counts() -> None:
    x, y = numbers()
    dense().fit(x, y, epochs=4, batch_size=10, callbacks=[Counting()], verbose=0)


@pytest.mark.parametrize(
    "script",
    [
        split_and_weights,
        unshuffled_in_several_steps_a_call,
        a_py_dataset,
        an_endless_stream,
        a_loop_of_fits,
        a_schedule_that_multiplies,
        a_callback_that_counts,
    ],
    ids=lambda script: script.__name__,
)
def test_what_people_give_to_fit(tmp_path: Path, script: Callable[[], None]) -> None:
    whole = Lab(tmp_path / "whole", every_steps=4).run(script)
    cut = Lab(tmp_path / "cut", every_steps=4).run(script, 6, 15, 24)
    assert_same(whole, cut)
    assert len(cut[1].of(EventKind.RESUMED)) == 1 or script is a_loop_of_fits


def test_another_model_is_refused_with_both_shown(tmp_path: Path) -> None:
    x, y = numbers()
    lab = Lab(tmp_path, every_steps=4)
    lab.attempt(lambda: dense(3).fit(x, y, epochs=3, batch_size=10, verbose=0), cut_at=12)
    with pytest.raises(JobError, match=r"\[8, 5\].*was.*\[8, 3\]"):
        lab.attempt(lambda: dense(5).fit(x, y, epochs=3, batch_size=10, verbose=0))


def test_other_arguments_are_refused_with_both_shown(tmp_path: Path) -> None:
    x, y = numbers()
    lab = Lab(tmp_path, every_steps=4)
    lab.attempt(lambda: dense().fit(x, y, epochs=3, batch_size=10, verbose=0), cut_at=12)
    with pytest.raises(JobError, match="epochs: 5, was 3"):
        lab.attempt(lambda: dense().fit(x, y, epochs=5, batch_size=10, verbose=0))


def test_changed_code_goes_on_and_says_so(tmp_path: Path) -> None:
    x, y = numbers()
    lab = Lab(tmp_path, every_steps=4, code_changed=True)
    lab.attempt(lambda: dense().fit(x, y, epochs=3, batch_size=10, verbose=0), cut_at=12)
    last = lab.attempt(lambda: dense().fit(x, y, epochs=5, batch_size=10, verbose=0))
    assert last.finished
    assert last.executed == 5 * 9 - 8
    assert any("code changed" in reason for reason in last.reasons)


def test_a_generator_is_trained_and_called_approximate(tmp_path: Path) -> None:
    def script() -> None:
        x, y = numbers()

        def forever() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            while True:
                yield x[:10], y[:10]

        dense().fit(forever(), epochs=3, steps_per_epoch=5, shuffle=False, verbose=0)

    attempts = Lab(tmp_path, every_steps=4).run(script, 9)
    assert attempts[0].reasons == []
    assert any("generator" in reason for reason in attempts[-1].reasons)
