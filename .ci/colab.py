"""Show that driverun fits into Colab's images: nothing there changes, and it works with the versions of there.

    python .ci/colab.py [--constraints FOLDER] [--tests PATH...]

FOLDER holds a pip constraints file for each image: all of its packages, at their versions. Its name ends in the image's
Python, as in constraints-latest-py313.txt. For each of them:

1. an environment with that Python and, under the constraints, all that driverun and its EXTRAS require, and pip
   itself. Not the whole image: pip changes a package only if it is among the requirements of what is being installed,
   at any depth, and all of those are here. What is here and not in the image at that very version would be downloaded
   in Colab, and is a fault; but for what no image has and the wheel that `driverun init` keeps brings along;
2. driverun's wheel on top, without constraints, as a notebook installs it. Every other package stays at its version,
   and `pip check` finds no conflict. The wheel that `driverun init` would keep on a root, made from what was
   installed, is installed in its place and starts;
3. the tests that meet other people's packages, with the installed wheel in the place of the checkout: a root on Drive,
   the Drive emulator, what is built on stores, and two trainings that are cut.

What cannot be shown on this machine, for want of a Python or of the constraints, is said between lines of marks, and
is no failure. Run it with an interpreter that has hatchling; it needs nothing else beyond the standard library.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
WORK = CHECKOUT / "build" / "colab"
# Not `s3`: s3fs is not in the image, and each of its releases wants one of fsspec, so pip would move that. Nor
# `notebook`: the image has IPython, but not jedi, which IPython says that it requires.
EXTRAS = ("drive", "tensorflow", "https", "gs", "hf")
CARRIED = (
    "cronsim",
)  # requires nothing, and lies in the wheel that `driverun init` makes: driverun/transfer/wheel.py
TELLING = ("pydrive2", "cryptography", "pyopenssl", "google-auth", "httplib2", "tensorflow", "keras", "numpy")
TESTERS = (
    "pytest",
    "pytest-mock",
    "pytest-xdist",
    "jsonschema",
    "pydrive2[fsspec]",
    "ipykernel",
    "matplotlib",
    "nbclient",
    "nbformat",
    "requests",
)
AT_ONCE = ("-n", "auto", "--maxprocesses", "4", "--dist", "worksteal")  # as `make test` does
TESTS = (
    "tests/spec",
    "tests/storage",
    "tests/drive_emulator",
    "tests/dispatch",
    "tests/checkpoints",
    "tests/runs",
    "tests/launchers/test_doctor.py",
    "tests/launchers/test_bootstrap.py",
    "tests/transfer/test_wheel.py",
    "tests/training/test_notebook.py",
    # The notebook in a kernel of the image's Jupyter, cut three times and stopped once; a notebook as a job.
    "tests/e2e/test_cell.py::test_mnist_survives_power_cuts_and_the_runtime_is_released_last",
    "tests/e2e/test_cell.py::test_the_stop_button_hands_over_and_no_step_is_repeated",
    "tests/e2e/test_notebook_job.py",
    # Arrays and a data set, cut several times each. All of training/ takes more than all of the above.
    "tests/training/test_resume.py::test_arrays_with_every_usual_callback[cuts5]",
    "tests/training/test_resume.py::test_a_dataset_with_augmentation_two_fits_and_files",
)
NO_SUCH_PYTHON = 3  # how .ci/venv exits

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_IMAGE = re.compile(r"constraints-(.+)-py(3)(\d+)\.txt")

Versions = Mapping[str, str]


class Unfit(Exception):
    """driverun does not fit into the image."""


class NotShown(Exception):
    """This machine cannot tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image of Colab."""

    name: str
    python: str  #: as in 3.13
    constraints: Path

    @property
    def frozen(self) -> Versions:
        lines = self.constraints.read_text(encoding="utf-8").splitlines()
        pins = (line.partition("==") for line in lines if "==" in line and not line.startswith("#"))
        return {canonical(name): version.strip() for name, _, version in pins}


def main() -> int:
    """Check every image; 1 if driverun does not fit into one."""
    parser = argparse.ArgumentParser(description="Show that driverun fits into Colab's images.")
    parser.add_argument("--constraints", type=Path, default=CHECKOUT.parent / "shared" / "colab")
    parser.add_argument("--tests", nargs="*", default=TESTS, help="what pytest is given; nothing: no tests")
    arguments = parser.parse_args()
    images = list(images_in(arguments.constraints.resolve()))
    if not images:
        loudly(f"NOT SHOWN: {arguments.constraints} holds no constraints-<image>-py3<minor>.txt")
        return 0
    try:
        wheel = built_wheel()
    except Unfit as exc:
        loudly(str(exc))
        return 1
    verdicts = []
    for image in images:
        started_s = time.monotonic()
        try:
            check(image, wheel, tests=arguments.tests)
            verdict = "fits"
        except Unfit as exc:
            verdict = f"DOES NOT FIT: {exc}"
        except NotShown as exc:
            verdict = f"NOT SHOWN: {exc}"
            loudly(f"{image.name}: {verdict}")
        verdicts.append(verdict)
        print(
            f"colab: {image.name}, Python {image.python}: {verdict} ({time.monotonic() - started_s:.0f} s)",
            flush=True,
        )
    if any(verdict != "fits" for verdict in verdicts):
        loudly(*(f"{image.name}: {verdict}" for image, verdict in zip(images, verdicts, strict=True)))
    return int(any(verdict.startswith("DOES") for verdict in verdicts))


def images_in(folder: Path) -> Iterator[Image]:
    """The images whose constraints are there."""
    for file in sorted(folder.glob("constraints-*.txt")):
        if found := _IMAGE.fullmatch(file.name):
            yield Image(name=found[1], python=f"{found[2]}.{found[3]}", constraints=file)


def canonical(name: str) -> str:
    """PyDrive2, pydrive2 and Py_Drive2 are one package."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def built_wheel() -> Path:
    """driverun's wheel of this checkout, built with the hatchling that is here."""
    folder = WORK / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    command: list[str | Path] = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    run(command, "the wheel cannot be built")
    return next(folder.glob("*.whl"))


