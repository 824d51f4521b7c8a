"""Scripts as people write them, with no word of driverun in them."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import layers


def images(count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """images: float32, (count, 8, 8, 1), 0 to 1; labels: int64, (count,), 0 to 3."""
    generator = np.random.default_rng(1)
    x = generator.random((count, 8, 8, 1), dtype=np.float32)
    return x, (x.mean(axis=(1, 2, 3)) * 40).astype("int64") % 4


def network() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.RandomFlip("horizontal"),
            layers.Conv2D(4, 3),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(16, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(4, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def arrays_with_everything() -> None:
    """13 batches an epoch, the last of 8; 4 epochs."""
    x, y = images()
    network().fit(
        x,
        y,
        batch_size=16,
        epochs=4,
        verbose=0,
        validation_data=(x[:50], y[:50]),
        callbacks=[
            keras.callbacks.EarlyStopping(monitor="val_loss", patience=3, restore_best_weights=True),
            keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=1, factor=0.5, min_delta=0.05),
            keras.callbacks.CSVLogger("log.csv"),
        ],
    )


def dataset_with_everything() -> None:
    """tf.data with shuffle, augmentation in the pipeline, two fits, a file between them."""
    x, y = images()
    flip = layers.RandomFlip("vertical", seed=3)
    train = (
        tf.data.Dataset.from_tensor_slices((x[:150], y[:150]))
        .shuffle(150)
        .batch(16)
        .map(lambda a, b: (flip(a, training=True), b), num_parallel_calls=4)
        .prefetch(2)
    )
    held_out = tf.data.Dataset.from_tensor_slices((x[150:], y[150:])).shuffle(50).batch(16)
    model = network()
    model.fit(
        train,
        epochs=3,
        verbose=0,
        validation_data=held_out,
        callbacks=[
            keras.callbacks.CSVLogger("first.csv"),
            keras.callbacks.EarlyStopping(monitor="val_loss", patience=2, restore_best_weights=True),
            keras.callbacks.ModelCheckpoint("best.keras", monitor="val_loss", save_best_only=True),
        ],
    )
    with open("between.txt", "w") as file:
        file.write(str(np.random.random()))
    model.fit(
        train,
        epochs=3,
        verbose=0,
        validation_data=held_out,
        callbacks=[
            keras.callbacks.CSVLogger("second.csv"),
            keras.callbacks.ReduceLROnPlateau(monitor="val_loss", patience=1, min_delta=0.5),
        ],
    )
