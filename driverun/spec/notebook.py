"""Whether a file is a notebook that a job can run."""

from __future__ import annotations

import json
from typing import Any

#: What a kernel that is not Python's calls itself, where a notebook names no language.
_OTHER_KERNELS = ("ir", "julia", "xcpp", "javascript", "deno", "bash", "scala", "octave", "sas")


def notebook_fault(content: bytes) -> str | None:
    """What is wrong with the notebook and how to mend it, in one line; None: it can be run.

    Args:
        content: the bytes of the `.ipynb` file.
    """
    try:
        notebook = json.loads(content)
    except ValueError as exc:
        return f"is no notebook: it is not JSON ({exc}); download it anew (File > Download > .ipynb)"
    if not isinstance(notebook, dict) or "nbformat" not in notebook:
        return "is no notebook: JSON, but without cells; download it anew (File > Download > .ipynb)"
    if notebook["nbformat"] != 4 or not isinstance(notebook.get("cells"), list):
        return (
            f"is a notebook of format {notebook['nbformat']}, and driverun reads 4: open it in Jupyter or Colab and"
            " save it again"
        )
    language = _language(notebook)
    if language is not None:
        return f"is a notebook for {language}; driverun runs those for Python"
    if not any(_has_code(cell) for cell in notebook["cells"]):
        return "has no code cell, so there is nothing to run"
    return None


def _has_code(cell: Any) -> bool:
    if not isinstance(cell, dict) or cell.get("cell_type") != "code":
        return False
    source = cell.get("source", "")
    return bool("".join(source).strip()) if isinstance(source, list | str) else False


def _language(notebook: dict[str, Any]) -> str | None:
    """The language of the notebook's kernel; None for Python, and where nothing says another."""
    metadata = _mapping(notebook.get("metadata"))
    kernel, info = _mapping(metadata.get("kernelspec")), _mapping(metadata.get("language_info"))
    for said in (info.get("name"), kernel.get("language")):
        if isinstance(said, str) and said:
            return None if "python" in said.lower() else said
    name = str(kernel.get("name", "")).lower()
    if name.startswith(_OTHER_KERNELS[1:]) or name == _OTHER_KERNELS[0]:
        return str(kernel.get("display_name") or name)
    return None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
