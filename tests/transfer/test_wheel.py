from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

import driverun
from driverun.storage.memory import MemoryStore
from driverun.testing.clock import FakeClock
from driverun.transfer.wheel import Wheel, keep_wheel, kept_wheel, running_wheel

PRINT_NAME = "from driverun.transfer.wheel import running_wheel; print(running_wheel().name)"


@pytest.fixture(scope="module")
def wheel() -> Wheel:
    return running_wheel()


@pytest.fixture
def wheel_file(wheel: Wheel, tmp_path: Path) -> Path:
    file = tmp_path / wheel.name
    file.write_bytes(wheel.content)
    return file


def python(
    *arguments: str, path: Path, cwd: Path, options: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run an interpreter that finds driverun in `path`."""
    return subprocess.run(
        [sys.executable, *options, *arguments],
        env={**os.environ, "PYTHONPATH": str(path)},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_holds_the_package_and_what_it_requires(wheel_file: Path) -> None:
    with zipfile.ZipFile(wheel_file) as archive:
        names = set(archive.namelist())
        about = f"driverun-{driverun.__version__}.dist-info"
        told = archive.read(f"{about}/METADATA").decode()
        assert "driverun = driverun.cli:main" in archive.read(f"{about}/entry_points.txt").decode()
    package = Path(driverun.__file__).parent
    assert {f"driverun/{file.relative_to(package)}" for file in package.rglob("*.py")} <= names
    assert {"driverun/py.typed", f"{about}/licenses/LICENSE"} <= names
    assert not any("__pycache__" in name or name.endswith(".pyc") for name in names)
    assert f"Version: {driverun.__version__}\n" in told
    assert "Requires-Dist: click>=8.1\n" in told
    assert "pydrive2" in told


def test_it_brings_what_no_image_of_colab_has(wheel_file: Path, tmp_path: Path) -> None:
    place = tmp_path / "unpacked"
    with zipfile.ZipFile(wheel_file) as archive:
        archive.extractall(place, [name for name in archive.namelist() if name.startswith("cronsim/")])
    told = python("-c", "import cronsim; print(cronsim.__file__)", path=place, cwd=tmp_path, options=["-S"])
    assert told.stdout == f"{place}/cronsim/__init__.py\n", told.stderr
    assert "Redistribution" in (place / "cronsim" / "LICENSE").read_text()


def test_its_record_is_true(wheel_file: Path) -> None:
    with zipfile.ZipFile(wheel_file) as archive:
        record = archive.read(f"driverun-{driverun.__version__}.dist-info/RECORD").decode()
        lines = [line.rsplit(",", 2) for line in record.splitlines()]
        assert [name for name, _, _ in lines] == archive.namelist()
        for name, digest, size in lines[:-1]:
            content = archive.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            assert (digest, size) == (f"sha256={expected}", str(len(content)))


def test_it_is_the_same_every_time(wheel: Wheel) -> None:
    assert running_wheel() == wheel


def test_pip_installs_it_and_what_was_installed_makes_it_again(
    wheel: Wheel, wheel_file: Path, tmp_path: Path
) -> None:
    pytest.importorskip(
        "pip", reason="this environment was made without pip; make colab installs the wheel too"
    )
    place = tmp_path / "installed"
    options = ("--no-deps", "--no-index", "--disable-pip-version-check", "--target", str(place))
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", *options, str(wheel_file)], check=True, cwd=tmp_path
    )
    started = python(str(place / "bin" / "driverun"), "--version", path=place, cwd=tmp_path)
    assert started.stdout == f"driverun, version {driverun.__version__}\n", started.stderr
    again = python("-c", PRINT_NAME, path=place, cwd=tmp_path)
    assert again.stdout == f"{wheel.name}\n", again.stderr


def test_without_an_installation_it_is_said_what_to_do(wheel_file: Path, tmp_path: Path) -> None:
    place = tmp_path / "bare"
    with zipfile.ZipFile(wheel_file) as archive:
        archive.extractall(place, [name for name in archive.namelist() if name.startswith("driverun/")])
    told = python("-c", PRINT_NAME, path=place, cwd=tmp_path, options=["-S"])
    assert told.returncode == 1
    assert f"it runs from {place} without being installed. Install it" in told.stderr


def test_of_another_version_that_is_installed_no_wheel_is_made(wheel_file: Path, tmp_path: Path) -> None:
    place = tmp_path / "bare"
    with zipfile.ZipFile(wheel_file) as archive:
        archive.extractall(place)
    about = place / f"driverun-{driverun.__version__}.dist-info"
    told = (about / "METADATA").read_text(encoding="utf-8")
    (about / "METADATA").write_text(
        told.replace(f"Version: {driverun.__version__}\n", "Version: 0.0.1\n"), encoding="utf-8"
    )
    result = python("-c", PRINT_NAME, path=place, cwd=tmp_path, options=["-S"])
    assert result.returncode == 1
    assert "but 0.0.1 is what is installed" in result.stderr


def made_up(build: str) -> Wheel:
    return Wheel(name=f"driverun-0.1.0-0_{build * 16}-py3-none-any.whl", content=build.encode())


def test_a_root_keeps_the_wheel_of_the_last_init() -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    assert kept_wheel(store) is None
    for build in ("b", "a", "a", "b"):
        clock.advance(seconds=60)
        keep_wheel(store, made_up(build))
        kept = kept_wheel(store)
        assert kept is not None
        assert kept.path == made_up(build).path
        assert store.read(kept.path) == build.encode()
    assert len(store.list(".driverun/wheels")) == 2


def test_what_else_lies_among_the_wheels_is_not_installed() -> None:
    store = MemoryStore(clock=FakeClock())
    store.create(".driverun/wheels/driverun-9.9.9-py3-none-any.whl", b"of somebody")
    assert kept_wheel(store) is None
