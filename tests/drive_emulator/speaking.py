"""How the tests talk to an emulator: bare HTTP, and googleapiclient's own client."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

ALICE = "user:alice@example.com"
BOB = "user:bob@example.com"


@dataclass(frozen=True, slots=True)
class Spoken:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """Of an error."""
        found: str = self.json["error"]["errors"][0]["reason"]
        return found


class Speaker:
    """Speaks bare HTTP over one connection, as one account."""

    def __init__(self, url: str, token: str | None = ALICE) -> None:
        self.url = url
        self.token = token
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)

    def close(self) -> None:
        self._connection.close()

    def request(
        self, verb: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Spoken:
        sent = dict(headers or {})
        if self.token is not None:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        try:
            self._connection.request(verb, path.removeprefix(self.url), body, sent)
            answer = self._connection.getresponse()
            return Spoken(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        except Exception:
            self._connection.close()
            raise

    def call(self, verb: str, path: str, body: Any = None, *, headers: Any = None, **query: Any) -> Spoken:
        """Call a method of the API, by its path under the service."""
        text = {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in query.items()}
        target = f"/drive/v2/{path}" + (f"?{urlencode(text)}" if text else "")
        sent = {"Content-Type": "application/json", **(headers or {})}
        return self.request(verb, target, None if body is None else json.dumps(body).encode(), sent)

    def insert(self, title: str = "a.txt", content: bytes | None = b"hello", **body: Any) -> Any:
        """Create a file with content, or without if that is None; return the resource."""
        if content is None:
            found = self.call("POST", "files", {"title": title, **body})
        else:
            found = self.multipart("POST", "files", {"title": title, **body}, content)
        assert found.status == 200, found
        return found.json

    def folder(self, title: str = "folder", **body: Any) -> Any:
        return self.insert(title, None, mimeType="application/vnd.google-apps.folder", **body)

    def multipart(
        self, verb: str, path: str, metadata: Any, content: bytes, *, headers: Any = None, **query: Any
    ) -> Spoken:
        boundary = b"=-=-="
        body = b"\r\n".join(
            [
                b"--" + boundary,
                b"Content-Type: application/json; charset=UTF-8",
                b"",
                json.dumps(metadata).encode(),
                b"--" + boundary,
                b"Content-Type: text/plain",
                b"",
                content,
                b"--" + boundary + b"--",
                b"",
            ]
        )
        sent = {"Content-Type": f'multipart/related; boundary="{boundary.decode()}"', **(headers or {})}
        text = urlencode({"uploadType": "multipart", **query})
        return self.request(verb, f"/upload/drive/v2/{path}?{text}", body, sent)

    def ids(self, number: int = 1) -> list[str]:
        found: list[str] = self.call("GET", "files/generateIds", maxResults=number).json["ids"]
        return found
