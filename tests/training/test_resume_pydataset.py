"""keras.utils.PyDataset, and sources that cannot be positioned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.training.lab import Lab, assert_resumes, reasons_after
from tests.training.small import BATCH, BATCHES, classifier, fit, points

#: Keras forks worker processes from a process with threads; only its own tests may judge that.
FORKS = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # keras ships no types
    """Points in batches; the samples are dealt anew after each epoch."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.x, self.y = points()
        self.order = np.arange(len(self.x))

    def __len__(self) -> int:
        return BATCHES

    def __getitem__(self, index: int) -> Any:
        chosen = self.order[index * BATCH : (index + 1) * BATCH]
        return self.x[chosen], self.y[chosen]

    def on_epoch_end(self) -> None:
        np.random.shuffle(self.order)


class Noisy(Batches):
    """Augmented with NumPy's global generator."""

    def __getitem__(self, index: int) -> Any:
        x, y = super().__getitem__(index)
        return x + np.random.normal(size=x.shape).astype("float32"), y


class OwnNoise(Batches):
    """Augmented with a generator that nobody else sees."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.generator = np.random.default_rng(1)

    def __getitem__(self, index: int) -> Any:
        x, y = super().__getitem__(index)
        return x + self.generator.normal(size=x.shape).astype("float32"), y


class OwnDeal(Batches):
    """Dealt by a generator of its own, in on_epoch_end alone."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.generator = np.random.default_rng(1)

    def on_epoch_end(self) -> None:
        self.generator.shuffle(self.order)


class Endless(Batches):
    """No length."""

    @property
    def num_batches(self) -> None:
        return None

    def __getitem__(self, index: int) -> Any:
        return super().__getitem__(index % BATCHES)


def training_on(
    kind: type[Batches], *, given: dict[str, Any] | None = None, **arguments: Any
) -> Callable[[], None]:
    def script() -> None:
        fit(classifier(), kind(**(given or {})), **{"epochs": 3, **arguments})

    return script


@FORKS
@pytest.mark.parametrize(
    "script",
    [
        pytest.param(training_on(Batches), id="shuffled"),
        pytest.param(training_on(Batches, shuffle=False), id="not shuffled"),
        pytest.param(training_on(Batches, given={"workers": 3}), id="three threads"),
        pytest.param(training_on(Batches, given={"workers": 2, "use_multiprocessing": True}), id="processes"),
        pytest.param(training_on(Noisy), id="drawing globally"),
        pytest.param(training_on(OwnDeal), id="dealt by its own generator"),
        pytest.param(training_on(Batches, class_weight={0: 1.0, 1: 3.0, 2: 0.1}), id="weighted"),
        pytest.param(training_on(Endless, steps_per_epoch=6), id="endless"),
    ],
)
def test_a_pydataset_goes_on_in_its_order(script: Callable[[], None], tmp_path: Path) -> None:
    assert_resumes(tmp_path, script, 4, 12, every_steps=2)


def validated_by_one() -> None:
    fit(classifier(), *points(), batch_size=BATCH, epochs=4, validation_data=OwnDeal(), validation_freq=2)
    fit(classifier(), Batches(), epochs=2, validation_data=OwnDeal())


def test_a_pydataset_for_validation(tmp_path: Path) -> None:
    assert_resumes(tmp_path, validated_by_one, 14, 20, 33)


def fitted_twice() -> None:
    data = OwnDeal()
    model = classifier()
    fit(model, data, epochs=2)
    fit(model, data, epochs=2)


def test_a_finished_fit_leaves_its_order_to_the_next(tmp_path: Path) -> None:
    assert_resumes(tmp_path, fitted_twice, 14, 20)


def a_generator() -> Iterator[Any]:
    x, y = points()
    while True:
        for start in range(0, len(x), BATCH):
            yield x[start : start + BATCH], y[start : start + BATCH]


def training_on_a_generator() -> None:
    fit(classifier(), a_generator(), steps_per_epoch=6, epochs=3)


def twice_the_same() -> None:
    data = Batches()
    fit(classifier(), data, epochs=3, validation_data=data)


@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")  # as Keras itself says there
@pytest.mark.parametrize(
    ("script", "words"),
    [
        pytest.param(training_on_a_generator, "type generator cannot be positioned", id="a generator"),
        pytest.param(training_on(Batches, steps_per_epoch=4), "cannot be positioned", id="other steps"),
        pytest.param(training_on(OwnNoise), "generator of its own", id="noise of its own"),
        pytest.param(training_on(Noisy, given={"workers": 3}), "their order varies", id="noise in threads"),
        pytest.param(twice_the_same, "the same PyDataset", id="training and validation"),
    ],
)
def test_what_is_not_exact_trains_and_says_so(script: Callable[[], None], words: str, tmp_path: Path) -> None:
    attempts = Lab(tmp_path, every_steps=2).run(script, 9)
    assert len(attempts[-1].histories[0]["loss"]) == 3
    (reason,) = attempts[-1].reasons
    assert words in reason


def test_no_step_of_a_generator_is_repeated(tmp_path: Path) -> None:
    attempts = Lab(tmp_path, every_steps=2).run(training_on_a_generator, 9)
    assert [attempt.executed for attempt in attempts] == [9, 10]


def a_finite_generator() -> None:
    def once() -> Iterator[Any]:
        x, y = points()
        for start in range(0, len(x), BATCH):
            yield x[start : start + BATCH], y[start : start + BATCH]

    fit(classifier(), once(), epochs=1)


@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")
def test_a_generator_without_steps_begins_its_epoch_anew(tmp_path: Path) -> None:
    attempts = Lab(tmp_path, every_steps=2).run(a_finite_generator, 5)
    assert [attempt.executed for attempt in attempts] == [5, 6]
    assert "from its beginning" in attempts[-1].reasons[0]


def test_an_uninterrupted_generator_is_exact(tmp_path: Path) -> None:
    assert reasons_after(tmp_path, training_on_a_generator) == []
