from __future__ import annotations

import json
import random
from datetime import timedelta
from pathlib import Path

import google.oauth2.credentials
import pytest

from driverun.errors import StoreAccessDenied
from driverun.storage.drive.auth import SCOPES
from driverun.storage.drive.checkup import DriveCheckup
from driverun.storage.locate import DriveFolderAddress, DrivePathAddress
from driverun.testing.clock import FakeClock
from driverun.testing.drive_emulator import DriveEmulator
from tests.storage.drive.conftest import ScriptedServer, Told
from tests.storage.drive.emulated import ACCOUNT, Person

MINE = DrivePathAddress(path="experiments")
ONLY_ITS_OWN = "https://www.googleapis.com/auth/drive.file"


@pytest.fixture
def stored(server: ScriptedServer, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> DriveCheckup:
    """A checkup of what `driverun login` stores, with the scripted server for Google's login service."""
    login = google.oauth2.credentials.Credentials(
        None,
        refresh_token="r",
        client_id="c",
        client_secret="s",
        token_uri=server.url,
        scopes=list(SCOPES),
    )
    monkeypatch.setattr(
        "driverun.storage.drive.checkup.find_login", lambda environment, home: (login, server.url)
    )
    return DriveCheckup(MINE, environment={}, home=Path("/nowhere"), clock=clock, random=random.Random(1))


def token(scope: str) -> Told:
    return Told(
        body=json.dumps({"access_token": "t", "expires_in": 3599, "scope": scope}).encode(),
        headers={"Content-Type": "application/json"},
    )


@pytest.mark.parametrize(
    ("granted", "missing"),
    [
        (SCOPES[0], frozenset()),
        (f"{ONLY_ITS_OWN} {SCOPES[0]}", frozenset()),
        (ONLY_ITS_OWN, frozenset(SCOPES)),
    ],
)
def test_what_a_login_does_not_allow_is_read_from_its_renewal(
    stored: DriveCheckup, server: ScriptedServer, granted: str, missing: frozenset[str]
) -> None:
    server.script = lambda asked: token(granted)
    assert stored.missing_scopes() == missing


def test_a_login_that_cannot_be_renewed_is_refused(stored: DriveCheckup, server: ScriptedServer) -> None:
    body = json.dumps({"error": "invalid_grant", "error_description": "Token has been expired or revoked."})
    server.script = lambda asked: Told(
        status=400, body=body.encode(), headers={"Content-Type": "application/json"}
    )
    with pytest.raises(StoreAccessDenied, match="invalid_grant"):
        stored.missing_scopes()


def checkup(emulator: DriveEmulator, clock: FakeClock, folder_id: str | None = None) -> DriveCheckup:
    return DriveCheckup(
        MINE if folder_id is None else DriveFolderAddress(folder_id=folder_id),
        environment={"DRIVERUN_DRIVE_ENDPOINT": emulator.url, "DRIVERUN_DRIVE_TOKEN": f"user:{ACCOUNT}"},
        home=Path("/nowhere"),
        clock=clock,
        random=random.Random(1),
    )


def test_an_account_tells_who_it_is_and_how_full(emulator: DriveEmulator, clock: FakeClock) -> None:
    Person(emulator).make("a file", "root", content=b"12345")
    account = checkup(emulator, clock).account()
    assert (account.email, account.is_robot) == (ACCOUNT, False)
    assert (account.total_bytes, account.used_bytes, account.trash_bytes) == (15 * 10**9, 5, 0)
    emulator.settings.quota_gb = 0
    assert checkup(emulator, clock).account().total_bytes is None


def test_the_time_is_drives(emulator: DriveEmulator, clock: FakeClock) -> None:
    asked = checkup(emulator, FakeClock(clock.now() + timedelta(days=1)))
    asked.account()
    assert abs(asked.now() - clock.now()) <= timedelta(seconds=1)


def test_a_folder_of_a_shared_drive_is_known_for_it(emulator: DriveEmulator, clock: FakeClock) -> None:
    person = Person(emulator)
    assert not checkup(emulator, clock, person.make_folder("mine")).is_on_shared_drive()
    assert not checkup(emulator, clock).is_on_shared_drive()
    assert checkup(emulator, clock, person.make_shared_drive("laboratory")).is_on_shared_drive()
