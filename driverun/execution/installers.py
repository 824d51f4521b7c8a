"""Programs that resolve and install packages: uv where there is one, else pip, which does the same slower."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from driverun.clock import Clock
from driverun.errors import IndexOutOfReach, RequirementsError

POLL_S = 0.1
LONGEST_COMPLAINT = 4000  #: characters, from the end
_OUT_OF_REACH = re.compile(
    r"error sending request|dns error|failed to (lookup|fetch:)|connection (refused|reset|error|timed out)|timed? ?out"
    r"|temporary failure|network is (unreachable|down)|HTTP status (server error|5\d\d|429)|NewConnectionError"
    r"|Max retries exceeded|ReadTimeout|ProtocolError|HTTP error (429|5\d\d)"
    r"|could not resolve host|couldn't connect to server|requested URL returned error: (429|5\d\d)",  # git's
    re.IGNORECASE,
)
#: An address that is wrong, or not for us: uv "fails to fetch" it as well, and no other time will do.
_REFUSED = re.compile(r"HTTP status client error \((?!408|425|429)4\d\d")
_UV_LINE = re.compile(
    r" [+~] (?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:==(?P<version>\S+)| @ (?P<url>\S+))(?: \(from (?P<at>.+)\))?"
)
_UV_COUNT = re.compile(r"Would install (\d+) package")


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One package to be installed."""

    name: str
    version: str  #: "" where it is told by its address alone
    requirement: str  #: what makes the installer take this very one


class Installer(Protocol):
    """What is asked of the program."""

    def resolve(
        self, requirements: Sequence[str], constraints: Sequence[str], check: Callable[[], None]
    ) -> list[Package]:
        """What has to be installed so that the runtime and it meet the requirements.

        Raises:
            RequirementsError: nothing does; the message is the program's own.
            IndexOutOfReach: the index does not answer.
        """

    def install(self, packages: Sequence[Package], target: Path, check: Callable[[], None]) -> None:
        """Put these packages, and nothing else, into the folder `target`. Raises as `resolve`."""


class UvInstaller:
    """uv, called as `command`."""

    def __init__(
        self, command: Sequence[str], *, python: str, environment: Mapping[str, str], clock: Clock
    ) -> None:
        self._command = [*command, "pip", "install", "--python", python, "--color", "never", "--no-progress"]
        # Links into its cache would let a job write there.
        self._calls = _Calls({**environment, "UV_LINK_MODE": "copy"}, clock)

    def resolve(
        self, requirements: Sequence[str], constraints: Sequence[str], check: Callable[[], None]
    ) -> list[Package]:
        with tempfile.TemporaryDirectory(prefix="driverun-") as folder:
            said = self._calls.run(
                [
                    *self._command,
                    "--dry-run",
                    "--break-system-packages",  # it is not touched: this only keeps uv from refusing to look
                    *("--constraint", _lines(Path(folder, "constraints.txt"), constraints)),
                    *("--requirement", _lines(Path(folder, "requirements.txt"), requirements)),
                ],
                check,
            )
        found = [match for line in said.splitlines() if (match := _UV_LINE.fullmatch(line)) is not None]
        counted = _UV_COUNT.search(said)
        if len(found) != int(counted[1] if counted is not None else 0):
            raise RequirementsError(f"uv gave an answer that this driverun does not understand:\n{said}")
        return [_uv_package(match) for match in found]

    def install(self, packages: Sequence[Package], target: Path, check: Callable[[], None]) -> None:
        wanted = [package.requirement for package in packages]
        self._calls.run([*self._command, "--no-deps", "--target", str(target), *wanted], check)


def _uv_package(match: re.Match[str]) -> Package:
    name, version, address = match["name"], match["version"] or "", match["url"] or match["at"]
    requirement = f"{name} @ {address}" if address else f"{name}=={version}"
    return Package(name=name, version=version, requirement=requirement)


