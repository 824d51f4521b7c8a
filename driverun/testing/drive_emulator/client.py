"""The emulator's switches from another process, by the admin path."""

from __future__ import annotations

import http.client
import json
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

from driverun.testing.drive_emulator.faults import Fault
from driverun.testing.drive_emulator.records import FileRecord, file_from_json
from driverun.testing.drive_emulator.requestlog import RequestRecord

TIMEOUT_S = 30.0


class AdminClient:
    """Does to an emulator elsewhere what a DriveEmulator does to its own."""

    def __init__(self, url: str) -> None:
        """Args: url: where the emulator listens, as in `http://127.0.0.1:8080`."""
        self.url = url.rstrip("/")

    def settings(self) -> dict[str, float]:
        found: dict[str, float] = self._call("GET", "settings")
        return found

    def change(self, **settings: float) -> None:
        """Set some of the settings, as in `change(latency_ms=100)`.

        Raises:
            ValueError: there is no such setting, or no such value.
        """
        self._call("PATCH", "settings", settings)

    def add_fault(self, fault: Fault) -> None:
        self._call("POST", "faults", fault.to_json())

    def faults(self) -> list[Fault]:
        """Return those that may still happen."""
        return [Fault(**given) for given in self._call("GET", "faults")]

    def clear_faults(self) -> None:
        self._call("DELETE", "faults")

    def requests(self, *, since: int = 0) -> list[RequestRecord]:
        """Return the records whose number is above `since`."""
        return [RequestRecord.from_json(given) for given in self._call("GET", f"requests?since={since}")]

    def counts(self) -> Counter[str]:
        """Return how many requests there were of each method."""
        return Counter(record.method_id for record in self.requests())

    def clear_requests(self) -> None:
        self._call("DELETE", "requests")

    def files(self) -> list[FileRecord]:
        return [file_from_json(given) for given in self._call("GET", "files")]

    def expire_tokens(self, account: str | None = None) -> None:
        self._call("POST", "tokens/expire", {"account": account})

    def revoke(self, token: str) -> None:
        self._call("POST", "tokens/revoke", {"token": token})

    def expire_uploads(self) -> None:
        self._call("POST", "uploads/expire", {})

    def _call(self, verb: str, what: str, given: Any = None) -> Any:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=TIMEOUT_S)
        try:
            body = None if given is None else json.dumps(given)
            connection.request(verb, f"/_emulator/{what}", body)
            answer = connection.getresponse()
            found = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status != 200:
            raise ValueError(found["error"])
        return found
