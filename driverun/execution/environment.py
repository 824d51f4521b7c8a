"""The packages of one job, in a folder of its own in front of those of the runtime, which stay as they are."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from driverun.clock import Clock
from driverun.errors import IndexOutOfReach, IntegrityError, ObjectNotFound, RequirementsError, StoreError
from driverun.execution.installers import Installer, Package, find_installer
from driverun.execution.runtime_packages import RuntimePackages, look_at_packages
from driverun.storage.base import ObjectStore
from driverun.transfer.environments import (
    MOST_BYTES,
    fetch_packages,
    keep_packages,
    kept_packages,
    size_of,
)
from driverun.transfer.progress import written_size

#: What uv and pip say beside what is wrong.
_CHATTER = re.compile(
    r"\s*(Using |Resolved |Looking in |Collecting |Processing |Requirement already |Downloading |Link requires |INFO: "
    r"|To fix this |\d\. |ERROR: ResolutionImpossible|\[notice\]|Getting |Preparing |Installing build "
    r"|warning: Requirements file )"
)
_SCRIPT = re.compile(rb"#![^\n]*python[^\n]*\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPackages:
    """What a job gets beside the packages of the runtime."""

    folder: Path | None = None  #: None: nothing, the runtime has all
    versions: Mapping[str, str] = field(default_factory=dict)  #: name to version, or to an address


class Environments:
    """Makes the packages of jobs for one worker."""

    def __init__(
        self,
        *,
        python: str,
        environment: Mapping[str, str],
        clock: Clock,
        installer: Installer | None = None,
        runtime: RuntimePackages | None = None,
    ) -> None:
        """Serve jobs that run under the interpreter `python`.

        Args:
            environment: of the installer; settings of uv and pip among it, such as UV_INDEX_URL.
            installer: None: the one that is found when one is needed.
            runtime: None: the interpreter is asked when that is needed.
        """
        self._python = python
        self._environment = {k: v for k, v in environment.items() if not k.startswith("DRIVERUN_")}
        self._clock = clock
        self._given = installer
        self._runtime = runtime

    def prepare(
        self,
        requirements: Sequence[str],
        *,
        store: ObjectStore,
        into: Path,
        scratch: Path,
        worker: str,
        say: Callable[[str], None],
        check: Callable[[], None],
        withheld: Collection[str] = (),
    ) -> JobPackages:
        """Have the packages in the folder `into`: from the root if it has them, else from an index, and kept then.

        Args:
            check: raises what ends the attempt, if something does.
            withheld: variables of the worker that code of the job must not see, and packages may be built by code.

        Raises:
            RequirementsError: they cannot be had together with what the runtime has, or at all.
            IndexOutOfReach: the index does not answer; later it may.
        """
        if not requirements:
            return JobPackages()
        if os.pathsep in str(into):
            raise RequirementsError(
                f"cannot install the requirements of this job in {into}: no PYTHONPATH can name a folder with"
                f" {os.pathsep!r} in it. Give this worker another DRIVERUN_WORKDIR, then driverun retry."
            )
        if self._runtime is None:
            self._runtime = look_at_packages(self._python, self._environment)
        runtime = self._runtime
        conflicts = [
            why for requirement in requirements if (why := runtime.conflict(requirement)) is not None
        ]
        if conflicts:
            raise RequirementsError("cannot install the requirements of this job: " + "; ".join(conflicts))
        if all(runtime.is_met(requirement) for requirement in requirements):
            return JobPackages()
        key = runtime.key(requirements)
        found = self._from_root(store, key, into, scratch=scratch, say=say)
        if found is None:
            installer = self._given if self._given is not None else self._find_installer(withheld)
            found = self._from_index(installer, requirements, runtime, into, say=say, check=check)
            if found.folder is not None:
                self._keep(store, key, found, worker=worker, scratch=scratch, say=say)
        return found

    def _from_root(
        self, store: ObjectStore, key: str, into: Path, *, scratch: Path, say: Callable[[str], None]
    ) -> JobPackages | None:
        try:
            for kept in kept_packages(store, key):
                try:
                    fetch_packages(store, key, kept, into, scratch=scratch)
                except (IntegrityError, ObjectNotFound) as exc:
                    say(f"packages on the root are not used: {exc}")
                    continue
                _name_interpreter(into / "bin", self._python)
                say(f"packages from the root: {_written(kept.packages)}")
                return JobPackages(folder=into, versions=kept.packages)
        except StoreError as exc:
            say(f"the root cannot be asked for packages now, they are installed anew: {exc}")
        return None

    def _find_installer(self, withheld: Collection[str]) -> Installer:
        environment = {name: value for name, value in self._environment.items() if name not in withheld}
        return find_installer(python=self._python, environment=environment, clock=self._clock)

    def _from_index(
        self,
        installer: Installer,
        requirements: Sequence[str],
        runtime: RuntimePackages,
        into: Path,
        *,
        say: Callable[[str], None],
        check: Callable[[], None],
    ) -> JobPackages:
        try:
            packages = installer.resolve(requirements, runtime.constraints(), check)
            self._require_no_second_copy(packages, runtime)
            if not packages:
                return JobPackages()
            shutil.rmtree(into, ignore_errors=True)
            installer.install(packages, into, check)
        except IndexOutOfReach as exc:
            raise IndexOutOfReach(
                f"cannot install the requirements of this job now, the index does not answer: {exc}"
            ) from exc
        except _NotTogether as exc:
            raise RequirementsError(f"cannot install the requirements of this job: {exc}") from exc
        except RequirementsError as exc:
            _explain(requirements, runtime, exc)
        versions = {each.name: each.version or each.requirement for each in packages}
        say(f"packages installed for this job: {_written(versions)}")
        return JobPackages(folder=into, versions=versions)

    def _require_no_second_copy(self, packages: Sequence[Package], runtime: RuntimePackages) -> None:
        found = (runtime.second_copy(package.name, package.version) for package in packages)
        reasons = [why for why in found if why is not None]
        if reasons:
            raise _NotTogether("; ".join(reasons))

    def _keep(
        self,
        store: ObjectStore,
        key: str,
        found: JobPackages,
        *,
        worker: str,
        scratch: Path,
        say: Callable[[str], None],
    ) -> None:
        assert found.folder is not None, "nothing is not kept"
        try:
            kept = keep_packages(store, key, found.folder, found.versions, worker=worker, scratch=scratch)
        except (StoreError, IntegrityError) as exc:
            say(f"packages are not kept on the root, the next attempt installs them anew: {exc}")
            return
        if kept is None:
            size = written_size(size_of(found.folder))
            say(
                f"packages of {size} are not kept on the root, which takes {written_size(MOST_BYTES)}: each attempt"
                " downloads them"
            )


def changed_versions(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Which packages are others than before, each with both versions."""
    return [
        f"{name} {now.get(name, 'is not installed')}, was {before.get(name, 'not installed')}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]


class _NotTogether(RequirementsError):
    """What was resolved would put a framework in front of the runtime's."""


def _explain(requirements: Sequence[str], runtime: RuntimePackages, exc: RequirementsError) -> NoReturn:
    lines = [line for line in str(exc).splitlines() if not _CHATTER.match(line)]
    complaint = " ".join(re.sub(r"(?i)^\s*(error|cause):\s*", "", line).strip() for line in lines)
    told = runtime.told_about(complaint)
    advice = "Ask for versions that exist and go with each other" + (" and with that" if told else "")
    raise RequirementsError(
        f"cannot install the requirements of this job ({', '.join(requirements)}): {complaint.strip().rstrip('.')}."
        f" {told + '. ' if told else ''}{advice}, then submit again."
    ) from exc


def _name_interpreter(folder: Path, python: str) -> None:
    """Have the programs of packages that came from another machine run under the interpreter of this one."""
    for file in folder.iterdir() if folder.is_dir() else ():
        content = file.read_bytes()
        head = _SCRIPT.match(content)
        if head is not None:
            file.write_bytes(f"#!{python}\n".encode() + content[head.end() :])


def _written(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
