"""One call of the API, as the methods get it, with what they may answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from driverun.testing.drive_emulator.accounts import Identity
from driverun.testing.drive_emulator.blobs import Sums
from driverun.testing.drive_emulator.contract import Method


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """Content that has arrived whole and lies in a file, to become a blob."""

    path: Path
    sums: Sums
    mime_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call that was held against the contract and found well-formed.

    Attributes:
        parameters: every parameter with its type and its default.
        body: the JSON object that came with it.
        wanted: the outermost fields that the answer will carry; None: all.
    """

    method: Method
    parameters: Mapping[str, Any]
    body: Mapping[str, Any]
    identity: Identity
    headers: Mapping[str, str]
    base_url: str
    media: Media | None = None
    wanted: frozenset[str] | None = None
    wanted_in_items: frozenset[str] | None = None
    stale_s: float = 0.0  #: how far back a listing looks, on order

    def get(self, name: str, default: Any = None) -> Any:
        """Return a parameter."""
        return self.parameters.get(name, default)

    @property
    def account(self) -> str:
        return self.identity.account

    @property
    def sees_shared_drives(self) -> bool:
        return bool(self.get("supportsAllDrives") or self.get("supportsTeamDrives"))


@dataclass(slots=True, kw_only=True)
class Content:
    """Bytes of a download: an open file, of which `length_bytes` from `start` are to be sent."""

    stream: BinaryIO
    start: int
    length_bytes: int


@dataclass(slots=True, kw_only=True)
class Answer:
    """What goes back over the wire."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    content: Content | None = None

    @property
    def length_bytes(self) -> int:
        return self.content.length_bytes if self.content is not None else len(self.body)


#: What a method answers: a resource, nothing (204), or an answer of its own making.
Reply = dict[str, Any] | Answer | None
#: The code behind a method.
Handler = Callable[[Call], Reply]
