"""What the pages say of files, links, options, fields and rooms is held against what there is."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from driverun.cli.main import main
from driverun.launchers.colab import CellOptions
from driverun.settings import Settings
from driverun.spec.model import JobSpec
from driverun.spec.parser import parse_job
from driverun.training.current import CurrentRun
from tests.test_layers import MAY_IMPORT

REPOSITORY = Path(__file__).parent.parent
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
EVERYWHERE = {"help", "version"}  #: options that explain themselves


def text_of(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        file, _, anchor = link.partition("#")
        if not file.startswith("http"):
            target = page.parent / file if file else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_that_a_page_names_exist(page: Path) -> None:
    for name in re.findall(r"`((?:\w+/)+\w+\.py)`", page.read_text(encoding="utf-8")):
        assert (REPOSITORY / name).is_file() or (REPOSITORY / "driverun" / name).is_file(), name


def options(command: click.Command, name: str) -> Iterator[tuple[str, list[str]]]:
    """Every command below this one, with each of its options as it may be written."""
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name not in EVERYWHERE:
            yield name, [*parameter.opts, *parameter.secondary_opts]
    if isinstance(command, click.Group):
        for each, below in command.commands.items():
            yield from options(below, f"{name} {each}")


def test_every_command_and_option_is_on_some_page() -> None:
    said = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    words = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", said))
    missing = [
        (command, written)
        for command, written in options(main, "driverun")
        if command not in said or words.isdisjoint(written)
    ]
    assert not missing


def test_the_page_of_the_job_file_has_a_row_and_a_section_for_every_field() -> None:
    page = text_of("docs/job-file.md")
    fields = {field.validation_alias or name for name, field in JobSpec.model_fields.items()}
    assert set(re.findall(r"^\| \[`(\w+)`\]", page, re.MULTILINE)) == fields
    headings = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^### (.*)$", page, re.MULTILINE))))
    assert headings == fields
    whole = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[1]
    assert set(re.findall(r"^(\w+):", whole, re.MULTILINE)) == fields, "the example with everything in it"
    parse_job(whole.encode(), file="job.yaml", default_name="mnist")


def test_the_page_of_settings_has_all_of_them() -> None:
    rows = re.findall(r"^\| `DRIVERUN_(\w+)` \| `(\w+)` \|", text_of("docs/own-machine.md"), re.MULTILINE)
    fields = {re.sub("_(s|bytes)$", "", field.name) for field in dataclasses.fields(Settings)}
    assert {name for _, name in rows} == fields
    assert all(variable == name.upper() for variable, name in rows)


def test_the_page_of_the_cell_has_a_row_for_every_field_of_the_form() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", text_of("docs/colab.md"), re.MULTILINE)
    assert rows == [field.name for field in dataclasses.fields(CellOptions)]


def test_the_page_of_python_has_a_row_for_all_that_a_script_may_ask() -> None:
    section = text_of("docs/python.md").partition("## In the job's own script")[2].partition("\n## ")[0]
    rows = " ".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", rows)) == {field.name for field in dataclasses.fields(CurrentRun)}


def test_the_architecture_page_has_every_room() -> None:
    rows = re.findall(r"^\| (`.*?`) \| .* \| .* \|$", text_of("docs/architecture.md"), re.MULTILINE)
    named = set(re.findall(r"`(\w+)(?:/|\.py)`", " ".join(rows)))
    assert {room for room in MAY_IMPORT if not room.startswith("__")} <= named
