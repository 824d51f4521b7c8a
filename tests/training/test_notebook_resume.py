"""A notebook that is cut anywhere ends with the outputs of one that was not."""

from __future__ import annotations

import re
import shutil
import signal
from pathlib import Path
from typing import Any

from driverun.spool.buffers import newest_snapshot
from tests.training.notebooks import notebook_job, outputs, text, write_cells
from tests.training.processes import Job

CELLS = (
    """
    import os, signal
    import keras
    import numpy as np
    import driverun

    def cut_at(*place):
        if list(place) == driverun.current_run().params["cut"]:
            os.kill(os.getpid(), signal.SIGKILL)

    class Cut(keras.callbacks.Callback):
        def __init__(self, fit):
            super().__init__()
            self.fit, self.epoch = fit, 0
        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch
            cut_at(self.fit, "epoch", epoch)
        def on_train_batch_end(self, batch, logs=None):
            cut_at(self.fit, self.epoch, batch)

    x, y = np.arange(24, dtype="float32").reshape(12, 2), np.ones((12, 1), dtype="float32")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    print("set up")
    """,
    """
    print("before the first")
    model.fit(x, y, batch_size=3, epochs=3, callbacks=[Cut("a")])
    display({"after": "the first"})
    """,
    """
    print("between")
    cut_at("between")
    """,
    """
    for rate in (0.1, 0.01):
        print("rate", rate)
        model.fit(x, y, batch_size=3, epochs=2, verbose=2, callbacks=[Cut(rate)])
    print("all done")
    """,
)
TIMES = re.compile(r"\d+s( \d+[mu]?s/(step|epoch))?|\d+[mu]?s/step")


def shown(job: Job) -> list[list[Any]]:
    """The outputs of all cells, without colours and times."""
    plain = []
    for cell in outputs(job):
        for output in cell:
            if "text" in output:
                output["text"] = TIMES.sub("(time)", re.sub(r"\x1b\[[0-9;]*m", "", output["text"]))
        plain.append(cell)
    return plain


def attempt(folder: Path, earlier: Job | None, cut: list[Any]) -> Job:
    """One attempt on a disk of its own, which takes up what `earlier` left; it ends by SIGKILL where it is cut."""
    job = notebook_job(folder)
    write_cells(job, *CELLS)
    job.ask(params={"cut": cut}, cadence_kind="steps", cadence_value=1)
    if earlier is not None:
        shutil.copytree(earlier.spool.files, job.spool.files, dirs_exist_ok=True)
        for before in (earlier.spool.path / "restore" / "fits", earlier.spool.path / "fits"):
            shutil.copytree(before, job.spool.path / "restore" / "fits", dirs_exist_ok=True)
        fits = len(list((job.spool.path / "restore" / "fits").iterdir()))
        with newest_snapshot(earlier.folder / "buffers") as found:
            is_of_next = found is not None and found[1].fits_finished == fits
            if found is not None and is_of_next:
                shutil.copytree(found[0], job.spool.restored_checkpoint)
        job.ask(restore_fits=fits, restore_checkpoint=is_of_next, attempt=2, interrupted_before=True)
    ended = job.run()
    assert ended.code == (-signal.SIGKILL if cut else 0), ended.text
    return job


def test_a_resumed_notebook_shows_what_an_uninterrupted_one_shows(tmp_path: Path) -> None:
    whole = attempt(tmp_path / "whole", None, [])
    cut: Job | None = None
    places: list[list[Any]] = [["a", 0, 2], ["a", "epoch", 2], ["between"], [0.01, 1, 2], []]
    for number, place in enumerate(places):
        cut = attempt(tmp_path / f"attempt-{number}", cut, place)
    assert cut is not None
    assert shown(cut) == shown(whole)
    first, training, between, loop = shown(cut)
    assert text(first) == "set up\n"
    lines = text(training[:1]).splitlines()
    assert lines[0] == "before the first"
    assert [line for line in lines if line.startswith("Epoch")] == ["Epoch 1/3", "Epoch 2/3", "Epoch 3/3"]
    assert len([line for line in lines if line.startswith("4/4")]) == 3
    assert training[-1]["data"]["text/plain"] == "{'after': 'the first'}"
    assert text(between) == "between\n"
    assert [line for line in text(loop).splitlines() if line.startswith("rate")] == ["rate 0.1", "rate 0.01"]
    assert text(loop).endswith("all done\n")
