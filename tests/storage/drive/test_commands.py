"""Commands on a root of Drive do what they do on a local one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from driverun.cli.main import EXIT_UNREACHABLE, EXIT_USAGE, main
from driverun.errors import UsageError
from driverun.testing.drive_emulator import DriveEmulator, Fault
from driverun.transfer.wheel import running_wheel
from tests.storage.drive.emulated import Counted, id_of

Shell = Callable[..., Result]


@pytest.fixture
def real_time_emulator(tmp_path: Path) -> Iterator[DriveEmulator]:
    """A Drive for commands, which take the machine's own time."""
    with DriveEmulator(tmp_path / "drive") as emulator:
        yield emulator


@pytest.fixture
def shell(real_time_emulator: DriveEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setattr("driverun.clock.SystemClock.sleep", lambda self, seconds: None)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    environment = {
        "HOME": str(home),
        "DRIVERUN_ROOT": "",
        "DRIVERUN_WORKDIR": str(home / "work"),
        "DRIVERUN_DRIVE_ENDPOINT": real_time_emulator.url,
    }
    return lambda *arguments: CliRunner().invoke(main, arguments, env=environment)


def job_at(folder: Path) -> Path:
    folder.mkdir()
    (folder / "job.yaml").write_text("entrypoint: train.py\n")
    (folder / "train.py").write_text("print('trained')\n")
    return folder


def test_a_root_is_made_filled_and_looked_at(
    shell: Shell, real_time_emulator: DriveEmulator, tmp_path: Path
) -> None:
    made = shell("init", "gdrive:experiments/mine")
    assert (made.exit_code, made.stdout) == (0, "gdrive:experiments/mine is a driverun root now\n")
    assert shell("init", "gdrive:experiments/mine").stdout == "gdrive:experiments/mine is a driverun root\n"
    assert [each.title for each in real_time_emulator.files()].count("root.json") == 1
    data = tmp_path / "data.csv"
    data.write_text("1,2\n")
    root = ("--root", "gdrive:experiments/mine")
    assert shell(*root, "upload", str(data), "data/").exit_code == 0
    again = shell(*root, "upload", str(data), "data/")
    assert again.exit_code == 0
    assert " 0 sent" in again.stdout
    submitted = shell(*root, "submit", str(job_at(tmp_path / "first")))
    assert submitted.exit_code == 0, submitted.output
    by_id = f"gdrive://{id_of(real_time_emulator, 'mine')}"
    [run] = json.loads(shell("--root", by_id, "status", "--json").stdout)
    assert run["run_id"] == submitted.stdout.strip()
    assert run["state"] == "QUEUED"
    assert shell("--root", by_id, "cancel", run["run_id"]).exit_code == 0
    [run] = json.loads(shell(*root, "status", "--json").stdout)
    assert run["state"] == "CANCELLED"


def test_a_root_keeps_the_driverun_that_made_it(shell: Shell, real_time_emulator: DriveEmulator) -> None:
    wheel = running_wheel()
    made = shell("init", "gdrive:experiments")
    assert f"install: {wheel.path}" in made.stderr
    assert "$schema" not in made.stderr, "no editor opens gdrive:"
    assert shell("init", "gdrive:experiments").exit_code == 0
    [kept] = [each for each in real_time_emulator.files() if each.title.endswith(".whl")]
    assert kept.title == wheel.name
    assert real_time_emulator.content(kept.id) == wheel.content


def test_a_root_is_made_without_a_wheel_where_none_can_be(
    shell: Shell, real_time_emulator: DriveEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise UsageError("cannot make the wheel of this driverun: it is not installed. Install it.")

    monkeypatch.setattr("driverun.transfer.wheel.running_wheel", refuse)
    made = shell("init", "gdrive:experiments")
    assert made.exit_code == 0
    assert "no wheel is there for Colab: cannot make" in made.stderr
    assert not any(each.title.endswith(".whl") for each in real_time_emulator.files())


def test_a_root_that_is_none_says_how_to_make_one(shell: Shell) -> None:
    result = shell("--root", "gdrive:experiments", "status")
    assert result.exit_code == EXIT_USAGE
    assert "driverun init gdrive:experiments" in result.stderr


def test_a_root_made_a_moment_ago_is_found_though_listings_lag(
    real_time_emulator: DriveEmulator, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep(self: object, seconds: float) -> None:
        real_time_emulator.settings.listing_lag_s = 0.0 if seconds >= 5.0 else 3600.0

    assert shell("init", "gdrive:experiments").exit_code == 0
    for command in (("--root", "gdrive:experiments", "status"), ("init", "gdrive:experiments")):
        real_time_emulator.settings.listing_lag_s = 3600.0
        monkeypatch.setattr("driverun.clock.SystemClock.sleep", sleep)
        result = shell(*command)
        assert result.exit_code == 0, result.output
    assert [each.title for each in real_time_emulator.files()].count("experiments") == 1


def test_the_status_of_a_root_is_a_handful_of_requests(
    shell: Shell, real_time_emulator: DriveEmulator
) -> None:
    shell("init", "gdrive:experiments")
    with Counted(real_time_emulator) as cost:
        assert shell("--root", "gdrive:experiments", "status").exit_code == 0
    assert len(cost.methods) <= 10, cost.methods


def test_a_login_that_is_refused_says_what_to_do(shell: Shell, real_time_emulator: DriveEmulator) -> None:
    real_time_emulator.faults.add(Fault(kind="status:401", method="drive.*", times=None))
    result = shell("--root", "gdrive:experiments", "status")
    assert "driverun login" in result.stderr
    assert result.exit_code not in (0, EXIT_UNREACHABLE)


def test_without_the_extra_it_is_said_what_to_install(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "driverun.storage.drive.opening", raising=False)
    monkeypatch.delattr("driverun.storage.drive.opening", raising=False)
    monkeypatch.setitem(sys.modules, "google.oauth2", None)
    result = shell("--root", "gdrive:experiments", "status")
    assert result.exit_code == EXIT_USAGE
    assert "pip install 'driverun[drive]'" in result.stderr


def test_logging_in_for_the_first_time_needs_a_client_file(shell: Shell) -> None:
    result = shell("login")
    assert result.exit_code == EXIT_USAGE
    assert "driverun login --client-file client.json" in result.stderr


def test_logging_in_with_another_kind_of_file_is_refused(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    file.write_text('{"type": "service_account"}')
    result = shell("login", "--client-file", str(file))
    assert result.exit_code == EXIT_USAGE
    assert "GOOGLE_APPLICATION_CREDENTIALS" in result.stderr
