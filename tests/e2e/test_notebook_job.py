"""A notebook that was made in Colab, as a job whose machine loses power three times."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.e2e.runtimes import REPOSITORY, Runtime, driverun, history, runtime, status, work_to_end

JOB = Path(__file__).parent / "jobs" / "mnist_notebook"
MNIST = REPOSITORY.parent / "shared" / "data" / "mnist.npz"
COLOR = re.compile(r"\x1b\[[0-9;]*m")
#: How long something took: nothing else differs between two runs.
TIMES = re.compile(r"\d+s [\d.]+[mu]?s/step|((CPU times|Wall time): .*)")


def test_a_colab_notebook_survives_power_cuts_with_all_its_outputs(tmp_path: Path) -> None:
    assert MNIST.is_file(), f"this test reads the real MNIST from {MNIST}"
    digests, shown = {}, {}
    for name, fits in (("whole", ()), ("cut", (0, 0, 1))):
        root = tmp_path / name
        driverun("init", root=root)
        driverun("upload", str(MNIST), "data/mnist.npz", root=root)
        run_id = driverun("submit", str(JOB), root=root).strip()
        for number, fit in enumerate(fits):
            with runtime(root, f"cut-{number}") as machine:
                machine.wait_until(lambda m=machine, f=fit: committed_in_mid_epoch(m, f))  # type: ignore[misc]
                machine.power_cut()
        work_to_end(root)
        found = status(root, run_id)
        assert found["state"] == "SUCCEEDED", found
        assert found["exactness"] == "exact", found["exactness_reasons"]
        assert len(found["attempts"]) == len(fits) + 1
        digests[name] = (found["state_sha256"], found["outputs_sha256"], history(root, run_id))
        outputs = root / found["results"]["path"] / "outputs"
        assert {path.name for path in outputs.iterdir()} == {"score.txt", "train.executed.ipynb"}
        shown[name] = cells(outputs / "train.executed.ipynb")
    assert digests["whole"] == digests["cut"]
    assert shown["whole"] == shown["cut"], (
        "the outputs are those of a run that nobody interrupted, but for times"
    )

    setup, data, digits, training, loss, again = shown["cut"]
    assert "Requirement already satisfied: numpy" in text(setup)
    assert "drive.mount('/content/drive') is left out" in text(setup)
    assert text(data) == "mnist.npz\n"
    assert data[-1]["data"]["text/plain"] == "(60000, 28, 28)"
    for plot in (digits[-1], loss[-1]):
        assert plot["output_type"] == "display_data"
        assert plot["data"]["image/png"].startswith("iVBOR")
    lines = text(training).splitlines()
    assert lines[0] == "training for 2 epochs"
    assert [line for line in lines if line.startswith("Epoch")] == ["Epoch 1/2", "Epoch 2/2"]
    assert len([line for line in lines if line.startswith("1875/1875")]) == 2
    assert lines[-1] == "trained"
    assert text(again).count("1875/1875") == 1
    assert "[0." in text(again)


def committed_in_mid_epoch(machine: Runtime, fit: int) -> bool:
    """Whether the newest attempt has committed, and stands in the middle of an epoch of this fit."""
    progress = machine.progress()
    return (
        progress.fit == fit
        and machine.commits() > 0
        and 0 < progress.step_in_epoch < progress.steps_per_epoch
    )


def cells(path: Path) -> list[list[dict[str, Any]]]:
    """The outputs of each code cell, streams as one text without colours and times."""
    found = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            found.append([without_times(output) for output in cell["outputs"]])
    return found


def without_times(output: dict[str, Any]) -> dict[str, Any]:
    if output["output_type"] != "stream":
        return output
    return {**output, "text": TIMES.sub("(times)", COLOR.sub("", "".join(output["text"])))}


def text(outputs: list[dict[str, Any]]) -> str:
    return "".join(output["text"] for output in outputs if output["output_type"] == "stream")
