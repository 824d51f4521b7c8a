"""The properties of a file, and their limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from driverun.testing.drive_emulator.records import Property
from driverun.testing.drive_emulator.refusals import Refusal

#: Limits from the description of `Property` in the discovery document.
MAX_BYTES = 124
MAX_OF_A_FILE = 100
MAX_PUBLIC = 30
MAX_PRIVATE_OF_A_CLIENT = 30


def merged_properties(
    before: Iterable[Property], given: Iterable[Mapping[str, Any]], client: str
) -> tuple[Property, ...]:
    """Return the properties after those that a body gives; one without a value is taken away.

    Raises:
        Refusal: 400, a property has no key, an unknown visibility, or is beyond a limit.
    """
    kept = {(one.key, one.visibility, one.client): one for one in before}
    for entry in given:
        key = entry.get("key")
        if not key:
            raise Refusal(400, "required", "Required field: key", location="key")
        visibility = (entry.get("visibility") or "PRIVATE").upper()
        if visibility not in ("PUBLIC", "PRIVATE"):
            raise Refusal(400, "invalid", f"Invalid visibility: {visibility}", location="visibility")
        whose = client if visibility == "PRIVATE" else ""
        value = entry.get("value")
        if value is None:
            kept.pop((key, visibility, whose), None)
            continue
        if len((key + value).encode()) > MAX_BYTES:
            raise Refusal(
                400, "badRequest", f"The property {key} is too long: key and value have {MAX_BYTES} bytes."
            )
        kept[key, visibility, whose] = Property(key=key, value=value, visibility=visibility, client=whose)
    found = tuple(kept.values())
    public = sum(one.visibility == "PUBLIC" for one in found)
    ours = sum(one.visibility == "PRIVATE" and one.client == client for one in found)
    if public > MAX_PUBLIC or ours > MAX_PRIVATE_OF_A_CLIENT or len(found) > MAX_OF_A_FILE:
        raise Refusal(403, "propertyLimitExceeded", "The file has as many properties as it can have.")
    return found