def check(image: Image, wheel: Path, *, tests: Sequence[str]) -> None:
    """Go through the three steps.

    Raises:
        Unfit: one of them fails.
        NotShown: the image's Python is not here.
    """
    frozen = image.frozen
    place = WORK / image.name
    shutil.rmtree(place, ignore_errors=True)
    python = made_environment(image, place / "venv")
    before = installed(python)
    if strangers := {
        name: version
        for name, version in before.items()
        if frozen.get(name) != version and (name not in CARRIED or name in frozen)
    }:
        raise Unfit(f"the image has not {_listed(strangers)}, which driverun requires")

    pip(python, "install", wheel)
    pip(python, "install", f"{wheel}[{','.join(EXTRAS)}]")
    after = installed(python)
    if changed := differences(before, after):
        raise Unfit(f"installing driverun changes {changed}")
    pip(python, "check")
    again = made_again(python, place)
    with zipfile.ZipFile(again) as archive:
        if missing := [name for name in CARRIED if f"{name}/__init__.py" not in archive.namelist()]:
            raise Unfit(
                f"the image has not {', '.join(missing)}, and the wheel that `driverun init` makes neither"
            )
    pip(python, "install", "--force-reinstall", "--no-deps", again)
    run([python.with_name("driverun"), "--version"], "the command does not start")
    if made_again(python, place) != again:
        raise Unfit("an installed driverun does not make the wheel that it was installed from")

    print(
        f"colab: {image.name}: {_listed({name: after[name] for name in TELLING if name in after})}",
        flush=True,
    )
    if tests:
        pip(python, "install", "--constraint", image.constraints, *TESTERS)
        if changed := differences(after, {name: installed(python).get(name, "") for name in after}):
            raise Unfit(f"the tests need other versions: {changed}")
        here = place / "checkout"  # without the package, so that what is imported is what was installed
        for folder in ("tests", "jobs", "docs"):
            shutil.copytree(CHECKOUT / folder, here / folder, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(CHECKOUT / "pyproject.toml", here)
        (place / "shared").symlink_to(CHECKOUT.parent / "shared")  # MNIST, where tests look for it
        run([python, "-m", "pytest", "-q", *AT_ONCE, *tests], "tests fail", cwd=here)


def made_environment(image: Image, folder: Path) -> Path:
    """The interpreter of an environment with the image's Python, pip and what driverun requires."""
    required = (canonical(name) for name in requirements())
    script = CHECKOUT / ".ci" / "venv"
    command: list[str | Path] = [script, folder, "--constraint", image.constraints, "pip", *required]
    print(f"colab: {image.name}: making an environment of Python {image.python}", flush=True)
    made = subprocess.run(command, env={**os.environ, "PYTHON": f"python{image.python}"}, check=False)
    if made.returncode == NO_SUCH_PYTHON:
        raise NotShown(f"this machine has no Python {image.python}")
    if made.returncode:
        raise Unfit("what driverun requires cannot be installed under its constraints")
    return folder / "bin" / "python"


def made_again(python: Path, folder: Path) -> Path:
    """The wheel of the installed driverun, as `driverun init` makes it."""
    code = (
        "import pathlib, sys; from driverun.transfer.wheel import running_wheel; wheel = running_wheel(); "
        "file = pathlib.Path(sys.argv[1], wheel.name); file.write_bytes(wheel.content); print(file)"
    )
    command = [str(python), "-c", code, str(folder)]
    made = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
    if made.returncode:
        raise Unfit("the installed driverun cannot make its wheel")
    return Path(made.stdout.strip())


def requirements() -> Iterator[str]:
    """What pyproject.toml requires, with the extras, without bounds: the constraints say which version."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(each for extra in EXTRAS for each in project["optional-dependencies"][extra]),
    ]
    for requirement in wanted:
        found = _NAME.match(requirement)
        assert found is not None, requirement
        yield found[0]


def installed(python: Path) -> Versions:
    """Every package of the environment but driverun."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "list", "--format", "json"]
    listed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {
        canonical(each["name"]): each["version"] for each in listed if canonical(each["name"]) != "driverun"
    }


def differences(before: Versions, after: Versions) -> str:
    """What is another version, new or gone; "" if nothing is."""
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return ", ".join(f"{name} {before.get(name, 'none')} -> {after.get(name, 'none')}" for name in changed)


def pip(python: Path, verb: str, *arguments: str | Path) -> None:
    """Run the environment's own pip, which is the image's."""
    options = ["-qq", "--no-input"] if verb == "install" else []
    run(
        [python, "-m", "pip", "--disable-pip-version-check", verb, *options, *arguments],
        f"pip {verb} {' '.join(str(each) for each in arguments)} fails",
    )


def run(command: Sequence[str | Path], failure: str, *, cwd: Path = CHECKOUT) -> None:
    """Run it for all to see. Raises Unfit with the words `failure`."""
    if subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, check=False).returncode:
        raise Unfit(failure)


def loudly(*lines: str) -> None:
    """Say it so that nobody scrolls past."""
    bar = "!" * 100
    print("\n".join((bar, *(f"!! colab: {line}" for line in lines), bar)), file=sys.stderr, flush=True)


def _listed(versions: Versions) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))


if __name__ == "__main__":
    sys.exit(main())
