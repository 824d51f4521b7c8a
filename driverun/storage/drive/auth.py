"""Who we are to Drive: google-auth's credentials, worn by PyDrive2.

PyDrive2's own flow is oauth2client's, which is archived: it cannot sign with a current pyOpenSSL, and in Colab it
asks for a client file after the first hour. Here google-auth does all of it, and PyDrive2 gets a credential that is
never expired, because the transport renews the token.
"""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Callable
from typing import Any

import google.auth.credentials
import google.auth.exceptions
import google.auth.transport
import google.auth.transport.urllib3
from googleapiclient.discovery import build_from_document
from googleapiclient.discovery_cache import get_static_doc
from googleapiclient.model import JsonModel
from pydantic_core import from_json

with warnings.catch_warnings():  # of oauth2client, which is as old as they say
    warnings.simplefilter("ignore", DeprecationWarning)
    from pydrive2.auth import GoogleAuth
    from pydrive2.drive import GoogleDrive

from driverun.storage.drive.transport import Connections, DriveTransport

SCOPES = ("https://www.googleapis.com/auth/drive",)

#: What google-auth calls to send a request; made anew for every renewal.
RequestFactory = Callable[[], google.auth.transport.Request]


class SharedTokens:
    """The tokens of one credential, renewed by one thread while the others wait."""

    def __init__(
        self,
        credentials: google.auth.credentials.Credentials,
        *,
        request: RequestFactory | None = None,
        again: Callable[[], google.auth.credentials.Credentials | None] = lambda: None,
    ) -> None:
        """Serve `credentials`.

        Args:
            again: whoever is logged in by now, when these are not renewed any more: somebody may have logged in anew.
            request: sends what renewing needs; by default over a pool with timeouts and without resends.
        """
        self._credentials = credentials
        self._request = request if request is not None else default_request
        self._again = again
        self._turn = threading.Lock()

    @property
    def paying_project(self) -> str | None:
        return getattr(self._credentials, "quota_project_id", None)

    def token(self) -> str:
        """A valid token, renewed some minutes before it expires.

        Raises:
            google.auth.exceptions.GoogleAuthError: there is none to be had.
        """
        if not self._credentials.valid:
            with self._turn:
                if not self._credentials.valid:
                    self._renew()
        return str(self._credentials.token)

    def renew(self, refused: str) -> str:
        """Another token than `refused`; that of another thread, if it was quicker."""
        with self._turn:
            if self._credentials.token in (None, refused):
                self._renew()
            return str(self._credentials.token)

    def _renew(self) -> None:
        try:
            self._credentials.refresh(self._request())
        except google.auth.exceptions.RefreshError:
            fresh = self._again()
            if fresh is None:
                raise
            if fresh.token in (None, self._credentials.token):
                fresh.refresh(self._request())
            self._credentials = fresh


def default_request() -> google.auth.transport.Request:
    """A sender for google-auth, as careful as the one for Drive."""
    return google.auth.transport.urllib3.Request(Connections())


class FixedToken(google.auth.credentials.Credentials):
    """A token that was given once and cannot be renewed, for an emulator."""

    def __init__(self, token: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.token = token

    def refresh(self, request: object) -> None:  # noqa: ARG002 - the signature is google-auth's
        raise google.auth.exceptions.RefreshError("the token is refused, and it is a fixed one")


class _NeverExpired:
    """What PyDrive2 takes for a credential of oauth2client; the transport does the work."""

    access_token_expired = False
    invalid = False
    refresh_token = None

    def authorize(self, http: DriveTransport) -> DriveTransport:
        return http

    def refresh(self, http: object) -> None:
        """Nothing is to be done: the transport renews."""

    def set_store(self, store: object) -> None:
        """Nothing is kept: google-auth's credentials have places of their own."""


class _QuickJson(JsonModel):  # type: ignore[misc]
    """googleapiclient's model of answers, read at half the cost: the pages of a large folder are megabytes."""

    def deserialize(self, content: bytes) -> Any:
        try:
            return from_json(content, cache_strings="keys")
        except ValueError:  # Python's own reader is more lenient, and takes what is no JSON for text
            return super().deserialize(content)


class DriveAuth(GoogleAuth):  # type: ignore[misc]
    """PyDrive2's GoogleAuth, over our transport and google-auth's credentials."""

    def __init__(self, transport: DriveTransport, *, endpoint: str | None = None) -> None:
        """Be ready to build the service.

        Args:
            endpoint: where Drive is to be found, as in http://127.0.0.1:8123; None: at Google.
        """
        super().__init__(settings=dict(self.DEFAULT_SETTINGS))  # else it reads ./settings.yaml
        self._transport = transport
        self._endpoint = endpoint
        self.credentials = _NeverExpired()

    def _build_http(self) -> DriveTransport:
        return self._transport

    def Authorize(self) -> None:
        """Build the service from the document that googleapiclient ships, without a request."""
        self.http = self._build_http()
        self.service = build_from_document(_document(self._endpoint), http=self.http, model=_QuickJson())


def drive_of(transport: DriveTransport, *, endpoint: str | None = None) -> GoogleDrive:
    """PyDrive2's GoogleDrive, authorised; its `auth.service` is Drive's API v2."""
    auth = DriveAuth(transport, endpoint=endpoint)
    auth.Authorize()
    return GoogleDrive(auth)


def _document(endpoint: str | None) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(get_static_doc("drive", "v2"))
    if endpoint is not None:
        root = endpoint.rstrip("/") + "/"
        document["rootUrl"] = root
        document["baseUrl"] = root + document["servicePath"]
        document.pop("mtlsRootUrl", None)
    return document
