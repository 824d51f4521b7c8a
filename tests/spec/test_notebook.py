"""A file that cannot be run as a notebook is refused before anything runs."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from driverun.spec.notebook import notebook_fault


def notebook(*cells: Any, nbformat: int = 4, **metadata: Any) -> bytes:
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": nbformat}).encode()


CODE = {"cell_type": "code", "source": ["print(1)\n", "print(2)"]}
COLAB: dict[str, Any] = {
    "colab": {"provenance": []},
    "kernelspec": {"name": "python3", "display_name": "Python 3"},
    "language_info": {"name": "python"},
}


@pytest.mark.parametrize(
    "content",
    [
        notebook(CODE, **COLAB),
        notebook(CODE),
        notebook({"cell_type": "markdown", "source": "x"}, {**CODE, "source": "print(1)"}),
        notebook(CODE, kernelspec={"name": "my-environment", "display_name": "Mine"}),
        notebook(CODE, kernelspec={"name": "x", "language": "python"}, language_info={"name": "ipython"}),
    ],
)
def test_a_notebook_for_python_can_be_run(content: bytes) -> None:
    assert notebook_fault(content) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html>", "is not JSON .*download it anew"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[1]", "without cells"),
        (b"{}", "without cells"),
        (notebook(CODE, nbformat=3), "of format 3.*save it again"),
        (b'{"nbformat": 4, "cells": 5}', "format 4"),
        (notebook(CODE, language_info={"name": "R"}), "for R; driverun runs those for Python"),
        (notebook(CODE, kernelspec={"name": "ir", "display_name": "R 4.4"}), "for R 4.4"),
        (notebook(CODE, kernelspec={"name": "j", "language": "julia"}), "for julia"),
        (notebook(), "no code cell"),
        (
            notebook({"cell_type": "markdown", "source": "x"}, {"cell_type": "code", "source": [" \n"]}),
            "no code",
        ),
    ],
)
def test_another_file_is_refused_with_what_to_do(content: bytes, words: str) -> None:
    found = notebook_fault(content)
    assert found is not None
    assert re.search(words, found), found
