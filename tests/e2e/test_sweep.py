"""A sweep as a person runs it, with the power cut in the middle of some of its points."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.e2e.runtimes import clean_environment, driverun, runtime, work_to_end

#: Says that it has begun, and stays for as long as somebody holds it up.
PLAIN = """
import pathlib, time
import driverun

run = driverun.current_run()
gate = pathlib.Path(run.params["gate"])
(gate / f"begun-{run.params['size']}").touch()
while (gate / f"hold-{run.params['size']}").exists():
    time.sleep(0.01)
pathlib.Path("result.txt").write_text(str(run.params["size"] ** 2))
"""

#: Learns a line; which learning rate is best it does not know before.
KERAS = """
import keras, numpy as np
import driverun

run = driverun.current_run()
x = np.random.default_rng(0).normal(size=(640, 4)).astype("float32")
y = x @ np.array([[1.0], [-2.0], [0.5], [3.0]], dtype="float32")
model = keras.Sequential([keras.Input(shape=(4,)), keras.layers.Dropout(0.1), keras.layers.Dense(1)])
model.compile(optimizer=keras.optimizers.SGD(run.params["learning_rate"]), loss="mse")
model.fit(x, y, epochs=30, batch_size=8, verbose=0)
model.evaluate(x, y, verbose=0)
"""

CHOICE = """
import json, pathlib
import driverun

found = sorted((driverun.current_run().data_dir / "squares").glob("*/outputs/result.txt"))
pathlib.Path("all.json").write_text(json.dumps(sorted(int(file.read_text()) for file in found)))
"""


def put(root: Path, name: str, script: str, **fields: Any) -> None:
    folder = root / "jobs" / name
    folder.mkdir(parents=True)
    (folder / "train.py").write_text(script)
    (folder / "job.yaml").write_text(json.dumps({"entrypoint": "train.py", **fields}))


def table(root: Path, of: str) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = json.loads(driverun("compare", of, "--json", root=root))["runs"]
    return runs


def outputs(root: Path) -> dict[str, str]:
    runs = json.loads(driverun("status", "--json", root=root))
    return {run["run_id"]: run["outputs_sha256"] for run in runs}


def test_a_sweep_with_cuts_and_what_comes_after_it_end_as_without(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.mkdir()
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for root in (whole, cut):
        driverun("init", root=root)
        put(root, "choice", CHOICE, after=["squares"])
        put(root, "squares", PLAIN, params={"gate": str(gate)}, matrix={"size": [3, 5, 7]})
    submitted = json.loads(driverun("submit", "choice", "--json", root=whole))
    assert json.loads(driverun("submit", "choice", "--json", root=cut))["run_id"] == submitted["run_id"]
    work_to_end(whole)
    for size in (3, 7):
        (gate / f"begun-{size}").unlink()
        (gate / f"hold-{size}").touch()
        with runtime(cut, f"cut-{size}") as machine:
            machine.wait_until((gate / f"begun-{size}").exists)
            machine.power_cut()
        (gate / f"hold-{size}").unlink()
    work_to_end(cut)

    rows = table(cut, "squares")
    assert rows == table(whole, "squares")
    assert [(row["state"], row["params"]) for row in rows] == [
        ("SUCCEEDED", {"size": 3}),
        ("SUCCEEDED", {"size": 5}),
        ("SUCCEEDED", {"size": 7}),
    ]
    assert outputs(cut) == outputs(whole)
    attempts = {
        row["params"]["size"]: len(
            json.loads(driverun("status", row["run_id"], "--json", root=cut))["attempts"]
        )
        for row in rows
    }
    assert attempts == {3: 2, 5: 1, 7: 2}
    driverun("fetch", submitted["run_id"], str(tmp_path / "fetched"), root=cut)
    assert json.loads((tmp_path / "fetched" / "outputs" / "all.json").read_text()) == [9, 25, 49]


def test_the_drill_of_a_matrix_compares_its_tables(tmp_path: Path) -> None:
    job = tmp_path / "job"
    job.mkdir()
    (job / "train.py").write_text(KERAS)
    (job / "job.yaml").write_text(
        "entrypoint: train.py\nmatrix: {learning_rate: [0.0001, 0.01]}\ncheckpoint: {every: 20 steps}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "driverun", "drill", str(job), "--kills", "1", "--seed", "1"],
        capture_output=True,
        text=True,
        env=clean_environment(HOME=str(tmp_path)),
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "identical: 2 points with 1 power cuts and without any" in done.stdout
    lines = done.stdout.splitlines()
    head = next(number for number, line in enumerate(lines) if "learning_rate" in line)
    assert lines[head].split()[:4] == ["RUN", "STATE", "learning_rate", "evaluate.loss"]
    assert [line.split()[1:3] for line in lines[head + 1 : head + 3]] == [
        ["SUCCEEDED", "0.01"],
        ["SUCCEEDED", "0.0001"],
    ]
