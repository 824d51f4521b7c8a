"""tf.data pipelines of every kind: the order that a dead process had is brought back, or the run says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training.lab import assert_resumes, reasons_after
from tests.training.small import BATCH, classifier, dataset, fit, points

EPOCHS = 3  #: 18 steps in most of these
SPEC = (tf.TensorSpec((4,), tf.float32), tf.TensorSpec((), tf.int64))

#: Keras warns whenever data of unknown length end, in a bare script too.
ENDS = pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")

Build = Callable[[], tf.data.Dataset]


def training_on(build: Build, **arguments: Any) -> Callable[[], None]:
    def script() -> None:
        fit(classifier(), build(), **{"epochs": EPOCHS, **arguments})

    return script


def points_one_by_one() -> Iterator[Any]:
    x, y = points()
    yield from zip(x, y, strict=True)


def with_a_generator_of_its_own() -> tf.data.Dataset:
    generator = np.random.default_rng(3)

    def noisy() -> Iterator[Any]:
        for x, y in points_one_by_one():
            yield x + generator.normal(size=4).astype("float32"), y

    return tf.data.Dataset.from_generator(noisy, output_signature=SPEC).batch(BATCH)


def with_the_global_generator() -> tf.data.Dataset:
    def noisy() -> Iterator[Any]:
        for x, y in points_one_by_one():
            yield x + np.random.normal(size=4).astype("float32"), y

    return tf.data.Dataset.from_generator(noisy, output_signature=SPEC).batch(BATCH).prefetch(2)


def noisy_in_parallel() -> tf.data.Dataset:
    def noisy(x: Any, y: Any) -> Any:
        return x + tf.random.normal((4,)), y

    return dataset().shuffle(43).map(noisy, num_parallel_calls=4).batch(BATCH).prefetch(2)


def augmented_by_a_layer(then: Callable[[tf.data.Dataset], tf.data.Dataset]) -> tf.data.Dataset:
    layer = keras.layers.GaussianNoise(0.5, seed=4)
    noisy = dataset().batch(BATCH).map(lambda x, y: (layer(x, training=True), y), num_parallel_calls=4)
    return then(noisy)


def captured_shuffle() -> tf.data.Dataset:
    shuffled = dataset(20).shuffle(20)
    return tf.data.Dataset.range(2).flat_map(lambda _: shuffled).batch(BATCH)


PIPELINES: dict[str, Build] = {
    "shuffle": lambda: dataset().shuffle(20).batch(BATCH),
    "shuffle with a seed": lambda: dataset().shuffle(20, seed=5).batch(BATCH).prefetch(tf.data.AUTOTUNE),
    "one order for all epochs": lambda: dataset().shuffle(20, reshuffle_each_iteration=False).batch(BATCH),
    "cache, then shuffle": lambda: dataset().cache().shuffle(43).batch(BATCH),
    "shuffle, then cache": lambda: dataset().shuffle(43).cache().batch(BATCH),
    "two shuffles": lambda: dataset().shuffle(43).map(lambda x, y: (x, y)).shuffle(10).batch(BATCH),
    "repeated within an epoch": lambda: dataset(20).shuffle(20).repeat(2).batch(BATCH),
    "concatenated shuffles": lambda: dataset(20).shuffle(20).concatenate(dataset(20).shuffle(9)).batch(BATCH),
    "zipped shuffles": lambda: tf.data.Dataset.zip((dataset().shuffle(43), dataset().shuffle(43))).map(
        lambda a, b: (a[0] + b[0], a[1])
    ).batch(BATCH),
    "flat_map below a shuffle": lambda: dataset().batch(8).shuffle(6).flat_map(
        lambda x, y: tf.data.Dataset.from_tensor_slices((x, y))
    ).batch(BATCH),
    "interleave below a shuffle": lambda: dataset().batch(8).shuffle(6).interleave(
        lambda x, y: tf.data.Dataset.from_tensor_slices((x, y)), cycle_length=3, num_parallel_calls=2
    ).batch(BATCH),
    "a shuffle in a flat_map": captured_shuffle,
    "filter": lambda: dataset(80).shuffle(80).filter(lambda x, y: y < 2).batch(BATCH),
    "random operations in a parallel map": noisy_in_parallel,
    "an augmentation layer": lambda: augmented_by_a_layer(lambda noisy: noisy.shuffle(3).prefetch(1)),
    "an augmentation layer, then cache": lambda: augmented_by_a_layer(lambda noisy: noisy.cache()),
    "a Python generator": lambda: tf.data.Dataset.from_generator(
        points_one_by_one, output_signature=SPEC
    ).shuffle(20).batch(BATCH),
    "a Python generator with a random one of its own": with_a_generator_of_its_own,
    "a Python generator that draws globally": with_the_global_generator,
}  # fmt: skip


@ENDS
@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_goes_on_in_its_order(name: str, tmp_path: Path) -> None:
    assert_resumes(tmp_path, training_on(PIPELINES[name]), 4, 12, every_steps=2)


def endless() -> tf.data.Dataset:
    return dataset().shuffle(43).repeat().batch(BATCH).prefetch(2)


@pytest.mark.parametrize(
    ("build", "arguments"),
    [
        pytest.param(endless, {"steps_per_epoch": 6}, id="repeat()"),
        pytest.param(lambda: endless().map(lambda x, y: (x + tf.random.normal((4,)), y)), {"steps_per_epoch": 6},
                     id="repeat() and random operations"),
        pytest.param(lambda: augmented_by_a_layer(lambda noisy: noisy.repeat()), {"steps_per_epoch": 6},
                     id="repeat() and a layer"),
        pytest.param(lambda: dataset(160).shuffle(160).batch(BATCH), {"steps_per_epoch": 6}, id="long enough"),
        pytest.param(lambda: dataset().batch(BATCH), {"class_weight": {0: 1.0, 1: 3.0, 2: 0.1}}, id="weighted"),
        pytest.param(lambda: dataset().shuffle(9).batch(BATCH), {"steps_per_epoch": 6}, id="its own length"),
    ],
)  # fmt: skip
def test_a_stream_goes_on_where_it_was(build: Build, arguments: dict[str, Any], tmp_path: Path) -> None:
    assert_resumes(tmp_path, training_on(build, **arguments), 4, 12)


def parts_of_one_shuffle() -> None:
    whole = dataset().shuffle(43)
    train, held_out = whole.skip(10).batch(BATCH), whole.take(10).batch(BATCH)
    model = classifier()
    fit(model, train, epochs=3, validation_data=held_out)
    fit(model, train, epochs=2, validation_data=held_out)


def test_training_and_validation_share_a_shuffle(tmp_path: Path) -> None:
    assert_resumes(tmp_path, parts_of_one_shuffle, 4, 8, 18)


def shuffled_validation() -> None:
    held_out = dataset(20, seed=1).shuffle(20).repeat(2).batch(BATCH)
    fit(
        classifier(), dataset().shuffle(9).batch(BATCH), epochs=4, validation_data=held_out, validation_freq=2
    )


def test_validation_that_only_reading_again_brings_back(tmp_path: Path) -> None:
    assert_resumes(tmp_path, shuffled_validation, 8, 20)


def evaluated_in_a_callback() -> None:
    train, other = dataset().shuffle(43).batch(BATCH), dataset(20).shuffle(20).batch(BATCH)
    model = classifier()

    def look(epoch: int, logs: Any) -> None:
        model.evaluate(train, verbose=0)
        for x, _ in other.take(1):
            with open("seen.txt", "a") as file:
                file.write(f"{epoch} {float(tf.reduce_sum(x))}\n")

    fit(model, train, epochs=3, callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=look)])
    model.evaluate(train, verbose=0)
    fit(model, train, epochs=2)


def test_callbacks_that_read_the_data_too(tmp_path: Path) -> None:
    assert_resumes(tmp_path, evaluated_in_a_callback, 4, 8, 14, 22)


@pytest.mark.parametrize("name", ["two shuffles", "an augmentation layer, then cache"])
def test_a_finished_fit_leaves_its_order_to_the_next(name: str, tmp_path: Path) -> None:
    def script() -> None:
        train = PIPELINES[name]()
        model = classifier()
        fit(model, train, epochs=2)
        model.evaluate(train, verbose=0)
        fit(model, train, epochs=2)

    assert_resumes(tmp_path, script, 14, 20)


def unknown_length_in_calls_of_four() -> None:
    build = PIPELINES["filter"]
    fit(classifier(steps_per_execution=4), build(), epochs=3)


@ENDS
def test_data_of_unknown_length_several_steps_a_call(tmp_path: Path) -> None:
    assert_resumes(tmp_path, unknown_length_in_calls_of_four, 3, 11, a_call=4)


def endless_twice() -> None:
    train = endless()
    model = classifier()
    fit(model, train, steps_per_epoch=3, epochs=2)
    fit(model, train, steps_per_epoch=3, epochs=2)


def test_an_endless_shuffle_read_by_two_fits_says_that_it_is_not_exact(tmp_path: Path) -> None:
    (reason,) = reasons_after(tmp_path, endless_twice, 8)
    assert "how far the first had read ahead" in reason


def any_order() -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = False
    return dataset().batch(BATCH).with_options(options)


def shorter_than_asked() -> None:
    fit(classifier(), dataset().batch(BATCH).repeat(2), steps_per_epoch=4, epochs=4)


@ENDS
@pytest.mark.parametrize(
    ("script", "words"),
    [
        pytest.param(training_on(any_order), "asks for any order", id="any order"),
        pytest.param(shorter_than_asked, "shorter than the steps", id="shorter than asked"),
    ],
)
def test_what_is_not_exact_says_so(script: Callable[[], None], words: str, tmp_path: Path) -> None:
    assert any(words in reason for reason in reasons_after(tmp_path, script, 5))
