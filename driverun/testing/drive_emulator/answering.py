"""From a request to a call of the API, and from what the call returns to an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from driverun.testing.drive_emulator.accounts import Identity
from driverun.testing.drive_emulator.calls import Answer, Call, Handler, Media
from driverun.testing.drive_emulator.contract import Contract, Method
from driverun.testing.drive_emulator.exchange import JSON_TYPE, Request
from driverun.testing.drive_emulator.fields import Mask, apply_mask, check_mask, parse_mask, wanted_names


def as_call(
    contract: Contract,
    method: Method,
    parameters: Mapping[str, Any],
    body: Mapping[str, Any],
    identity: Identity,
    request: Request,
    media: Media | None = None,
) -> Call:
    mask = mask_of(contract, method, parameters)
    wanted = wanted_names(mask)
    items = mask.get("items", {}) if mask is not None and "*" not in mask else None
    return Call(
        method=method,
        parameters=parameters,
        body=body,
        identity=identity,
        headers=request.headers,
        base_url=request.base_url,
        media=media,
        wanted=None if wanted is None else wanted | {"etag"},
        wanted_in_items=wanted_names(items),
        stale_s=request.stale_s,
    )


def mask_of(contract: Contract, method: Method, parameters: Mapping[str, Any]) -> Mask | None:
    text = parameters.get("fields")
    if not text or method.response_schema is None:
        return None
    mask = parse_mask(text)
    check_mask(mask, method.response_schema, contract)
    return mask


def answer_to(contract: Contract, call: Call, handler: Handler) -> Answer:
    reply = handler(call)
    if isinstance(reply, Answer):
        return reply
    if reply is None:
        return Answer(status=204)
    headers = {"Content-Type": JSON_TYPE, "Cache-Control": "private, max-age=0, must-revalidate"}
    if "etag" in reply:
        headers["ETag"] = reply["etag"]
    shown = apply_mask(mask_of(contract, call.method, call.parameters), reply)
    return Answer(status=200, headers=headers, body=json.dumps(shown, separators=(",", ":")).encode())
