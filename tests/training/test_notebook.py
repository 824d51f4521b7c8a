"""A notebook as a job runs its cells in order, and leaves itself behind with their outputs."""

from __future__ import annotations

import base64
import json
import textwrap
from pathlib import Path
from typing import Any

import nbformat
import pytest

from driverun.spool.events import EventKind
from tests.training.processes import Ended, Job

PNG = b"\x89PNG"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    job = Job(tmp_path / "job")
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
    notebook = nbformat.read(job.work / "train.executed.ipynb", as_version=4)
    nbformat.validate(notebook)
    return [list(cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]


def text(found: list[dict[str, Any]], name: str = "stdout") -> str:
    return "".join(
        output["text"] for output in found if output["output_type"] == "stream" and output["name"] == name
    )


def test_cells_run_in_order_in_one_main_module(job: Job) -> None:
    ended = run_cells(
        job,
        """
        import os, sys
        x = 20
        print("first", __name__, os.getcwd(), sys.argv)
        """,
        "",
        """
        print("to stderr", file=sys.stderr)
        x += 1
        x * 2
        """,
        "assert vars(sys.modules['__main__'])['x'] == 21 and '__file__' not in globals()",
        argv=("--rate", "0.1"),
    )
    ended.assert_finished()
    first, empty, second, third = outputs(job)
    assert text(first) == f"first __main__ {job.work} ['train.ipynb', '--rate', '0.1']\n"
    assert empty == third == []
    assert text(second, "stderr") == "to stderr\n"
    assert second[-1]["output_type"] == "execute_result"
    assert second[-1]["data"] == {"text/plain": "42"}
    assert second[-1]["execution_count"] == 2
    assert ended.text.splitlines() == [text(first).rstrip(), "to stderr", "42"]


def test_a_failing_cell_ends_the_run_and_is_named(job: Job) -> None:
    ended = run_cells(
        job,
        "def broken():\n    raise ValueError('too deep')",
        "print('before')\nbroken()",
        "print('never')",
    )
    assert ended.code == 1
    assert ended.failure["kind"] == "ValueError"
    assert ended.failure["message"] == "cell 2: too deep"
    lines = ended.failure["traceback"].splitlines()
    assert lines[1:5] == [
        '  File "<train.ipynb cell 2>", line 2, in <module>',
        "    broken()",
        '  File "<train.ipynb cell 1>", line 2, in broken',
        "    raise ValueError('too deep')",
    ]
    assert ended.text.splitlines() == ["before", *lines]
    _, second, third = outputs(job)
    assert second[-1]["ename"] == "ValueError"
    assert "too deep" in "\n".join(second[-1]["traceback"])
    assert third == []
