"""Models, optimizers and ways of compiling: all state that a training step has is in the snapshot."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf
from keras import layers

from tests.training.lab import assert_resumes, reasons_after
from tests.training.scripts import network
from tests.training.small import BATCH, classifier, dataset, fit, points


def compiled(**how: Any) -> Callable[[], None]:
    def script() -> None:
        options = {name: value() if callable(value) else value for name, value in how.items()}
        model = classifier(metrics=["accuracy"], **options)
        fit(model, *points(), batch_size=BATCH, epochs=3, validation_split=0.1)
        model.evaluate(*points(), verbose=0)

    return script


def cosine() -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.3, 15), momentum=0.9)


@pytest.mark.parametrize(
    ("how", "a_call"),
    [
        pytest.param({"optimizer": "adam"}, 1, id="adam"),
        pytest.param({"steps_per_execution": 4}, 4, id="four steps a call"),
        pytest.param({"run_eagerly": True}, 1, id="eager"),
        pytest.param({"optimizer": lambda: keras.optimizers.Adam(use_ema=True)}, 1, id="moving average"),
        pytest.param({"optimizer": lambda: keras.optimizers.SGD(0.1, use_ema=True,
                     ema_overwrite_frequency=4)}, 1, id="moving average that overwrites"),
        pytest.param({"optimizer": lambda: keras.optimizers.SGD(0.1, gradient_accumulation_steps=3)}, 1,
                     id="accumulated gradients"),
        pytest.param({"optimizer": cosine}, 1, id="cosine decay"),
    ],
)  # fmt: skip
def test_ways_of_compiling(how: dict[str, Any], a_call: int, tmp_path: Path) -> None:
    assert_resumes(tmp_path, compiled(**how), 4, 11, a_call=a_call)


def test_steps_compiled_by_xla(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Keras compiles nothing while operations have to be deterministic, as they are here for the whole process.
    config = importlib.import_module("tensorflow.python.framework.config")
    monkeypatch.setattr(config, "is_op_determinism_enabled", lambda: False)
    assert_resumes(tmp_path, compiled(jit_compile=True), 4, 11)


def in_mixed_precision() -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = classifier(optimizer="adam")
    finally:
        keras.config.set_dtype_policy("float32")
    fit(model, *points(), batch_size=BATCH, epochs=3)


class Written(keras.Model):  # type: ignore[misc]  # keras ships no types
    """Not built before it is fitted."""

    def __init__(self) -> None:
        super().__init__()
        self.first = layers.Dense(5, activation="relu")
        self.drop = layers.Dropout(0.3)
        self.last = layers.Dense(3, activation="softmax")

    def call(self, x: Any, training: bool = False) -> Any:
        return self.last(self.drop(self.first(x), training=training))


def subclassed() -> None:
    model = Written()
    model.compile("sgd", "sparse_categorical_crossentropy")
    fit(model, dataset().shuffle(43).batch(BATCH), epochs=3)
    other = Written()
    other.compile("sgd", "sparse_categorical_crossentropy")
    fit(other, *points(), batch_size=BATCH, epochs=2)


class Noise(layers.Layer):  # type: ignore[misc]  # keras ships no types
    """Draws from the generator that all of Keras shares."""

    def call(self, x: Any) -> Any:
        return x + keras.random.normal(tf.shape(x), stddev=0.1)


class Autoencoder(keras.Model):  # type: ignore[misc]  # keras ships no types
    """A train_step of its own, which raises a variable that Keras knows nothing of."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = keras.Sequential([keras.Input((4,)), layers.Dense(2), Noise()])
        self.decoder = keras.Sequential([keras.Input((2,)), layers.Dense(4)])
        self.weight = tf.Variable(0.1)
        self.tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self) -> list[Any]:
        return [self.tracker]

    def train_step(self, data: Any) -> dict[str, Any]:
        x = data[0] if isinstance(data, tuple) else data
        with tf.GradientTape() as tape:
            loss = self.weight * tf.reduce_mean((self.decoder(self.encoder(x)) - x) ** 2)
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        self.weight.assign(self.weight * 1.05)
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result(), "last": loss}


