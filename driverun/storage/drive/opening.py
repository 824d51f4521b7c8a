"""From a root's address to its store: who we are, where Drive is, which folder is meant."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import google.auth
import google.auth.credentials
import google.auth.exceptions
import google.oauth2.credentials
from google.oauth2 import service_account

from driverun.clock import Clock
from driverun.errors import RootNotFound, StoreAccessDenied, UsageError
from driverun.storage.base import unseen_for_s
from driverun.storage.drive.auth import SCOPES, SharedTokens, default_request, drive_of
from driverun.storage.drive.client import DriveClient
from driverun.storage.drive.errors import DriveRefusal, Kind, store_errors
from driverun.storage.drive.login import stored_login
from driverun.storage.drive.pacing import TokenBucket
from driverun.storage.drive.remote import RemoteFile, name_key
from driverun.storage.drive.servertime import ServerTime
from driverun.storage.drive.store import LISTING_LAG_S, DriveStore
from driverun.storage.drive.transport import DriveTransport, Tokens, is_loopback
from driverun.storage.locate import DriveFolderAddress, DrivePathAddress

ENDPOINT_VARIABLE = "DRIVERUN_DRIVE_ENDPOINT"  #: an emulator of Drive on this machine
TOKEN_VARIABLE = "DRIVERUN_DRIVE_TOKEN"  #: who one is to the emulator
KEY_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"  #: Google's own; the key file of a service account
EMULATED_TOKEN = "user:person@example.com"
LOOK_S = 5.0  #: between two looks for a folder that is not to be seen
MY_DRIVE = "root"  #: Drive's own name for the top folder of whoever asks

_WAYS_IN = (
    "In Colab, run first: from google.colab import auth; auth.authenticate_user(). On a machine of your own: "
    "driverun login. For a service account on a shared drive, set GOOGLE_APPLICATION_CREDENTIALS to its key file."
)


class DriveOpening:
    """Opens one root. After a TransientStoreError, `open` may be called again: it makes no folder twice."""

    def __init__(
        self,
        address: DrivePathAddress | DriveFolderAddress,
        *,
        environment: Mapping[str, str],
        home: Path,
        clock: Clock,
        listing_lag_s: float = LISTING_LAG_S,
        trusted_authors: frozenset[str] = frozenset(),
    ) -> None:
        """Find out who is logged in; Drive is not asked yet.

        Raises:
            UsageError: nobody is, or the endpoint is not on this machine.
        """
        self._address = address
        self._clock = clock
        self._listing_lag_s = listing_lag_s
        self._trusted_authors = trusted_authors
        credentials, endpoint = find_login(environment, home=home)
        self._is_robot = isinstance(credentials, service_account.Credentials)
        self._time = ServerTime(clock)

        def again() -> google.auth.credentials.Credentials | None:
            with contextlib.suppress(UsageError):
                return find_login(environment, home=home)[0]
            return None

        tokens = SharedTokens(credentials, again=again)
        self._client = open_client(tokens, clock=clock, time=self._time, endpoint=endpoint)
        self._new_folders: dict[tuple[str, str], str] = {}  # ids of folders whose creation may have happened

    def open(self, *, make: bool = False) -> DriveStore:
        """The store of the root.

        Args:
            make: whether the folders of a path are made where they are missing.

        Raises:
            RootNotFound: there is no such folder.
            UsageError: it is a file.
            StoreAccessDenied: it is not to be used by whoever is logged in.
            TransientStoreError: Drive is out of reach.
        """
        with store_errors("open", "", str(self._address)):
            root = self._root(make=make)
            if not root.is_own and root.drive_id is None and root.owner is None:
                root = self._client.get(root.file_id)  # no listing tells of owners
        if not root.is_folder:
            raise UsageError(f"cannot use {self._address} as a root: {root.title} is not a folder. Name one.")
        if self._is_robot and root.drive_id is None:
            raise StoreAccessDenied(
                f"cannot use {self._address} as a root: a service account owns no storage, so it can create no files "
                "in a My Drive, shared with it or not. Use a folder of a shared drive, as gdrive://FOLDER_ID, with "
                "the service account as a member; or log in as a person: driverun login."
            )
        self._client.drive_id = root.drive_id
        return DriveStore(
            self._client,
            root,
            location=str(self._address),
            clock=self._clock,
            time=self._time,
            listing_lag_s=self._listing_lag_s,
            trusted_authors=self._trusted_authors,
        )

    def _root(self, *, make: bool) -> RemoteFile:
        if isinstance(self._address, DrivePathAddress):
            return self._folder_at(self._address.path.split("/"), make=make)
        try:
            return self._client.get(self._address.folder_id)
        except DriveRefusal as exc:
            if exc.kind is not Kind.ABSENT:
                raise
            raise RootNotFound(
                f"cannot open {self._address}: Drive shows this account no such folder: {exc.text}. Look at the id, "
                "and at whether the folder is shared with the account that is logged in."
            ) from exc

    def _folder_at(self, names: Sequence[str], *, make: bool) -> RemoteFile:
        folder, above = None, MY_DRIVE
        # One that was made a moment ago may not be in the listing yet.
        left_s = self._listing_lag_s if make else unseen_for_s(self._listing_lag_s)
        for number, name in enumerate(names):
            found = self._below(above, name)
            while found is None and left_s > 0:
                pause_s = min(left_s, LOOK_S)
                self._clock.sleep(pause_s)
                left_s -= pause_s
                found = self._below(above, name)
            if found is not None:
                folder = found
            elif make:
                folder = self._made(above, name)
            else:
                raise RootNotFound(
                    f"cannot open {self._address}: My Drive has no folder {'/'.join(names[: number + 1])}. "
                    f"Make a root there: driverun init {self._address}"
                )
            above = folder.file_id
        return folder if folder is not None else self._client.get(MY_DRIVE)

    def _below(self, folder_id: str, name: str) -> RemoteFile | None:
        """The oldest folder of that name, written exactly so or in another Unicode form."""
        alike = [
            each
            for each in self._client.children([folder_id], folders_only=True)
            if name_key(each.title) == name_key(name)
        ]
        alike = [each for each in alike if each.title == name] or alike
        return min(alike, key=lambda each: each.age_rank, default=None)

    def _made(self, parent_id: str, name: str) -> RemoteFile:
        folder_id = self._new_folders.get((parent_id, name))
        if folder_id is None:
            folder_id = self._new_folders[parent_id, name] = self._client.ids.take()
        try:
            return self._client.create_folder(folder_id, name, parent_id)
        except DriveRefusal as exc:
            if exc.kind is not Kind.EXISTS:
                raise
            return self._client.get(folder_id)


def open_client(
    tokens: Tokens,
    *,
    clock: Clock,
    time: ServerTime,
    endpoint: str | None = None,
    pacing: TokenBucket | None = None,
) -> DriveClient:
    """PyDrive2 on our transport, ready for calls; nothing is asked yet."""
    transport = DriveTransport(tokens, clock=clock, time=time)
    drive = drive_of(transport, endpoint=endpoint)
    return DriveClient(
        drive.auth.service,
        transport,
        pacing=pacing if pacing is not None else TokenBucket(clock),
        time=time,
    )


def find_login(
    environment: Mapping[str, str], *, home: Path
) -> tuple[google.auth.credentials.Credentials, str | None]:
    """Whoever is logged in, and where Drive is; None: at Google.

    Raises:
        UsageError: nobody is, or the endpoint is not on this machine.
    """
    endpoint = environment.get(ENDPOINT_VARIABLE) or None
    if endpoint is None:
        return find_credentials(environment, home=home), None
    _refuse_elsewhere(endpoint)
    return _emulated_login(environment, endpoint), endpoint


def find_credentials(environment: Mapping[str, str], *, home: Path) -> google.auth.credentials.Credentials:
    """Whoever is logged in here: a key file that is named, else `driverun login`, else what google-auth finds.

    Raises:
        UsageError: nobody is; the message tells the ways in.
    """
    if not environment.get(KEY_VARIABLE):
        login = stored_login(environment, home=home)
        if login is not None:
            return login
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about a quota project, which Drive does not need
            credentials, _ = google.auth.default(scopes=list(SCOPES), request=default_request())
    except google.auth.exceptions.GoogleAuthError as exc:
        raise UsageError(f"cannot use Google Drive: nobody is logged in ({exc}). {_WAYS_IN}") from exc
    return credentials


def _emulated_login(environment: Mapping[str, str], endpoint: str) -> google.auth.credentials.Credentials:
    """Whoever the environment says one is to the emulator, whose tokens name the account."""
    token = environment.get(TOKEN_VARIABLE) or EMULATED_TOKEN
    return google.oauth2.credentials.Credentials(
        token,
        refresh_token=f"refresh:{token.removeprefix('user:')}",
        token_uri=f"{endpoint.rstrip('/')}/token",
        client_id="emulated",
        client_secret="emulated",
    )


def _refuse_elsewhere(endpoint: str) -> None:
    if not (endpoint.startswith("http://") and is_loopback(endpoint)):
        raise UsageError(
            f"cannot use {endpoint} as Drive: {ENDPOINT_VARIABLE} is for an emulator on this machine, as in "
            "http://127.0.0.1:8123. For Google's own Drive, unset it."
        )
