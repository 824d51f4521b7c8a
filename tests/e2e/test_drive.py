"""A worker on a root in Drive: real processes, and Drive in a process of its own."""

from __future__ import annotations

from pathlib import Path

from driverun.testing.drive_audit import untidiness
from tests.e2e.drives import ROOT, Drive
from tests.e2e.runtimes import runtime

SCRIPT = """
import keras
import numpy as np

generator = np.random.default_rng(5)
x = generator.random((640, 16), dtype=np.float32)
y = (x.sum(axis=1) > 8).astype("int64")
model = keras.Sequential([keras.Input((16,)), keras.layers.Dropout(0.2), keras.layers.Dense(2, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x, y, epochs=8, batch_size=16, verbose=2, callbacks=[keras.callbacks.CSVLogger("log.csv")])
"""


def test_a_worker_on_drive_survives_a_power_cut_bit_for_bit(tmp_path: Path, drive: Drive) -> None:
    job = tmp_path / "job"
    job.mkdir()
    (job / "train.py").write_text(SCRIPT)
    (job / "job.yaml").write_text("entrypoint: train.py\ncheckpoint: {every: 20 steps}\n")
    drive.driverun("init")
    root = tmp_path / "machines" / ROOT
    root.parent.mkdir()

    cut_id = drive.driverun("submit", str(job)).strip()
    with runtime(root, "cut", address=ROOT, **drive.environment) as machine:
        machine.wait_until(
            lambda: (
                drive.commits(cut_id).get(1, 0) > 0
                and 0 < machine.progress().step_in_epoch < machine.progress().steps_per_epoch
            )
        )
        machine.power_cut()
    committed = max(checkpoint["step"] for checkpoint in drive.status(cut_id)["checkpoints"])
    whole_id = drive.driverun("submit", str(job), "--again").strip()  # both, one after the other
    with runtime(root, "next", address=ROOT, **drive.environment) as machine:
        assert machine.process.wait(timeout=120) == 0, machine.log()

    cut, whole = drive.status(cut_id), drive.status(whole_id)
    assert [cut["state"], whole["state"]] == ["SUCCEEDED", "SUCCEEDED"]
    assert cut["attempts"][1]["first_step"] == committed > 0
    assert cut["exactness"] == "exact", cut["exactness_reasons"]
    for name in ("state_sha256", "outputs_sha256", "metrics", "total_steps"):
        assert cut[name] == whole[name], name
    assert drive.driverun("diff", cut_id, whole_id)
    assert untidiness(drive.admin.files()) == []
