"""What `driverun doctor` finds on roots of Drive, and that it leaves nothing there."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from driverun.assembly import Surroundings, make_root
from driverun.cli.main import EXIT_NO, EXIT_UNREACHABLE, main
from driverun.launchers.doctor import Finding, examine
from driverun.storage.drive.opening import ENDPOINT_VARIABLE, TOKEN_VARIABLE
from driverun.testing.clock import FakeClock
from driverun.testing.drive_emulator import DriveEmulator, Fault

ROOT = "gdrive:experiments"
PERSON = "person@example.com"
ROBOT = "robot@project.iam.gserviceaccount.com"
ABOUT_DRIVE = ("login", "scopes", "clock", "quota", "root", "round trip", "write rate")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A machine and a Drive with a root."""

    emulator: DriveEmulator
    here: Surroundings

    def faults(self, root: str = ROOT) -> dict[str, Finding]:
        """The faults that concern the root, by subject."""
        return {each.subject: each for each in examine(root, self.here) if each.is_fault}

    def left_behind(self) -> list[str]:
        """What lies on the Drive that a root does not hold, the trash included."""
        return [each.title for each in self.emulator.files() if each.title.startswith("probe")]


SceneAt = Callable[..., Scene]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def emulator(tmp_path: Path, clock: FakeClock) -> Iterator[DriveEmulator]:
    with DriveEmulator(tmp_path / "drive", clock=clock) as emulator:
        yield emulator


@pytest.fixture
def scene_at(emulator: DriveEmulator, clock: FakeClock, tmp_path: Path) -> SceneAt:
    def make(*, account: str = PERSON, clock: FakeClock = clock, url: str = emulator.url) -> Scene:
        environment = {
            ENDPOINT_VARIABLE: url,
            TOKEN_VARIABLE: f"user:{account}",
            "DRIVERUN_WORKDIR": str(tmp_path / "work"),
        }
        here = Surroundings(environment=environment, cwd=tmp_path, home=tmp_path, clock=clock)
        return Scene(emulator=emulator, here=here)

    return make


@pytest.fixture
def scene(scene_at: SceneAt) -> Scene:
    scene = scene_at()
    make_root(ROOT, scene.here)
    return scene


def test_a_good_root_is_fine_and_stays_as_it_is(scene: Scene) -> None:
    before = scene.emulator.files()
    found = examine(ROOT, scene.here)
    assert [each for each in found if each.is_fault] == []
    assert [each.subject for each in found][-len(ABOUT_DRIVE) :] == list(ABOUT_DRIVE)
    told = {each.subject: each.message for each in found}
    assert told["login"] == f"{PERSON}; it can be renewed"
    assert told["quota"] == "15.0 GB free, of 15.0 GB for Drive, Gmail and Photos together"
    assert [each.title for each in scene.emulator.files()] == [each.title for each in before]


def test_a_token_that_has_expired_is_renewed(scene: Scene) -> None:
    scene.emulator.expire_tokens()
    assert scene.faults() == {}


def test_a_login_that_was_revoked_has_to_be_made_anew(scene: Scene) -> None:
    scene.emulator.revoke(f"refresh:{PERSON}")
    faults = scene.faults()
    assert list(faults) == ["login"]
    assert "the login was not renewed" in faults["login"].message
    assert "`driverun login`" in faults["login"].message
    assert "publish the app" in faults["login"].remedy


def test_a_revoked_login_is_seen_while_its_token_is_still_good(scene: Scene) -> None:
    scene.emulator.revoke(f"refresh:{PERSON}")
    assert scene.emulator.requests.count("drive.about.get") == 0
    assert "login" in scene.faults()


def test_a_login_without_drive_has_to_allow_it(scene: Scene) -> None:
    scene.emulator.faults.add(Fault(kind="status:403:insufficientPermissions", method="drive.*", times=None))
    faults = scene.faults()
    assert list(faults) == ["scopes"]
    assert "the login does not cover Drive" in faults["scopes"].message
    assert faults["scopes"].remedy == "driverun login, and tick the box for Google Drive"