class PipInstaller:
    """The pip of the jobs' interpreter."""

    def __init__(self, *, python: str, environment: Mapping[str, str], clock: Clock) -> None:
        self._command = [
            python,
            "-P",
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--no-input",
        ]
        self._calls = _Calls({**environment, "PIP_ROOT_USER_ACTION": "ignore"}, clock)

    def resolve(
        self, requirements: Sequence[str], constraints: Sequence[str], check: Callable[[], None]
    ) -> list[Package]:
        with tempfile.TemporaryDirectory(prefix="driverun-") as folder:
            report = Path(folder, "report.json")
            self._calls.run(
                [
                    *self._command,
                    *("--dry-run", "--break-system-packages", "--report", str(report)),
                    *("--constraint", _lines(Path(folder, "constraints.txt"), constraints)),
                    *("--requirement", _lines(Path(folder, "requirements.txt"), requirements)),
                ],
                check,
            )
            found = json.loads(report.read_text(encoding="utf-8"))["install"]
        packages = []
        for each in found:
            name, version = each["metadata"]["name"], each["metadata"]["version"]
            is_direct = each.get("is_direct") and "vcs_info" not in each["download_info"]
            requirement = f"{name} @ {each['download_info']['url']}" if is_direct else f"{name}=={version}"
            if "vcs_info" in each["download_info"]:
                vcs = each["download_info"]["vcs_info"]
                requirement = f"{name} @ {vcs['vcs']}+{each['download_info']['url']}@{vcs['commit_id']}"
            packages.append(Package(name=name, version=version, requirement=requirement))
        return packages

    def install(self, packages: Sequence[Package], target: Path, check: Callable[[], None]) -> None:
        wanted = [package.requirement for package in packages]
        self._calls.run(
            [*self._command, "-q", "--no-deps", "--upgrade", "--target", str(target), *wanted], check
        )


class _Calls:
    """Runs the program, and ends it when nobody wants its answer any more."""

    def __init__(self, environment: Mapping[str, str], clock: Clock) -> None:
        self._environment = dict(environment)
        self._clock = clock

    def run(self, command: Sequence[str], check: Callable[[], None]) -> str:
        """What it said. `check` raises to have it ended."""
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                while process.poll() is None:
                    check()
                    self._clock.sleep(POLL_S)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            output.seek(0)
            said = output.read().decode("utf-8", "replace")
        if process.returncode == 0:
            return said
        complaint = (
            said.strip()[-LONGEST_COMPLAINT:] or f"it ended with code {process.returncode}, without a word"
        )
        raise (IndexOutOfReach if is_out_of_reach(complaint) else RequirementsError)(complaint)


def is_out_of_reach(complaint: str) -> bool:
    """Whether what uv or pip said is about an index or a host that may answer another time."""
    return _OUT_OF_REACH.search(complaint) is not None and _REFUSED.search(complaint) is None


def find_installer(*, python: str, environment: Mapping[str, str], clock: Clock) -> Installer:
    """uv beside the interpreter, on the path or as a module; else pip.

    Raises:
        RequirementsError: there is neither.
    """
    beside = Path(python).with_name("uv")
    program = str(beside) if beside.is_file() else shutil.which("uv", path=environment.get("PATH", ""))
    command = [program] if program else None
    if command is None and importlib.util.find_spec("uv") is not None:
        command = [sys.executable, "-P", "-m", "uv"]
    if command is not None:
        return UvInstaller(command, python=python, environment=environment, clock=clock)
    if _has_pip(python, environment):
        return PipInstaller(python=python, environment=environment, clock=clock)
    raise RequirementsError(
        f"this worker has neither uv nor, in {python}, pip to install a job's requirements with: pip install uv"
    )


def _has_pip(python: str, environment: Mapping[str, str]) -> bool:
    command = [python, "-P", "-c", "import pip"]
    return subprocess.run(command, env=dict(environment), capture_output=True, check=False).returncode == 0


def _lines(file: Path, lines: Sequence[str]) -> str:
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(file)
