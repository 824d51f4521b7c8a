"""The notebook of the one cell, made from the sources of this package: `python -m driverun.launchers.notebook`."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

from driverun import __version__

REPOSITORY = "driverun/driverun"
FILE = "notebooks/driverun.ipynb"  #: of the repository
BADGE = (
    "[![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    f"(https://colab.research.google.com/github/{REPOSITORY}/blob/main/{FILE})"
)

_ABOUT = f"""\
{BADGE}

# driverun

Trains the jobs that wait in a folder of your Google Drive, and keeps every checkpoint there. Press ▶ on the cell below.
When the runtime disconnects or a usage limit ends it, open this notebook again, today or next week, and press ▶ once
more: each run goes on at the step it lost.

A folder becomes a root, and jobs come into it, on your own machine: `driverun init gdrive:driverun`, then
`driverun --root gdrive:driverun submit JOB`.
"""

_FORM = """\
#@title driverun { display-mode: "form" }
#@markdown Where the root is: `gdrive:path/under/My Drive`, or `gdrive://FOLDER_ID`.
root = "gdrive:driverun"  #@param {type:"string"}
#@markdown Which jobs, with commas between; leave it empty for all.
jobs = ""  #@param {type:"string"}
#@markdown Train on the CPU if this runtime has no GPU (up to 50 times slower).
allow_cpu = False  #@param {type:"boolean"}
#@markdown Hours that this runtime may last; work is handed over before. Free ones end after 12 at most, paid after 24.
hours = 11.5  #@param {type:"number"}
#@markdown On a shared folder: whose jobs may run here beside those of its owner, as e-mails with commas between.
trusted_authors = ""  #@param {type:"string"}
#@markdown Mount Drive, for data that a job reads in place (`access: mount`).
mount_drive = False  #@param {type:"boolean"}
#@markdown Give the runtime back when nothing is left to do, so that it costs no more units.
release_runtime = False  #@param {type:"boolean"}
"""

_RUN = """\
try:
    prepare(root, VERSION, trusted_authors)
except NotReady as exc:
    print(f"driverun: {exc}")
else:
    from driverun.launchers.colab import CellOptions, run_cell

    run_cell(
        CellOptions(
            root=root,
            jobs=jobs,
            allow_cpu=allow_cpu,
            hours=hours,
            trusted_authors=trusted_authors,
            mount_drive=mount_drive,
            release_runtime=release_runtime,
        )
    )
"""


def cell_source() -> str:
    """The cell: its form, the bootstrap, and the call that does the work."""
    bootstrap = Path(__file__).with_name("bootstrap.py").read_text(encoding="utf-8")
    about = ast.get_docstring(ast.parse(bootstrap), clean=False) or ""
    code = bootstrap.partition(f'"""{about}"""')[2].strip()
    return f'{_FORM}\nVERSION = "{__version__}"\n\n{code}\n\n\n{_RUN}'


def notebook() -> dict[str, Any]:
    """The notebook as nbformat 4.5 has it, with what Colab reads of its metadata."""
    return {
        "cells": [
            {"cell_type": "markdown", "id": "about", "metadata": {"id": "about"}, "source": _lines(_ABOUT)},
            {
                "cell_type": "code",
                "execution_count": None,
                "id": "driverun",
                "metadata": {"cellView": "form", "id": "driverun"},
                "outputs": [],
                "source": _lines(cell_source()),
            },
        ],
        "metadata": {
            "accelerator": "GPU",
            "colab": {"gpuType": "T4", "provenance": []},
            "kernelspec": {"display_name": "Python 3", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def notebook_text() -> str:
    """The bytes of the file, as text."""
    return json.dumps(notebook(), indent=1, ensure_ascii=False) + "\n"


def _lines(text: str) -> list[str]:
    return text.rstrip("\n").splitlines(keepends=True)


if __name__ == "__main__":
    sys.stdout.write(notebook_text())
