"""What the interpreter of the jobs has installed, and what of it a job must leave as it is."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from driverun.errors import RequirementsError

#: Frameworks, and what their compiled code is built against: another copy in front of the runtime's would run without
#: its GPU, or not at all. Names of one row give the same package.
FRAMEWORKS: tuple[tuple[str, ...], ...] = (
    ("tensorflow", "tensorflow-cpu", "tensorflow-gpu", "tf-nightly", "intel-tensorflow"),
    ("keras", "keras-nightly", "tf-keras"),
    ("numpy",),
    ("ml-dtypes",),
    ("jax",),
    ("jaxlib",),
    ("torch",),
)
PROTECTED = frozenset(name for row in FRAMEWORKS for name in row)

_PROBE = """
import importlib.metadata, json, platform, sys, sysconfig
found, requires = {}, {}
for dist in importlib.metadata.distributions():
    name = dist.metadata["Name"]
    if name and name not in found:
        found[name], requires[name] = dist.version, list(dist.requires or ())
print(json.dumps({
    "python": f"{sys.implementation.cache_tag} {platform.python_version()}",
    "platform": f"{sysconfig.get_platform()} {'-'.join(platform.libc_ver())}",
    "packages": found, "requires": requires,
}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimePackages:
    """The packages of one interpreter, by normalised name."""

    python: str
    platform: str
    versions: Mapping[str, str]
    requires: Mapping[str, Sequence[str]]

    def key(self, requirements: Iterable[str]) -> str:
        """Digest of all that decides which packages a job with these requirements gets."""
        versions = {name: version for name, version in self.versions.items() if name != "driverun"}
        decides = [sorted(requirements), self.python, self.platform, sorted(versions.items())]
        return hashlib.sha256(json.dumps(decides).encode()).hexdigest()

    def is_met(self, requirement: str) -> bool:
        """Whether the runtime has it already, as far as can be told without asking an index."""
        found = _parsed(requirement)
        if found.marker is not None and not found.marker.evaluate():
            return True
        version = self.versions.get(normalised(found.name))
        if version is None or found.url is not None or found.extras:
            return False
        return bool(found.specifier.contains(version, prereleases=True))

    def held(self) -> dict[str, str]:
        """Versions of what no job may have another copy of."""
        return {name: version for name, version in self.versions.items() if name in PROTECTED}

    def constraints(self) -> list[str]:
        """What keeps the frameworks of the runtime at work, as constraints of an installer.

        They are held as they are. What they require may change within the bounds that they set, unless the runtime
        itself is out of bounds.
        """
        lines = [f"{name}=={version}" for name, version in sorted(self.held().items())]
        for name in sorted(self._below(self.held())):
            for required in self._requirements_of(name):
                other = normalised(required.name)
                version = self.versions.get(other)
                if version is None or other in PROTECTED or not required.specifier:
                    continue
                if required.specifier.contains(version, prereleases=True):
                    lines.append(f"{required.name}{required.specifier}")
        return list(dict.fromkeys(lines))

    def conflict(self, requirement: str) -> str | None:
        """Why the runtime cannot give the job what it asks for by name; None where nothing is in the way."""
        found = _parsed(requirement)
        name = normalised(found.name)
        if name not in PROTECTED or (found.marker is not None and not found.marker.evaluate()):
            return None
        present = self._present(name)
        if present is None:
            return None
        version = self.versions[present]
        if name == present and found.url is None and found.specifier.contains(version, prereleases=True):
            return None
        return (
            f"{requirement} is wanted by the job, and this runtime has {present} {version}"
            f"{self._needed_by(present)}. A job cannot have a copy of it: ask for what goes with that"
            " version, or leave it out"
        )

    def second_copy(self, name: str, version: str) -> str | None:
        """Why this package, which something that the job asks for brings, cannot be installed; None if it can."""
        present = self._present(normalised(name))
        if present is None:
            return None
        return (
            f"{name} {version} would come with what the job asks for, and this runtime has {present}"
            f" {self.versions[present]}{self._needed_by(present)}. Two copies do not go together: ask for packages that"
            " go with that version"
        )

    def told_about(self, text: str) -> str:
        """The runtime's side of an installer's complaint, for those names that occur in it."""
        named = {normalised(word) for word in re.findall(r"[A-Za-z0-9][A-Za-z0-9._-]*", text)}
        named |= {name for name in self.held() if re.search(rf"\b{re.escape(name)}\b", text)}
        told = [
            f"{name} {version}{self._needed_by(name)}"
            for name, version in sorted(self.held().items())
            if name in named
        ]
        return f"This runtime has {' and '.join(told)}, which stays as it is" if told else ""

    def _present(self, name: str) -> str | None:
        """Under which name the runtime has the protected package `name`, if it has it."""
        row = next((row for row in FRAMEWORKS if name in row), ())
        if name in row and name in self.versions:
            return name
        if name == "tf-keras":
            return None  # the old Keras lies beside the new one
        return next((other for other in row if other in self.versions and other != "tf-keras"), None)

    def _needed_by(self, name: str) -> str:
        needing = [
            f"{other} {version}"
            for other, version in sorted(self.held().items())
            if other != name
            and name in {normalised(required.name) for required in self._requirements_of(other)}
        ]
        return f" (for {' and '.join(needing)})" if needing else ""

    def _below(self, names: Iterable[str]) -> set[str]:
        """The packages `names`, and all that they need."""
        found: set[str] = set()
        left = [name for name in names if name in self.versions]
        while left:
            name = left.pop()
            if name not in found:
                found.add(name)
                required = (normalised(each.name) for each in self._requirements_of(name))
                left += [other for other in required if other in self.versions]
        return found

    def _requirements_of(self, name: str) -> Iterator[Any]:
        from packaging.requirements import InvalidRequirement, Requirement

        for text in self.requires.get(name, ()):
            try:
                required = Requirement(text)
                if required.marker is None or required.marker.evaluate({"extra": ""}):
                    yield required
            except InvalidRequirement:  # of an old package; installers pass it over as well
                continue


def look_at_packages(python: str, environment: Mapping[str, str]) -> RuntimePackages:
    """Ask the interpreter what it has.

    Raises:
        RequirementsError: it does not answer.
    """
    try:
        done = subprocess.run(
            [python, "-P", "-c", _PROBE], capture_output=True, text=True, env=dict(environment), check=True
        )
        found = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.CalledProcessError) as exc:
        raise RequirementsError(
            f"cannot ask {python} for the packages it has: {exc}. Look at DRIVERUN_PYTHON"
        ) from exc
    return RuntimePackages(
        python=found["python"],
        platform=found["platform"],
        versions={normalised(name): version for name, version in found["packages"].items()},
        requires={normalised(name): requires for name, requires in found["requires"].items()},
    )


def normalised(name: str) -> str:
    """The name of a package as all spellings of it have it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _parsed(requirement: str) -> Any:
    from packaging.requirements import Requirement

    return Requirement(requirement)
