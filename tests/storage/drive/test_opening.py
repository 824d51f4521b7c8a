"""Who is logged in, and which folders they may use as a root."""

from __future__ import annotations

import json
from pathlib import Path

import google.auth.credentials
import google.auth.exceptions
import google.oauth2.credentials
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.oauth2 import service_account

from driverun.errors import StoreAccessDenied, UsageError
from driverun.storage.drive.auth import SCOPES, FixedToken
from driverun.storage.drive.login import keep_login, login_file
from driverun.storage.drive.opening import KEY_VARIABLE, DriveOpening, find_credentials
from driverun.storage.locate import DriveFolderAddress
from driverun.testing.clock import FakeClock
from driverun.testing.drive_emulator import DriveEmulator
from tests.storage.drive.emulated import Person

ROBOT = "robot@project.iam.gserviceaccount.com"
LOGIN = {
    "refresh_token": "1//refresh",
    "client_id": "id",
    "client_secret": "secret",
    "token_uri": "https://oauth2.googleapis.com/token",
}


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine on which nobody is logged in to Google in any way."""
    for name in (KEY_VARIABLE, "CLOUDSDK_CONFIG", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")


def written_key(tmp_path: Path, token_uri: str = "https://oauth2.googleapis.com/token") -> Path:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = tmp_path / "key.json"
    content = {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": ROBOT,
        "client_id": "2",
        "token_uri": token_uri,
    }
    file.write_text(json.dumps(content))
    return file


def test_nobody_is_logged_in_and_all_three_ways_in_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        find_credentials({}, home=tmp_path)
    for words in ("authenticate_user", "driverun login", "GOOGLE_APPLICATION_CREDENTIALS"):
        assert words in str(caught.value)


def test_a_stored_login_is_used(tmp_path: Path) -> None:
    keep_login(login_file({}, home=tmp_path), LOGIN)
    found = find_credentials({}, home=tmp_path)
    assert isinstance(found, google.oauth2.credentials.Credentials)
    assert found.refresh_token == "1//refresh"


def test_a_key_file_that_is_named_goes_before_a_stored_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_login(login_file({}, home=tmp_path), LOGIN)
    key = str(written_key(tmp_path))
    monkeypatch.setenv(KEY_VARIABLE, key)
    found = find_credentials({KEY_VARIABLE: key}, home=tmp_path)
    assert isinstance(found, service_account.Credentials)
    assert found.service_account_email == ROBOT
    assert tuple(found.scopes) == SCOPES


def test_what_colab_has_set_up_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    colabs = FixedToken("of the user of the notebook")
    asked: list[object] = []

    def default(*, scopes: list[str], request: object) -> tuple[google.auth.credentials.Credentials, str]:
        asked.append(scopes)
        return colabs, "project"

    monkeypatch.setattr("google.auth.default", default)
    assert find_credentials({}, home=tmp_path) is colabs
    assert asked == [list(SCOPES)]


def opening_of_robot(
    emulator: DriveEmulator,
    clock: FakeClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    folder_id: str,
) -> DriveOpening:
    """How a service account opens a root: its login service and Drive are the emulator's."""
    robot = service_account.Credentials.from_service_account_file(
        str(written_key(tmp_path, f"{emulator.url}/token")), scopes=list(SCOPES)
    )
    monkeypatch.setattr("driverun.storage.drive.opening._emulated_login", lambda environment, endpoint: robot)
    return DriveOpening(
        DriveFolderAddress(folder_id=folder_id),
        environment={"DRIVERUN_DRIVE_ENDPOINT": emulator.url},
        home=tmp_path,
        clock=clock,
        listing_lag_s=0.0,
    )


def test_a_service_account_is_refused_on_a_my_drive(
    emulator: DriveEmulator, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = Person(emulator)
    folder = owner.make_folder("for the robot")
    owner.share(folder, ROBOT)
    with pytest.raises(StoreAccessDenied, match=r"owns no storage.*shared drive.*driverun login"):
        opening_of_robot(emulator, clock, tmp_path, monkeypatch, folder).open()


def test_a_service_account_uses_a_shared_drive(
    emulator: DriveEmulator, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = Person(emulator)
    drive = owner.make_shared_drive("laboratory")
    owner.share(drive, ROBOT, role="fileOrganizer")
    store = opening_of_robot(emulator, clock, tmp_path, monkeypatch, drive).open()
    store.create("runs/a/one.txt", b"1")
    store.replace("runs/a/one.txt", b"2")
    assert store.read("runs/a/one.txt") == b"2"
    store.delete("runs/a/one.txt")
    assert store.list("", recursive=True) == []


def test_a_token_that_runs_out_in_a_long_run_is_renewed(
    emulator: DriveEmulator, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = Person(emulator)
    drive = owner.make_shared_drive("laboratory")
    owner.share(drive, ROBOT, role="fileOrganizer")
    store = opening_of_robot(emulator, clock, tmp_path, monkeypatch, drive).open()
    store.create("record.json", b"0")
    for hour in range(12):
        clock.advance(seconds=3600)
        store.replace("record.json", str(hour).encode())
    assert store.read("record.json") == b"11"
    assert len([each for each in emulator.requests if each.method_id == "token"]) >= 12
