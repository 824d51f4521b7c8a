"""Notebooks as Colab writes them, run by real training processes."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import nbformat

from tests.training.processes import Ended, Job


def notebook_job(folder: Path) -> Job:
    """A job whose entrypoint is a notebook."""
    job = Job(folder)
    job.ask(entrypoint_kind="notebook", entrypoint="train.ipynb")
    return job


def run_cells(job: Job, *sources: str, **changes: Any) -> Ended:
    write_cells(job, *sources)
    return job.run(**changes)


def write_cells(job: Job, *sources: str) -> None:
    cells: list[dict[str, Any]] = [{"cell_type": "markdown", "metadata": {}, "source": ["# A title"]}]
    for source in sources:
        lines = textwrap.dedent(source).strip("\n").splitlines(keepends=True)
        old = [{"output_type": "stream", "name": "stdout", "text": ["from an earlier day"]}]
        cells.append(
            {"cell_type": "code", "metadata": {}, "execution_count": 99, "outputs": old, "source": lines}
        )
    metadata = {
        "colab": {"provenance": []},
        "kernelspec": {"name": "python3", "display_name": "Python 3"},
        "language_info": {"name": "python"},
    }
    job.write(
        "train.ipynb", json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 0})
    )


def outputs(job: Job) -> list[list[dict[str, Any]]]:
    """The outputs of each code cell, from the executed notebook, which is a valid one."""
    nb: Any = nbformat
    notebook = nb.read(job.work / "train.executed.ipynb", as_version=4)
    nb.validate(notebook)
    return [list(cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]


def text(found: list[dict[str, Any]], name: str = "stdout") -> str:
    return "".join(
        output["text"] for output in found if output["output_type"] == "stream" and output["name"] == name
    )
