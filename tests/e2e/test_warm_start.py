"""A finished run trained for more epochs, as a user asks for it, ends as if it had had them from the start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.e2e.runtimes import driverun, history, runtime, status, work_to_end

SCRIPT = """
import keras
import numpy as np

import driverun

generator = np.random.default_rng(5)
x = generator.random((4800, 8), dtype=np.float32)
y = (x.sum(axis=1) * 3).astype("int64") % 3
model = keras.Sequential(
    [keras.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dropout(0.2),
     keras.layers.Dense(3, "softmax")]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(
    x, y, batch_size=16, epochs=driverun.current_run().params["epochs"], validation_split=0.2, verbose=2,
    callbacks=[
        keras.callbacks.EarlyStopping(monitor="val_loss", patience=5, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau(monitor="val_loss", patience=1, min_delta=0.5),
        keras.callbacks.CSVLogger("log.csv"),
    ],
)
print("evaluated", model.evaluate(x, y, verbose=0))
"""


def submitted(root: Path, epochs: int, **fields: Any) -> str:
    folder = root.parent / "digits"
    folder.mkdir(exist_ok=True)
    (folder / "train.py").write_text(SCRIPT)
    job = {"entrypoint": "train.py", "params": {"epochs": epochs}, "seed": 7, **fields}
    (folder / "job.yaml").write_text(json.dumps(job))
    return driverun("submit", str(folder), root=root).strip()


def test_more_epochs_through_a_power_cut_are_the_epochs_of_one_run(tmp_path: Path) -> None:
    whole_root, root = tmp_path / "whole" / "root", tmp_path / "continued" / "root"
    for each in (whole_root, root):
        each.parent.mkdir()
        driverun("init", root=each)
    whole_id = submitted(whole_root, 4)
    work_to_end(whole_root)
    base = submitted(root, 2)
    assert work_to_end(root, "base") == 480
    more = submitted(
        root, 4, init_from={"run": base, "what": "state"}, checkpoint={"every": "5 steps", "keep": 3}
    )
    with runtime(root, "cut") as machine:
        machine.wait_until(lambda: machine.progress().step >= 500 and any(root.glob(f"runs/{more}.*/ckpt-*")))
        machine.power_cut()
    executed = work_to_end(root)
    whole, continued = status(whole_root, whole_id), status(root, more)
    assert continued["state"] == "SUCCEEDED"
    assert continued["exactness"] == "exact", continued["exactness_reasons"]
    assert continued["attempts"][0]["first_step"] == 480
    assert executed < 480, "what was committed is not trained again"
    for name in ("state_sha256", "outputs_sha256", "metrics", "total_steps"):
        assert continued[name] == whole[name], name
    assert history(root, more) == history(whole_root, whole_id)


def test_the_weights_of_another_run_are_where_a_run_starts(tmp_path: Path) -> None:
    root = tmp_path / "root"
    driverun("init", root=root)
    submitted(root, 2)
    assert work_to_end(root, "base") == 480
    tuned = submitted(root, 1, init_from={"run": "digits", "what": "weights"})
    assert work_to_end(root) == 240
    run = status(root, tuned)
    assert (run["state"], run["exactness"]) == ("SUCCEEDED", "exact")
    assert "starts from the weights of digits-" in driverun("logs", tuned, root=root)
    assert run["total_steps"] == 240
