"""Data and models just large enough for every position in an epoch: 6 batches, the last one ragged."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

BATCH = 8
COUNT = 43  #: 6 batches of 8, the last of 3
BATCHES = 6


def points(count: int = COUNT, seed: int = 0) -> tuple[Any, Any]:
    """x: float32, (count, 4), 0 to 1; y: int64, (count,), 0 to 2."""
    x = np.random.default_rng(seed).random((count, 4), dtype=np.float32)
    return x, (x.sum(axis=1) * 3).astype("int64") % 3


def classifier(**compiled: Any) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, activation="relu"),
            layers.Dropout(0.4),
            layers.Dense(3, activation="softmax"),
        ]
    )
    defaults = {"optimizer": keras.optimizers.SGD(0.2), "loss": "sparse_categorical_crossentropy"}
    model.compile(**{**defaults, **compiled})
    return model


def dataset(count: int = COUNT, seed: int = 0) -> tf.data.Dataset:
    """Unbatched points."""
    return tf.data.Dataset.from_tensor_slices(points(count, seed))


def fit(model: keras.Model, *args: Any, **kwargs: Any) -> Any:
    """`model.fit` without a progress bar."""
    return model.fit(*args, **{"verbose": 0, **kwargs})
