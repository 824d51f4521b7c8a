"""The handwritten digits that scikit-learn carries, with a small convolutional network."""

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import driverun

run = driverun.current_run()

# images: (1797, 8, 8, 1), from 0..16 to 0..1; labels: (1797,), 0 to 9
digits = load_digits()
images, labels = digits.images[..., None] / 16.0, digits.target
x_train, x_test, y_train, y_test = train_test_split(
    images, labels, test_size=0.2, stratify=labels, random_state=0
)

model = keras.Sequential(
    [
        keras.Input(shape=(8, 8, 1)),
        keras.layers.Conv2D(32, 3, activation="relu"),
        keras.layers.Conv2D(64, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dropout(run.params["dropout"]),
        keras.layers.Dense(128, activation="relu"),
        keras.layers.Dropout(run.params["dropout"]),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(
    x_train,
    y_train,
    epochs=run.params["epochs"],
    batch_size=run.params["batch_size"],
    validation_split=0.1,
    callbacks=[keras.callbacks.CSVLogger("training.csv")],
    verbose=2,
)
model.evaluate(x_test, y_test)
