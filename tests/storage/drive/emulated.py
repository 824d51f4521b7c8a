"""Roots on an emulated Drive, for the tests of this folder."""

from __future__ import annotations

import random
from pathlib import Path

from googleapiclient.http import MediaInMemoryUpload

from driverun.storage.drive.auth import FixedToken, SharedTokens, drive_of
from driverun.storage.drive.opening import ENDPOINT_VARIABLE, TOKEN_VARIABLE, DriveOpening, open_client
from driverun.storage.drive.remote import FOLDER, SHORTCUT
from driverun.storage.drive.servertime import ServerTime
from driverun.storage.drive.store import DriveStore
from driverun.storage.locate import DriveFolderAddress, DrivePathAddress
from driverun.storage.retrying import RetryingStore, persist
from driverun.testing.clock import FakeClock
from driverun.testing.drive_emulator import DriveEmulator

ACCOUNT = "person@example.com"


def drive_root(
    emulator: DriveEmulator,
    clock: FakeClock,
    *,
    path: str = "experiments/of mine",
    folder_id: str | None = None,
    account: str = ACCOUNT,
    make: bool = True,
    listing_lag_s: float = 0.0,
) -> DriveStore:
    """A store of its own, as another process would have it."""
    address: DrivePathAddress | DriveFolderAddress = (
        DrivePathAddress(path=path) if folder_id is None else DriveFolderAddress(folder_id=folder_id)
    )
    opening = DriveOpening(
        address,
        environment={ENDPOINT_VARIABLE: emulator.url, TOKEN_VARIABLE: f"user:{account}"},
        home=Path("/nowhere"),
        clock=clock,
        listing_lag_s=listing_lag_s,
    )
    return persist(
        lambda: opening.open(make=make), what="open", clock=clock, random=random.Random(1), budget_s=1e6
    )


def patient(store: DriveStore, clock: FakeClock, *, seed: int = 1, budget_s: float = 1e6) -> RetryingStore:
    return RetryingStore(store, clock=clock, random=random.Random(seed), budget_s=budget_s)


class Person:
    """Somebody with a browser: does to a Drive what driverun never does."""

    def __init__(self, emulator: DriveEmulator, account: str = ACCOUNT) -> None:
        clock = FakeClock()
        client = open_client(
            SharedTokens(FixedToken(f"user:{account}")),
            clock=clock,
            time=ServerTime(clock),
            endpoint=emulator.url,
        )
        self._service = drive_of(client.transport, endpoint=emulator.url).auth.service
        self._emulator = emulator

    def make(
        self, title: str, parent_id: str, *, mime_type: str = "text/plain", content: bytes | None = None
    ) -> str:
        """A file with `content`, or something without bytes; its id."""
        body = {"title": title, "parents": [{"id": parent_id}], "mimeType": mime_type}
        files = self._service.files()
        if content is None:
            return str(files.insert(body=body, supportsAllDrives=True).execute()["id"])
        media = MediaInMemoryUpload(content, mimetype=mime_type, resumable=True)
        return str(files.insert(body=body, media_body=media, supportsAllDrives=True).execute()["id"])

    def make_folder(self, title: str, parent_id: str = "root") -> str:
        return self.make(title, parent_id, mime_type=FOLDER)

    def make_shortcut(self, title: str, parent_id: str, target_id: str) -> str:
        body = {
            "title": title,
            "parents": [{"id": parent_id}],
            "mimeType": SHORTCUT,
            "shortcutDetails": {"targetId": target_id},
        }
        return str(self._service.files().insert(body=body).execute()["id"])

    def change(self, file_id: str, content: bytes) -> None:
        media = MediaInMemoryUpload(content, mimetype="text/plain", resumable=True)
        self._service.files().update(fileId=file_id, media_body=media).execute()

    def rename(self, file_id: str, title: str) -> None:
        self._service.files().patch(fileId=file_id, body={"title": title}).execute()

    def move(self, file_id: str, *, away_from: str, into: str) -> None:
        self._service.files().patch(fileId=file_id, addParents=into, removeParents=away_from).execute()

    def trash(self, file_id: str) -> None:
        self._service.files().trash(fileId=file_id).execute()

    def untrash(self, file_id: str) -> None:
        self._service.files().untrash(fileId=file_id).execute()

    def delete(self, file_id: str) -> None:
        self._service.files().delete(fileId=file_id).execute()

    def share(self, file_id: str, account: str, *, role: str = "writer") -> None:
        body = {"type": "user", "role": role, "value": account}
        self._service.permissions().insert(
            fileId=file_id, body=body, sendNotificationEmails=False, supportsAllDrives=True
        ).execute()

    def unshare(self, file_id: str) -> None:
        """Nobody but the owner sees it any more."""
        permissions = self._service.permissions()
        for each in permissions.list(fileId=file_id).execute()["items"]:
            if each["role"] != "owner":
                permissions.delete(fileId=file_id, permissionId=each["id"]).execute()

    def children(self, folder_id: str) -> list[str]:
        found = self._service.files().list(q=f"'{folder_id}' in parents").execute()
        return [str(each["id"]) for each in found["items"]]

    def make_shared_drive(self, name: str) -> str:
        return str(self._service.drives().insert(requestId=name, body={"name": name}).execute()["id"])


def id_of(emulator: DriveEmulator, title: str) -> str:
    """The id of the only thing of that name."""
    [found] = [each.id for each in emulator.files() if each.title == title]
    return found


class Counted:
    """Which requests a piece of work costs: `with Counted(emulator) as cost: ...`, then `cost.methods`."""

    def __init__(self, emulator: DriveEmulator) -> None:
        self._emulator = emulator
        self._before = 0
        self.methods: list[str] = []

    def __enter__(self) -> Counted:
        self._before = len(list(self._emulator.requests))
        return self

    def __exit__(self, *_: object) -> None:
        since = list(self._emulator.requests)[self._before :]
        self.methods = [each.method_id.removeprefix("drive.") for each in since]
