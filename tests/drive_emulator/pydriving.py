"""PyDrive2 as it is, pointed at an emulator."""

from __future__ import annotations

import json
from typing import Any

import httplib2
from googleapiclient.discovery import build_from_document
from googleapiclient.discovery_cache import get_static_doc
from pydrive2.auth import GoogleAuth
from pydrive2.drive import GoogleDrive


class Token:
    """Credentials as PyDrive2 wants them, that are a bearer token and nothing else."""

    access_token_expired = False
    refresh_token = None

    def __init__(self, token: str) -> None:
        self._token = token

    def authorize(self, http: httplib2.Http) -> httplib2.Http:
        request = http.request

        def with_token(
            uri: str, method: str = "GET", body: Any = None, headers: Any = None, **more: Any
        ) -> Any:
            sent = {**(headers or {}), "authorization": f"Bearer {self._token}"}
            return request(uri, method, body, sent, **more)

        http.request = with_token
        return http


class EmulatedAuth(GoogleAuth):  # type: ignore[misc]  # PyDrive2 has no types
    """Builds the service from the document that googleapiclient ships, with another root."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__(settings={"client_config_backend": "file"}, http_timeout=20)
        self._url = url
        self._connections: list[httplib2.Http] = []
        self.credentials = Token(token)

    def _build_http(self) -> httplib2.Http:
        self._connections.append(super()._build_http())
        return self._connections[-1]

    def close(self) -> None:
        """Close what PyDrive2 leaves open."""
        for connection in self._connections:
            connection.close()

    def Authorize(self) -> None:
        document = json.loads(get_static_doc("drive", "v2"))
        document["rootUrl"] = f"{self._url}/"
        document["baseUrl"] = f"{self._url}/drive/v2/"
        self.http = self.credentials.authorize(self._build_http())
        self.service = build_from_document(document, http=self.http)


def drive_of(url: str, token: str) -> GoogleDrive:
    auth = EmulatedAuth(url, token)
    auth.Authorize()
    return GoogleDrive(auth)
