"""What a login is worth, asked of Google one question at a time."""

from __future__ import annotations

import random as random_module
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from driverun.clock import Clock
from driverun.storage.drive.auth import SCOPES, SharedTokens, drive_of
from driverun.storage.drive.errors import foreign_errors, store_errors
from driverun.storage.drive.opening import find_login
from driverun.storage.drive.servertime import ServerTime
from driverun.storage.drive.transport import DriveTransport
from driverun.storage.locate import DriveFolderAddress, DrivePathAddress
from driverun.storage.retrying import persist

PATIENCE_S = 15.0  #: for one question; whoever asks is waiting

_ROBOTS = ".iam.gserviceaccount.com"
_ABOUT = "user(emailAddress),quotaType,quotaBytesTotal,quotaBytesUsedAggregate,quotaBytesUsedInTrash"

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who is logged in, and what they have."""

    email: str
    total_bytes: int | None  #: None: no limit
    used_bytes: int  #: by Drive, Gmail and Photos together, which share the limit
    trash_bytes: int

    @property
    def is_robot(self) -> bool:
        """Is it a service account, which owns no storage?"""
        return self.email.endswith(_ROBOTS)


class DriveCheckup:
    """Asks with the login that a root of this address would be opened with. Every question raises StoreErrors."""

    def __init__(
        self,
        address: DrivePathAddress | DriveFolderAddress,
        *,
        environment: Mapping[str, str],
        home: Path,
        clock: Clock,
        random: random_module.Random,
    ) -> None:
        """Find the login; nothing is asked yet.

        Raises:
            UsageError: nobody is logged in here.
        """
        self._address = address
        self._clock = clock
        self._random = random
        self._credentials, endpoint = find_login(environment, home=home)
        self._tokens = SharedTokens(self._credentials)
        self._time = ServerTime(clock)
        transport = DriveTransport(self._tokens, clock=clock, time=self._time)
        self._service = drive_of(transport, endpoint=endpoint).auth.service

    def missing_scopes(self) -> frozenset[str]:
        """Have the login renewed, which shows that it lasts; gives what was not allowed of what driverun needs.

        A login that does not say what it is allowed is believed; Drive's answers will tell.
        """
        self._ask("renew the login for", lambda: self._tokens.renew(self._tokens.token()))
        granted = getattr(self._credentials, "granted_scopes", None)
        return frozenset(SCOPES) - frozenset(granted) if granted else frozenset()

    def account(self) -> Account:
        """Who is logged in, and how full their Drive is."""

        def read() -> Account:
            about = self._service.about().get(fields=_ABOUT).execute()
            has_limit = about.get("quotaType") != "UNLIMITED" and "quotaBytesTotal" in about
            return Account(
                email=str(about["user"]["emailAddress"]),
                total_bytes=int(about["quotaBytesTotal"]) if has_limit else None,
                used_bytes=int(about.get("quotaBytesUsedAggregate", 0)),
                trash_bytes=int(about.get("quotaBytesUsedInTrash", 0)),
            )

        return self._ask("read the account of", read)

    def now(self) -> datetime:
        """Drive's clock, by the answers so far; `account` has to have had one."""
        return self._time.now()

    def is_on_shared_drive(self) -> bool:
        """Does the root lie on a shared drive, whose storage is not the account's?"""
        if isinstance(self._address, DrivePathAddress):
            return False
        folder_id = self._address.folder_id

        def read() -> Mapping[str, Any]:
            request = self._service.files().get(fileId=folder_id, supportsAllDrives=True, fields="driveId")
            found: Mapping[str, Any] = request.execute()
            return found

        return bool(self._ask("look at", read).get("driveId"))

    def _ask(self, action: str, ask: Callable[[], T]) -> T:
        def attempt() -> T:
            with store_errors(action, "", str(self._address)), foreign_errors():
                return ask()

        return persist(
            attempt,
            what=f"{action} {self._address}",
            clock=self._clock,
            random=self._random,
            budget_s=PATIENCE_S,
        )
