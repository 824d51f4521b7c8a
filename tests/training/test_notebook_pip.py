"""pip in a notebook gives the job packages of its own, and leaves the machine's as they are."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import zipfile
from pathlib import Path

import pytest

from driverun.training.notebook_pip import through_job_packages
from tests.training.notebooks import notebook_job, outputs, run_cells, text
from tests.training.processes import Job

HAVE = importlib.metadata.version("numpy")


def make_wheel(folder: Path, name: str, version: str, *requires: str) -> None:
    """A package that pip can install without any index."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"]
    metadata += [f"Requires-Dist: {requirement}\n" for requirement in requires]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", "".join(metadata))
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/entry_points.txt", f"[console_scripts]\n{name}-say={name}:VERSION.title\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    wheels = tmp_path / "wheels"
    make_wheel(wheels, "tinything", "1.0", "numpy", "tinyneeded>=2")
    make_wheel(wheels, "tinyneeded", "2.5")
    make_wheel(wheels, "numpy", "99.0")  # newer than any machine's
    make_wheel(wheels, "click", "99.0")
    return notebook_job(tmp_path / "job")


def install(job: Job, *more: str) -> str:
    return f"--no-index --find-links {job.folder.parent / 'wheels'} {' '.join(more)}"


@pytest.mark.parametrize(
    "command", ["!pip install", "%pip install", "!python3 -m pip install", "!{sys.executable} -m pip install"]
)
def test_what_is_installed_is_the_jobs_and_what_the_machine_has_stays(job: Job, command: str) -> None:
    ended = run_cells(
        job,
        f"import sys\n{command} {install(job, 'tinything')}",
        """
        import tinything, tinyneeded, numpy
        from importlib.metadata import version
        print(tinything.__file__)
        print(tinyneeded.VERSION, numpy.__version__, version("numpy"))
        !python -c "import tinything; print('child', tinything.VERSION)"
        !command -v tinything-say
        """,
        f"{command} {install(job, 'tinything')}",
    )
    ended.assert_finished()
    first, second, third = outputs(job)
    assert "Successfully installed tinyneeded-2.5 tinything-1.0\n" in text(first)
    assert "Requirement already satisfied: numpy" in text(first)
    packages = job.spool.path / "job" / "packages"
    assert text(second).splitlines() == [
        str(packages / "tinything.py"),
        f"2.5 {HAVE} {HAVE}",
        "child 1.0",
        str(packages / "bin" / "tinything-say"),
    ]
    assert not list(packages.glob("numpy*"))
    assert "Requirement already satisfied: tinything" in text(third)
    assert "Successfully" not in text(third)
    assert importlib.util.find_spec("tinything") is None, "the machine is as it was"


def test_an_option_that_installs_everything_again_is_left_out(job: Job) -> None:
    flags = "--user --force-reinstall --upgrade-strategy eager -U"
    ended = run_cells(
        job, f"!pip install {flags} {install(job, 'tinything')}", "import numpy\nprint(numpy.__version__)"
    )
    ended.assert_finished()
    first, second = outputs(job)
    assert text(first).startswith("driverun: --user --force-reinstall is left out: ")
    assert "Successfully installed tinyneeded-2.5 tinything-1.0\n" in text(first)
    assert text(second) == f"{HAVE}\n"


def test_another_version_that_is_asked_for_is_the_jobs_alone(job: Job) -> None:
    ended = run_cells(
        job, f"!pip install -q {install(job, 'click==99.0')}", "import click\nprint(click.VERSION)"
    )
    ended.assert_finished()
    first, second = outputs(job)
    assert (
        text(first)
        == f"driverun: this job gets click 99.0; the machine keeps {importlib.metadata.version('click')}\n"
    )
    assert text(second) == "99.0\n"


def test_a_pip_that_fails_prints_as_in_colab_and_the_import_tells(job: Job) -> None:
    ended = run_cells(
        job, f"!pip install {install(job, 'nosuchpackage')}\nprint(_exit_code)", "import nosuchpackage"
    )
    first, _ = outputs(job)
    assert "No matching distribution found for nosuchpackage" in text(first)
    assert text(first).endswith("\n1\n")
    assert ended.failure["kind"] == "ModuleNotFoundError"
    assert ended.failure["message"].startswith("cell 2: No module named 'nosuchpackage'")


def test_nothing_is_uninstalled_and_other_commands_are_pips_own(job: Job) -> None:
    run_cells(job, "!pip uninstall -y numpy", "!pip show numpy 2>&1 | sed -n 1,2p").assert_finished()
    first, second = outputs(job)
    assert text(first) == (
        "driverun: the packages of this machine are not the job's to remove; nothing was changed\n"
    )
    assert text(second) == f"Name: numpy\nVersion: {HAVE}\n"


@pytest.mark.parametrize(
    ("command", "routed"),
    [
        ("python -m pip install a", "pip install a"),
        ("/usr/bin/python3.11 -u -m pip install a", "pip install a"),
        ("cd x && python3 -m pip install a; python -m pip list", "cd x && pip install a; pip list"),
        ("uv pip install -q a", "pip install -q a"),
        ("python -m pipdeptree", "python -m pipdeptree"),
        ("python train.py -m pip", "python train.py -m pip"),
        ("echo python", "echo python"),
    ],
)
def test_pip_as_a_module_is_the_jobs_pip(command: str, routed: str) -> None:
    assert through_job_packages(command) == routed
