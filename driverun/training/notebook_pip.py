"""`pip install` for a job: into packages of its own, which leave the machine's as they are.

Called in the place of pip as `python -m driverun.training.notebook_pip FOLDER install ...`. What the machine has is
not installed once more: another TensorFlow in front of the machine's would run without its GPU.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_PIP_MODULE = re.compile(
    r"(?P<before>^|[\s;&|(])(?P<python>[^\s;&|()'\"]*\bpython[\d.]*)\s+(?:-\w\s+)*?-m\s+pip\b", re.MULTILINE
)
_UV_PIP = re.compile(r"(^|[\s;&|(])uv\s+pip\b", re.MULTILINE)
#: Of pip's options to install: those that would touch the machine, or install again what it has.
_IGNORED = frozenset(
    {"--user", "--system", "--force-reinstall", "--ignore-installed", "-I", "--break-system-packages"}
)
_OF_ITS_OWN = ("-t", "--target", "--prefix", "--root", "--dry-run", "--report", "--download", "-h", "--help")
#: Those that say where packages come from and how they are built; the second call needs them as well.
_FLAGS = frozenset({"--no-index", "--pre", "--no-cache-dir", "--no-build-isolation"})
_VALUED = (
    "-i",
    "--index-url",
    "--extra-index-url",
    "-f",
    "--find-links",
    "--trusted-host",
    "--proxy",
    "--cert",
)


def install_pip(folder: Path) -> Path:
    """Make `pip` of all that this process starts install into a folder below `folder`; gives that folder."""
    packages, commands = folder / "packages", folder / "commands"
    packages.mkdir(parents=True, exist_ok=True)
    commands.mkdir(exist_ok=True)
    python = shlex.quote(sys.executable)
    call = f"exec {python} -P -m driverun.training.notebook_pip {shlex.quote(str(packages))}"
    for name in ("pip", "pip3"):
        command = commands / name
        command.write_text(f'#!/bin/sh\n{call} "$@"\n', encoding="utf-8")
        command.chmod(0o755)
    _prepend("PATH", str(commands), str(packages / "bin"), str(Path(sys.executable).parent))
    _prepend("PYTHONPATH", str(packages))
    os.environ["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    os.environ["PIP_ROOT_USER_ACTION"] = "ignore"
    os.environ["PIP_NO_INPUT"] = "1"
    os.environ["PIP_PROGRESS_BAR"] = "off"
    return packages


def through_job_packages(command: str) -> str:
    """The shell command, with every `python -m pip` and `uv pip` in it as the `pip` of the job."""
    return _UV_PIP.sub(r"\1pip", _PIP_MODULE.sub(lambda found: f"{found['before']}pip", command))


def _prepend(variable: str, *folders: str) -> None:
    known = os.environ.get(variable, "" if variable == "PYTHONPATH" else os.defpath)
    os.environ[variable] = os.pathsep.join([*folders, *filter(None, [known])])


def main(target: Path, arguments: Sequence[str]) -> int:
    """Do what pip would; gives its exit code."""
    command, *rest = [argument for argument in arguments if argument != "--no-input"] or [""]
    quiet = [argument for argument in rest if re.fullmatch(r"-q+|--quiet", argument)]
    if command == "uninstall":
        _say("the packages of this machine are not the job's to remove; nothing was changed")
        return 0
    if command != "install" or any(_is_option(argument, _OF_ITS_OWN) for argument in rest):
        os.execv(sys.executable, [sys.executable, "-P", "-m", "pip", *arguments])
    left_out = [argument for argument in rest if argument in _IGNORED]
    if left_out:
        _say(f"{' '.join(left_out)} is left out: a job has packages of its own, beside those of this machine")
    wanted = _without_strategy([argument for argument in rest if argument not in _IGNORED])
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        code = _pip(["install", *wanted, "--dry-run", "--report", str(report)], hide="Would install ")
        if code or not report.is_file():
            return code
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    if not found:
        return 0
    options = _lasting(wanted)
    code = _pip(
        ["install", "-q", "--no-deps", "--upgrade", "--target", str(target), *options, *map(_address, found)],
        hide="WARNING: Target directory ",
    )
    if code:
        return code
    for package in found:
        name, version = package["metadata"]["name"], package["metadata"]["version"]
        known = _version_beside(target, name)
        if known is not None and known != version:
            _say(f"this job gets {name} {version}; the machine keeps {known}")
    if not quiet:
        names = sorted(f"{p['metadata']['name']}-{p['metadata']['version']}" for p in found)
        print(f"Successfully installed {' '.join(names)}", flush=True)  # noqa: T201 (in the place of pip)
    return 0


def _pip(arguments: Sequence[str], *, hide: str | None = None) -> int:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "pip", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            if hide is None or not line.startswith(hide):
                print(line, end="", flush=True)  # noqa: T201 (in the place of pip)
    return process.wait()


def _address(package: Mapping[str, Any]) -> str:
    """Where pip found it, as a requirement: what is installed is what was resolved, to the file."""
    info = package["download_info"]
    url = str(info["url"])
    if "vcs_info" in info:
        url = f"{info['vcs_info']['vcs']}+{url}@{info['vcs_info']['commit_id']}"
    if "subdirectory" in info:
        url = f"{url}#subdirectory={info['subdirectory']}"
    return f"{package['metadata']['name']} @ {url}"


def _lasting(arguments: Sequence[str]) -> list[str]:
    kept: list[str] = []
    takes_value = False
    for argument in arguments:
        if takes_value or argument in _FLAGS or any(argument.startswith(f"{name}=") for name in _VALUED):
            kept.append(argument)
            takes_value = False
        elif argument in _VALUED:
            kept.append(argument)
            takes_value = True
    return kept


def _without_strategy(arguments: Sequence[str]) -> list[str]:
    """Without an order to upgrade whatever the wanted packages need: that would be the machine's TensorFlow, too."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument == "--upgrade-strategy":
            skip = True
        elif not argument.startswith("--upgrade-strategy="):
            kept.append(argument)
    return kept


def _is_option(argument: str, names: Sequence[str]) -> bool:
    return argument in names or any(
        name.startswith("--") and argument.startswith(f"{name}=") for name in names
    )


def _version_beside(target: Path, name: str) -> str | None:
    """The version of the machine's own; None if it has none."""
    path = [entry for entry in sys.path if Path(entry) != target]
    for found in importlib.metadata.distributions(name=name, path=path):
        return found.version
    return None


def _say(text: str) -> None:
    print(f"driverun: {text}", flush=True)  # noqa: T201 (in the place of pip)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
