"""An emulated Drive in a process of its own, and commands on a root there."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from driverun.launchers.ground import commits_by_attempt
from driverun.testing.drive_emulator import AdminClient
from driverun.testing.drive_ground import paths_on
from tests.e2e.runtimes import clean_environment

ROOT = "gdrive:drill"
SCRIPT = """
import keras
import numpy as np

generator = np.random.default_rng(5)
x = generator.random((640, 16), dtype=np.float32)
y = (x.sum(axis=1) > 8).astype("int64")
model = keras.Sequential([keras.Input((16,)), keras.layers.Dropout(0.2), keras.layers.Dense(2, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x, y, epochs=EPOCHS, batch_size=16, verbose=2)
"""


def small_script(epochs: int) -> str:
    """A training with 40 steps an epoch."""
    return SCRIPT.replace("EPOCHS", str(epochs))


@dataclass
class Drive:
    """An emulated Drive that runs, and commands on a root there."""

    admin: AdminClient
    environment: dict[str, str]

    def driverun(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "driverun", "--root", ROOT, *arguments],
            capture_output=True,
            text=True,
            env=clean_environment(**self.environment),
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def status(self, run_id: str) -> dict[str, Any]:
        found = json.loads(self.driverun("status", run_id, "--json"))
        assert isinstance(found, dict)
        return found

    def commits(self, run_id: str) -> dict[int, int]:
        return commits_by_attempt(paths_on(self.admin.files()), run_id)