def test_a_drive_that_is_nearly_full_says_what_the_trash_holds(scene: Scene) -> None:
    scene.emulator.settings.quota_gb = 1.5
    faults = scene.faults()
    assert list(faults) == ["quota"]
    assert faults["quota"].message.startswith("1.5 GB free, of 1.5 GB")
    assert faults["quota"].remedy.startswith("empty the trash, which holds 0 B")


def test_a_full_drive_is_said_and_nothing_is_left(scene: Scene) -> None:
    scene.emulator.settings.quota_gb = 1e-9
    faults = scene.faults()
    assert list(faults) == ["quota", "round trip"]
    assert faults["quota"].message.startswith("Drive is full")
    assert "Free space (the trash counts too)" in faults["round trip"].message
    assert scene.left_behind() == []


@pytest.mark.parametrize(("hours", "direction"), [(1, "3600 s ahead of"), (-1, "3600 s behind")])
def test_a_clock_an_hour_off_is_to_be_set(
    scene: Scene, scene_at: SceneAt, clock: FakeClock, hours: int, direction: str
) -> None:
    faults = scene_at(clock=FakeClock(clock.now() + timedelta(hours=hours))).faults()
    assert list(faults) == ["clock"]
    assert faults["clock"].message == f"this machine's is {direction} Drive's"
    assert "timedatectl" in faults["clock"].remedy


def test_a_clock_a_minute_off_is_no_fault(scene: Scene, scene_at: SceneAt, clock: FakeClock) -> None:
    assert scene_at(clock=FakeClock(clock.now() + timedelta(minutes=1))).faults() == {}


def test_a_service_account_cannot_use_a_my_drive(scene: Scene, scene_at: SceneAt) -> None:
    robot = scene_at(account=ROBOT)
    faults = robot.faults()
    assert f"{ROBOT} is a service account: it owns no storage" in faults["quota"].message
    assert "a shared drive, as gdrive://FOLDER_ID" in faults["quota"].remedy


def test_writing_that_takes_too_long_is_said(scene: Scene) -> None:
    scene.emulator.settings.latency_ms = 3000
    faults = scene.faults()
    assert list(faults) == ["write rate"]
    assert faults["write rate"].message.startswith("10 writes, one after the other, in 3")
    assert scene.left_behind() == []


def test_who_may_only_read_is_told_at_the_first_write(scene: Scene) -> None:
    scene.emulator.faults.add(
        Fault(kind="status:403:insufficientFilePermissions", method="drive.files.insert", skip=2, times=None)
    )
    faults = scene.faults()
    assert list(faults) == ["round trip"]
    assert faults["round trip"].remedy == f"have {ROOT} shared with you as an editor"
    assert scene.left_behind() == []


@pytest.mark.parametrize("kind", ["drop", "status:503", "html"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_passes_is_no_fault_and_leaves_nothing(scene: Scene, kind: str, when: str) -> None:
    for method in ("drive.about.get", "drive.files.insert", "drive.files.delete", "token"):
        scene.emulator.faults.add(Fault(kind=kind, method=method, when=when))
    assert scene.faults() == {}
    assert scene.left_behind() == []


def test_a_root_that_is_none_is_to_be_made(scene: Scene) -> None:
    faults = scene.faults("gdrive:elsewhere")
    assert list(faults) == ["root"]
    assert "driverun init gdrive:elsewhere" in faults["root"].message


def closed_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_drive_out_of_reach_is_no_verdict(scene_at: SceneAt, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = scene_at(url=closed_port())
    monkeypatch.setattr("driverun.assembly.Surroundings.here", lambda: scene.here)
    result = CliRunner().invoke(main, ["--root", ROOT, "doctor"])
    assert result.exit_code == EXIT_UNREACHABLE
    assert "Connection refused. Trying again is safe" in result.stdout
    assert "then try later" in result.stdout
    assert "python" in result.stdout


def test_the_command_says_no_where_there_is_a_fault(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driverun.assembly.Surroundings.here", lambda: scene.here)
    assert CliRunner().invoke(main, ["--root", ROOT, "doctor"]).exit_code == 0
    scene.emulator.settings.quota_gb = 1
    assert CliRunner().invoke(main, ["--root", ROOT, "doctor"]).exit_code == EXIT_NO
