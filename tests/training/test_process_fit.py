"""A fit in a real training process is handed over when that is asked for."""

from __future__ import annotations

from pathlib import Path

from driverun.spool.buffers import newest_snapshot
from driverun.spool.events import EventKind
from tests.training.processes import Job


def test_sigterm_puts_a_fit_down_at_a_step_and_a_forked_process_has_a_fit_of_its_own(tmp_path: Path) -> None:
    job = Job(tmp_path / "job")
    source = """
    import os
    import keras
    import numpy as np

    def whose():
        return "driverun" if keras.Model.fit.__code__.co_filename.endswith("keras_fit.py") else "keras"

    print("here", whose())
    child = os.fork()
    if not child:
        print("there", whose())
        os._exit(0)
    os.waitpid(child, 0)

    class Tell(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                print("training")

    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(np.zeros((8, 2)), np.zeros((8, 1)), batch_size=4, epochs=10**6, verbose=0, callbacks=[Tell()])
    """
    with job.start(source) as running:
        assert running.log.wait_for("here") == "driverun"
        assert running.log.wait_for("there") == "keras"
        running.log.wait_for("training")
        running.process.terminate()
        ended = running.end()
    assert ended.code == 0
    (handed_over,) = ended.of(EventKind.HANDED_OVER)
    assert not ended.of(EventKind.FINISHED)
    with newest_snapshot(job.folder / "buffers") as found:
        assert found is not None
        assert found[1].step == handed_over["step"] >= 2
