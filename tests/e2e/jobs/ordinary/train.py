"""A script that knows nothing of driverun."""

import os

import keras
import numpy as np
import tensorflow as tf
from keras import layers

os.makedirs("out")
generator = np.random.default_rng(5)
x = generator.random((640, 8, 8, 1), dtype=np.float32)
y = (x.mean(axis=(1, 2, 3)) * 60).astype("int64") % 3

train = tf.data.Dataset.from_tensor_slices((x[:600], y[:600])).shuffle(600).batch(16).prefetch(2)
held_out = tf.data.Dataset.from_tensor_slices((x[600:], y[600:])).batch(16)

model = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        layers.RandomFlip("horizontal"),
        layers.RandomTranslation(0.1, 0.1),
        layers.Conv2D(8, 3),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Dropout(0.3),
        layers.Flatten(),
        layers.Dense(3, activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(
    train,
    epochs=6,
    validation_data=held_out,
    callbacks=[
        keras.callbacks.EarlyStopping(monitor="val_loss", patience=3, restore_best_weights=True),
        keras.callbacks.CSVLogger("out/first.csv"),
    ],
)
if os.path.exists("best.keras"):
    raise SystemExit("a file of a later time is here")
with open("between.txt", "w") as file:
    file.write(f"{np.random.random()}\n")
model.fit(
    train,
    epochs=6,
    validation_data=held_out,
    callbacks=[
        keras.callbacks.ReduceLROnPlateau(monitor="val_loss", patience=1, min_delta=0.5),
        keras.callbacks.CSVLogger("out/second.csv"),
        keras.callbacks.ModelCheckpoint("best.keras", monitor="val_loss", save_best_only=True),
    ],
)
print("evaluated", model.evaluate(held_out, return_dict=True))
