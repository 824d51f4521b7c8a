"""Handwritten digits with a small dense network."""

from pathlib import Path

import keras
import numpy as np

import driverun

DATA_FILE = Path("data/mnist.npz")  # where the job file's `data:` puts it, seen from the working folder

run = driverun.current_run()

if DATA_FILE.exists():
    with np.load(DATA_FILE) as arrays:
        x_train, y_train = arrays["x_train"], arrays["y_train"]
        x_test, y_test = arrays["x_test"], arrays["y_test"]
else:
    (x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()

# images: (sample, 28, 28), from bytes to 0..1; labels: (sample,), 0 to 9
x_train, x_test = x_train / 255.0, x_test / 255.0

model = keras.Sequential(
    [
        keras.Input(shape=(28, 28)),
        keras.layers.Flatten(),
        keras.layers.Dense(128, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x_train, y_train, epochs=run.params["epochs"], batch_size=run.params["batch_size"])
model.evaluate(x_test, y_test)
