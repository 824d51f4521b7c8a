"""The jobs of a soak: short ones, whose results are a function of their number alone.

How long a step of them takes is told by the environment, so that one worker can do them all in little time.
"""

from __future__ import annotations

from pathlib import Path

STEP_VARIABLE = "SOAK_STEP_S"
STEPS = 30  #: of each; one of a fit is an epoch

#: Starts over at every attempt: nothing of it is kept but its results.
PLAIN = """\
import hashlib
import os
import time
from pathlib import Path

import driverun

run = driverun.current_run()
digest = hashlib.sha256(str(run.params["number"]).encode()).digest()
lines = []
for step in range(run.params["steps"]):
    for _ in range(1000):
        digest = hashlib.sha256(digest).digest()
    lines.append(f"{step} {digest.hex()}")
    time.sleep(float(os.environ.get("SOAK_STEP_S", "0")))
Path("chain.txt").write_text("\\n".join(lines) + "\\n")
Path("out").mkdir()
(Path("out") / "end.txt").write_text(digest.hex())
"""

PLAIN_JOB = """\
name: plain
entrypoint: train.py
params: {number: 0, steps: 30}
"""

#: Goes on at the step it lost. 40 steps an epoch, which takes as long as four steps of the others: most attempts
#: that are killed are killed after a checkpoint, so that the next has one to go on from.
FIT = """\
import os
import time

import keras
import numpy as np

import driverun

run = driverun.current_run()
keras.utils.set_random_seed(run.params["number"])
generator = np.random.default_rng(run.params["number"])
x = generator.random((640, 16), dtype=np.float32)
y = (x.sum(axis=1) > 8).astype("int64")


class Slowly(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        time.sleep(float(os.environ.get("SOAK_STEP_S", "0")) / 10)


layers = [keras.Input((16,)), keras.layers.Dropout(0.2), keras.layers.Dense(2, activation="softmax")]
model = keras.Sequential(layers)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x, y, epochs=run.params["epochs"], batch_size=16, verbose=2, callbacks=[Slowly()])
"""

FIT_JOB = """\
name: fit
entrypoint: train.py
params: {number: 0, epochs: 30}
checkpoint: {every: 1s}
"""


def write_jobs(folder: Path) -> tuple[Path, Path]:
    """Make the folders of both jobs in `folder`: the plain one, and the one with a fit."""
    made = []
    for name, script, job in (("plain", PLAIN, PLAIN_JOB), ("fit", FIT, FIT_JOB)):
        place = folder / name
        place.mkdir(parents=True)
        (place / "train.py").write_text(script, encoding="utf-8")
        (place / "job.yaml").write_text(job, encoding="utf-8")
        made.append(place)
    return made[0], made[1]
