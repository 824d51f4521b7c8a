"""The notebook of the repository: made from the package, whole, and without a trace of having been run."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat
import pytest

from driverun import __version__
from driverun.launchers.colab import CellOptions
from driverun.launchers.notebook import FILE, REPOSITORY, cell_source, notebook, notebook_text

REPOSITORY_FOLDER = Path(__file__).parents[2]


def test_the_file_is_what_the_package_makes() -> None:
    kept = (REPOSITORY_FOLDER / FILE).read_text(encoding="utf-8")
    assert kept == notebook_text(), "make notebook"


def test_it_is_a_notebook_that_colab_gives_a_gpu() -> None:
    made = nbformat.from_dict(notebook())
    nbformat.validate(made)
    metadata = made.metadata
    assert (metadata.accelerator, metadata.colab.gpuType) == ("GPU", "T4")
    assert metadata.kernelspec.name == "python3"
    assert "widgets" not in metadata


def test_one_form_cell_without_outputs() -> None:
    cells = [cell for cell in notebook()["cells"] if cell["cell_type"] == "code"]
    assert len(cells) == 1
    assert cells[0]["outputs"] == []
    assert cells[0]["execution_count"] is None
    assert cells[0]["metadata"]["cellView"] == "form"
    assert cell_source().startswith("#@title ")


def test_it_names_this_version() -> None:
    assert f'VERSION = "{__version__}"' in cell_source()


def test_the_form_offers_all_options_with_their_defaults() -> None:
    tree = ast.parse(cell_source())
    given = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and "#@param" in cell_source().splitlines()[node.lineno - 1]
    }
    defaults = CellOptions(root="gdrive:driverun")
    assert given == {name: getattr(defaults, name) for name in CellOptions.__dataclass_fields__}


def test_nothing_asks_on_standard_input_or_simulates_a_person() -> None:
    assert not re.search(r"\binput\(|getpass|eval_js|Javascript|click\(", cell_source())


@pytest.mark.parametrize("text", ["README.md"])
def test_the_badge_opens_the_notebook(text: str) -> None:
    address = f"https://colab.research.google.com/github/{REPOSITORY}/blob/main/{FILE}"
    assert address in (REPOSITORY_FOLDER / text).read_text(encoding="utf-8")
