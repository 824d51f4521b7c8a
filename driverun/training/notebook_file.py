"""Notebooks as files: the cells that a job runs, and the same notebook with the outputs of its run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driverun.errors import JobError
from driverun.spool.masking import Masker

Output = dict[str, Any]  #: one output of a cell, as nbformat 4 has it


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeCell:
    """A cell that is run."""

    index: int  #: among all cells of the notebook, from 0
    number: int  #: among those that are run, from 1, as in `In [1]`
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notebook:
    """A notebook as its author left it."""

    name: str  #: its path in the job's folder
    content: Mapping[str, Any]
    cells: tuple[CodeCell, ...]


def read_notebook(folder: Path, name: str) -> Notebook:
    """The notebook `name`, a path in `folder`.

    Raises:
        JobError: it is not there, or no notebook of format 4.
    """
    try:
        content = json.loads((folder / name).read_bytes())
    except OSError as exc:
        raise JobError(
            f"cannot read the notebook {name}: {exc.strerror}; is it among the job's files?"
        ) from exc
    except ValueError as exc:
        raise JobError(f"cannot read the notebook {name}: it is not JSON ({exc}); download it anew") from exc
    if not isinstance(content, dict) or not isinstance(content.get("cells"), list):
        raise JobError(f"cannot run {name}: it is no notebook of format 4; save it again in Jupyter or Colab")
    cells: list[CodeCell] = []
    for index, cell in enumerate(content["cells"]):
        source = _source(cell)
        if cell.get("cell_type") == "code" and source.strip():
            cells.append(CodeCell(index=index, number=len(cells) + 1, source=source))
    return Notebook(name=name, content=content, cells=tuple(cells))


def executed(notebook: Notebook, outputs: Mapping[int, Sequence[Output]], *, reached: int) -> bytes:
    """The notebook with `outputs`, by index of the cell, in place of those it came with.

    Args:
        reached: the index of the last cell that was begun; -1: none was.
    """
    numbers = {cell.index: cell.number for cell in notebook.cells}
    cells = []
    for index, cell in enumerate(notebook.content["cells"]):
        if cell.get("cell_type") == "code":
            count = numbers.get(index) if index <= reached else None
            cell = {**cell, "execution_count": count, "outputs": list(outputs.get(index, ()))}
        cells.append(cell)
    return (json.dumps({**notebook.content, "cells": cells}, indent=1, ensure_ascii=False) + "\n").encode(
        "utf-8", "backslashreplace"
    )


def masked(document: bytes, masker: Masker) -> bytes:
    """The executed notebook without secrets in what its cells put out."""
    if not masker:
        return document
    content = json.loads(document)
    for cell in content["cells"]:
        if "outputs" in cell:
            cell["outputs"] = [_masked_output(output, masker) for output in cell["outputs"]]
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _masked_output(output: Output, masker: Masker) -> Output:
    """Lists of lines are put together for it: a secret may hold line ends."""
    whole = dict(output)
    for field in ("text", "traceback"):
        if isinstance(lines := whole.get(field), list):
            between = "" if field == "text" else "\n"
            text = masker.text(between.join(lines))
            whole[field] = _lines_of(text) if field == "text" else text.split("\n")
    kept = ("output_type", "name")  # of nbformat, not of the job
    return {name: value if name in kept else masker.deep(value) for name, value in whole.items()}


def _lines_of(text: str) -> list[str]:
    return [line for line in re.split(r"(?<=\n)", text) if line]


def outputs_in(content: bytes, notebook: Notebook) -> dict[int, list[Output]]:
    """The outputs, by index, of those cells of an executed notebook that `notebook` has, too; none if damaged."""
    try:
        cells = json.loads(content)["cells"]
        return {
            cell.index: list(cells[cell.index]["outputs"])
            for cell in notebook.cells
            if cell.index < len(cells)
            and cells[cell.index].get("cell_type") == "code"
            and _source(cells[cell.index]) == cell.source
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _source(cell: Mapping[str, Any]) -> str:
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


class CellFailed(Exception):
    """A cell ended with an exception, which is the cause of this one."""

    def __init__(self, cell: CodeCell, cause: BaseException) -> None:
        super().__init__(f"cell {cell.number}: {cause}")
        self.cell = cell
        self.cause = cause
