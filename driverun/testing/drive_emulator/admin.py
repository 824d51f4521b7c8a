"""The admin path: the emulator's switches for whoever is in another process.

GET    /_emulator/settings          all settings
PATCH  /_emulator/settings          {"latency_ms": 100}
GET    /_emulator/faults            those that may still happen
POST   /_emulator/faults            {"kind": "drop", "method": "drive.files.insert", "when": "after"}
DELETE /_emulator/faults
GET    /_emulator/requests          ?since=<number>
DELETE /_emulator/requests
GET    /_emulator/files
POST   /_emulator/tokens/expire     {} or {"account": "…"}
POST   /_emulator/tokens/revoke     {"token": "…"}
POST   /_emulator/uploads/expire    {}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from driverun.testing.drive_emulator.calls import Answer
from driverun.testing.drive_emulator.faults import Fault
from driverun.testing.drive_emulator.records import to_json

if TYPE_CHECKING:
    from driverun.testing.drive_emulator.emulator import DriveEmulator
    from driverun.testing.drive_emulator.exchange import Request

PREFIX = "/_emulator/"


class Admin:
    """Answers the admin path. What comes by it is neither logged nor slowed nor faulty."""

    def __init__(self, emulator: DriveEmulator) -> None:
        self._emulator = emulator

    def answer(self, request: Request) -> Answer | None:
        """Return the answer; None: the request is not for the admin path."""
        if not request.path.startswith(PREFIX):
            return None
        pieces = []
        while piece := request.read(65536):
            pieces.append(piece)
        try:
            given = json.loads(b"".join(pieces) or b"{}")
            status, reply = 200, self._reply(request, request.path[len(PREFIX) :], given)
        except (ValueError, TypeError, KeyError) as exc:
            status, reply = 400, {"error": str(exc)}
        if reply is None:
            status, reply = 404, {"error": f"{request.verb} {request.path} is no switch of the emulator"}
        return Answer(
            status=status, headers={"Content-Type": "application/json"}, body=json.dumps(reply).encode()
        )

    def _reply(self, request: Request, what: str, given: Mapping[str, Any]) -> Any:
        emulator = self._emulator
        match request.verb, what:
            case "GET", "settings":
                return asdict(emulator.settings)
            case "PATCH", "settings":
                for name, value in given.items():
                    emulator.settings.change(name, value)
                return asdict(emulator.settings)
            case "GET", "faults":
                return [fault.to_json() for fault in emulator.faults.waiting()]
            case "POST", "faults":
                emulator.faults.add(Fault(**given))
                return {}
            case "DELETE", "faults":
                emulator.faults.clear()
                return {}
            case "GET", "requests":
                since = int(request.parameter("since") or 0)
                return [record.to_json() for record in emulator.requests if record.number > since]
            case "DELETE", "requests":
                emulator.requests.clear()
                return {}
            case "GET", "files":
                return [to_json(record) for record in emulator.files()]
            case "POST", "tokens/expire":
                emulator.expire_tokens(given.get("account"))
                return {}
            case "POST", "tokens/revoke":
                emulator.revoke(given["token"])
                return {}
            case "POST", "uploads/expire":
                emulator.expire_uploads()
                return {}
            case _:
                return None
