"""Settings of this machine, from the environment and from a TOML file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from driverun.errors import UsageError
from driverun.spec.units import parse_duration, parse_size

FILE_VARIABLE = "DRIVERUN_CONFIG"  #: another place for the TOML file
FILE = Path(".config/driverun/settings.toml")  #: below the home folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How driverun works here. Each field is read from DRIVERUN_<NAME>, else from the TOML file."""

    workdir: Path  #: where local work goes: spools, working folders, the data cache
    root: str | None = None
    heartbeat_s: float = 10.0  #: between two writes of a record
    lease_s: float = 60.0  #: for how long a record may stand still
    listing_lag_s: float | None = None  #: how old a Drive's listings may be; None: what is usual there
    quiet_s: float = 5.0  #: for how long a job's files have to be unchanged before it is a run
    cache_bytes: int = 20 * 10**9  #: for data
    trusted_authors: frozenset[str] = frozenset()  #: whose code runs here beside that of the root's owner
    python: str | None = None  #: the interpreter of jobs; None: the one that runs driverun

    def __post_init__(self) -> None:
        if self.lease_s < 3 * self.heartbeat_s:
            raise UsageError(
                f"cannot work with a lease of {self.lease_s:g} s and a heartbeat of {self.heartbeat_s:g} s: a lease"
                " is at least three heartbeats. Set DRIVERUN_LEASE or DRIVERUN_HEARTBEAT."
            )


_NAMES: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "workdir": ("workdir", lambda text: Path(text).expanduser()),
    "root": ("root", str),
    "heartbeat": ("heartbeat_s", parse_duration),
    "lease": ("lease_s", parse_duration),
    "listing_lag": ("listing_lag_s", parse_duration),
    "quiet": ("quiet_s", parse_duration),
    "cache": ("cache_bytes", parse_size),
    "python": ("python", lambda text: _program(text)),
    "trusted_authors": ("trusted_authors", lambda text: _authors(text)),
}


def load_settings(environment: Mapping[str, str], *, home: Path) -> Settings:
    """What the environment says, else the TOML file, else the defaults.

    Raises:
        UsageError: the file does not parse, or a value makes no sense; the message names its place.
    """
    values: dict[str, Any] = {}
    file = Path(environment.get(FILE_VARIABLE) or home / FILE)
    for name, text in _from_file(file).items():
        if name not in _NAMES:
            raise UsageError(f"{file}: there is no setting {name!r}; there are {', '.join(_NAMES)}")
        written = ", ".join(map(str, text)) if isinstance(text, list) else str(text)
        values.update(_value(name, written, place=str(file)))
    for name in _NAMES:
        variable = f"DRIVERUN_{name.upper()}"
        if text := environment.get(variable, "").strip():
            values.update(_value(name, text, place=variable))
    cache_home = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
    values.setdefault("workdir", cache_home / "driverun")
    assert set(values) <= {field.name for field in fields(Settings)}
    return Settings(**values)


def _program(text: str) -> str:
    """A name is looked for on PATH; a path has to hold in whatever folder the program is started."""
    return str(Path(text).expanduser().absolute()) if "/" in text or text.startswith("~") else text


def _authors(text: str) -> frozenset[str]:
    """E-mails, or the ids that Drive has for accounts whose e-mail it hides. Raises ValueError."""
    found = {each.lower() for each in re.split(r"[\s,;]+", text) if each}
    for each in sorted(found):
        if not re.fullmatch(r"[^@]+@[^@]+\.[^@]+|[0-9a-z_-]{8,}", each):
            raise ValueError(f"{each!r} is no account; write e-mails with commas between them")
    return frozenset(found)


def _from_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise UsageError(f"cannot read the settings in {file}: {exc}") from exc


def _value(name: str, text: str, *, place: str) -> dict[str, Any]:
    field, parse = _NAMES[name]
    try:
        return {field: parse(text)}
    except ValueError as exc:
        raise UsageError(f"{place}: {name}: {exc}") from exc