def with_a_step_of_its_own() -> None:
    model = Autoencoder()
    model.compile("adam")
    fit(model, points()[0], batch_size=BATCH, epochs=3)


class Rivals(keras.Model):  # type: ignore[misc]  # keras ships no types
    """Two networks against each other, an optimizer for each."""

    def __init__(self) -> None:
        super().__init__()
        self.judge = keras.Sequential([keras.Input((4,)), layers.Dense(5, "relu"), layers.Dense(1)])
        self.maker = keras.Sequential([keras.Input((2,)), layers.Dense(4)])
        self.seeds = keras.random.SeedGenerator(3)

    def compile(self, judging: Any, making: Any) -> None:
        super().compile()
        self.judging = judging
        self.making = {"only": making}
        self.losses_seen = keras.metrics.Mean(name="judge_loss")

    def train_step(self, real: Any) -> dict[str, Any]:
        count = tf.shape(real)[0]
        entropy = keras.losses.BinaryCrossentropy(from_logits=True)
        with tf.GradientTape(persistent=True) as tape:
            made = self.maker(keras.random.normal((count, 2), seed=self.seeds))
            judged = entropy(tf.ones((count, 1)), self.judge(real)) + entropy(
                tf.zeros((count, 1)), self.judge(made)
            )
            fooled = entropy(tf.ones((count, 1)), self.judge(made))
        for loss, side, optimizer in (
            (judged, self.judge, self.judging),
            (fooled, self.maker, self.making["only"]),
        ):
            variables = side.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        self.losses_seen.update_state(judged)
        return {"judge_loss": self.losses_seen.result()}


def against_each_other() -> None:
    model = Rivals()
    model.compile(keras.optimizers.Adam(0.01), keras.optimizers.Adam(0.02))

    def picture(epoch: int, logs: Any) -> None:
        made = model.maker(tf.random.normal((1, 2)))
        with open(f"made-{epoch}.txt", "w") as file:
            file.write(str(made.numpy().tolist()))

    fit(
        model,
        tf.data.Dataset.from_tensor_slices(points()[0]).shuffle(43).batch(BATCH),
        epochs=3,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=picture)],
    )


def images() -> None:
    from tests.training.scripts import images as some

    x, y = some(40)
    fit(network(), x, y, batch_size=BATCH, epochs=2)


@pytest.mark.parametrize(
    ("script", "cuts"),
    [
        pytest.param(in_mixed_precision, (4, 11), id="mixed precision"),
        pytest.param(subclassed, (4, 11, 21), id="not built before"),
        pytest.param(with_a_step_of_its_own, (4, 11), id="a train_step of its own"),
        pytest.param(against_each_other, (4, 11), id="two optimizers"),
        pytest.param(images, (3, 7), id="augmentation, batch normalization, dropout"),
    ],
)
def test_kinds_of_models(script: Callable[[], None], cuts: tuple[int, ...], tmp_path: Path) -> None:
    assert_resumes(tmp_path, script, *cuts)


class HiddenNoise(layers.Layer):  # type: ignore[misc]  # keras ships no types
    """Draws from state that lives in a kernel."""

    def call(self, x: Any) -> Any:
        return x + tf.random.normal(tf.shape(x), stddev=0.1)


def with_hidden_state() -> None:
    model = keras.Sequential([keras.Input((4,)), HiddenNoise(), layers.Dense(3, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    fit(model, *points(), batch_size=BATCH, epochs=3)


def test_random_state_that_nobody_can_read_is_named(tmp_path: Path) -> None:
    (reason,) = reasons_after(tmp_path, with_hidden_state, 8)
    assert "RandomStandardNormal" in reason
    assert "SeedGenerator" in reason
