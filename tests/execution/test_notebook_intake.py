"""A job that is a notebook is looked into when it is submitted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from driverun.errors import SpecError
from driverun.execution.jobs import local_job, syntax_warning
from driverun.spec.model import EntrypointKind

SOUND = json.dumps({"nbformat": 4, "cells": [{"cell_type": "code", "source": ["!pip install x"]}]})


def job_folder(folder: Path, entrypoint: str, **files: str) -> Path:
    (folder / "job.yaml").write_text(f"name: job\nentrypoint: {entrypoint}\n")
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


def test_a_sound_notebook_is_taken(tmp_path: Path) -> None:
    job = local_job(job_folder(tmp_path, "train.ipynb", train__ipynb=SOUND))
    assert job.spec.entrypoint.kind is EntrypointKind.NOTEBOOK
    assert syntax_warning(job) is None


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"train__ipynb": "{"}, "job.yaml:2: entrypoint: `train.ipynb` is no notebook: it is not JSON"),
        ({"train__ipynb": '{"nbformat": 4, "cells": []}'}, "`train.ipynb` has no code cell"),
        ({"other__ipynb": SOUND}, "there is no file `train.ipynb` in the job's folder"),
    ],
)
def test_what_is_none_is_refused(tmp_path: Path, files: dict[str, str], words: str) -> None:
    with pytest.raises(SpecError) as caught:
        local_job(job_folder(tmp_path, "train.ipynb", **files))
    (fault,) = caught.value.faults
    assert words in str(fault)


@pytest.mark.parametrize(("source", "warns"), [("!pip install x\nx = 1\n", False), ("x = = 1\n", True)])
def test_a_script_that_was_saved_from_a_notebook_is_no_syntax_error(
    tmp_path: Path, source: str, warns: bool
) -> None:
    warning = syntax_warning(local_job(job_folder(tmp_path, "train.py", train__py=source)))
    assert (warning is not None) is warns
