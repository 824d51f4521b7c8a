"""The wheel of the driverun that is running, for machines that are to run the very same.

It is put together from the package's files and the metadata that came with them, whatever it was installed from. A
version alone would not tell a release from a checkout with the changes of today.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from driverun import __version__
from driverun.errors import ObjectExists, UsageError
from driverun.runs.layout import WHEELS
from driverun.storage.base import ObjectInfo, ObjectStore

_PROJECT = "driverun"
_PACKAGE = Path(__file__).resolve().parent.parent
_TOLD = (
    "METADATA",
    "entry_points.txt",
    "licenses/",
)  # of what an installation keeps; the rest is about itself
_FORM = "Wheel-Version: 1.0\nGenerator: driverun\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_DATE = (2020, 2, 2, 0, 0, 0)  # as hatchling's; zip knows none before 1980
_CARRIED = "cronsim"  # no image of Colab has it, and there a wheel is unpacked without what it requires
_NAME = re.compile(rf"{WHEELS}/{_PROJECT}-[^-/]+-0_[0-9a-f]{{16}}-py3-none-any\.whl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A file that pip installs."""

    name: str  #: tells the version and, as the build, the beginning of a digest of what is in it
    content: bytes

    @property
    def path(self) -> str:
        return f"{WHEELS}/{self.name}"


def running_wheel() -> Wheel:
    """The wheel of this process's driverun. Equal files give equal names, wherever and by whatever they were installed.

    Raises:
        UsageError: it is run from a folder, without an installation and without hatchling to read the project's file.
    """
    about = f"{_PROJECT}-{__version__}.dist-info"
    files = {f"{_PROJECT}/{path.relative_to(_PACKAGE).as_posix()}": path.read_bytes() for path in _sources()}
    files |= {f"{about}/{name}": content for name, content in sorted(_told().items())}
    files |= _carried()
    files[f"{about}/WHEEL"] = _FORM.encode()
    record = "".join(f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in files.items())
    files[f"{about}/RECORD"] = f"{record}{about}/RECORD,,\n".encode()
    # Not of the zip: another zlib packs the same files into other bytes.
    digest = hashlib.sha256(record.encode()).hexdigest()[:16]
    return Wheel(name=f"{_PROJECT}-{__version__}-0_{digest}-py3-none-any.whl", content=_zipped(files))


def keep_wheel(store: ObjectStore, wheel: Wheel) -> None:
    """Have `wheel` on the root as the one that machines install; the others stay."""
    kept = kept_wheel(store)
    if kept is not None and kept.path == wheel.path:
        return
    try:
        store.create(wheel.path, wheel.content)
    except ObjectExists:  # an older one is wanted again
        store.replace(wheel.path, wheel.content)


def kept_wheel(store: ObjectStore) -> ObjectInfo | None:
    """The wheel that machines install: that of the last `driverun init`; None before there was one."""
    wheels = [each for each in store.list(WHEELS) if _NAME.fullmatch(each.path)]
    return max(wheels, key=lambda each: (each.modified_at, each.path), default=None)


def _sources() -> list[Path]:
    """The package's files, without what Python and editors leave beside them."""
    return [
        path
        for path in sorted(_PACKAGE.rglob("*"))
        if path.is_file()
        and path.suffix != ".pyc"
        and not any(part.startswith((".", "__pycache__")) for part in path.relative_to(_PACKAGE).parts)
    ]


def _carried() -> Mapping[str, bytes]:
    """The library that goes along, with its licence."""
    found = importlib.util.find_spec(_CARRIED)
    if found is None or found.origin is None:
        raise UsageError(
            f"cannot make the wheel of this driverun: {_CARRIED} is not installed. pip install {_CARRIED}"
        )
    folder = Path(found.origin).parent
    files = {path.name: path for path in (*folder.glob("*.py"), folder / "py.typed", folder / "LICENSE")}
    if not files["LICENSE"].is_file():
        of_it = metadata.distribution(_CARRIED).files or []
        files["LICENSE"] = Path(str(next(file for file in of_it if file.name == "LICENSE").locate()))
    return {f"{_CARRIED}/{name}": path.read_bytes() for name, path in sorted(files.items())}


def _told() -> Mapping[str, bytes]:
    """METADATA and its like. A project's own file goes before what was true when it was installed."""
    if (_PACKAGE.parent / "pyproject.toml").is_file() and importlib.util.find_spec("hatchling") is not None:
        return _told_by_project()
    try:
        installed = metadata.distribution(_PROJECT)
    except metadata.PackageNotFoundError as exc:
        raise UsageError(
            f"cannot make the wheel of this driverun: it runs from {_PACKAGE.parent} without being installed. "
            "Install it, as in pip install DIRECTORY."
        ) from exc
    if installed.version != __version__:
        raise UsageError(
            f"cannot make the wheel of this driverun: {__version__} runs from {_PACKAGE.parent}, but "
            f"{installed.version} is what is installed. Install the one that runs, as in pip install DIRECTORY."
        )
    folder = re.compile(r"[^/]+\.dist-info/(.+)")
    found = ((folder.fullmatch(path.as_posix()), path.locate()) for path in installed.files or ())
    return {
        name[1]: Path(str(file)).read_bytes()
        for name, file in found
        if name is not None and name[1].startswith(_TOLD)
    }


def _told_by_project() -> Mapping[str, bytes]:
    with tempfile.TemporaryDirectory(prefix="driverun-wheel-") as place:
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", place]
        built = subprocess.run(
            command,
            cwd=_PACKAGE.parent,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if built.returncode:
            raise UsageError(
                f"cannot make the wheel of {_PACKAGE.parent}: hatchling failed: {built.stderr.strip()}"
            )
        with zipfile.ZipFile(next(Path(place).glob("*.whl"))) as archive:
            names = {name.partition(".dist-info/")[2]: name for name in archive.namelist()}
            return {short: archive.read(name) for short, name in names.items() if short.startswith(_TOLD)}


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def _zipped(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content)
    return packed.getvalue()
