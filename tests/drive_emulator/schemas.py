"""The schemas of the discovery document, as JSON Schema in its strictest reading."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from driverun.testing.drive_emulator.contract import drive_v2

_DATE_TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"
ERROR = {
    "type": "object",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {
        "error": {
            "type": "object",
            "required": ["errors", "code", "message"],
            "additionalProperties": False,
            "properties": {
                "code": {"type": "integer"},
                "message": {"type": "string", "minLength": 1},
                "errors": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["domain", "reason", "message"],
                        "additionalProperties": False,
                        "properties": {
                            "domain": {"enum": ["global", "usageLimits"]},
                            "reason": {"type": "string", "minLength": 1},
                            "message": {"type": "string", "minLength": 1},
                            "locationType": {"enum": ["parameter", "header", "other"]},
                            "location": {"type": "string"},
                        },
                    },
                },
            },
        }
    },
}


def _strict(given: Mapping[str, Any]) -> dict[str, Any]:
    if "$ref" in given:
        return {"$ref": f"#/$defs/{given['$ref']}"}
    found: dict[str, Any] = {"type": given["type"]}
    if given["type"] == "object":
        properties = {name: _strict(one) for name, one in given.get("properties", {}).items()}
        found["properties"] = properties
        extra = given.get("additionalProperties")
        found["additionalProperties"] = False if extra is None else _strict(extra)
        kind = given.get("properties", {}).get("kind", {}).get("default")
        if kind is not None:
            properties["kind"] = {"const": kind}
    elif given["type"] == "array":
        found["items"] = _strict(given["items"])
    elif given.get("format") == "int64":
        found["pattern"] = r"^-?\d+$"
    elif given.get("format") == "date-time":
        found["pattern"] = _DATE_TIME
    if "enum" in given:
        found["enum"] = given["enum"]
    return found


@cache
def _validator(name: str) -> Draft202012Validator:
    definitions = {one: _strict(given) for one, given in drive_v2().schemas.items()}
    return Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": definitions})


_ERRORS = Draft202012Validator(ERROR)


def problems(schema: str, document: Any) -> list[str]:
    """Return what is wrong with an answer."""
    return [f"{error.json_path}: {error.message}" for error in _validator(schema).iter_errors(document)]


def problems_of_error(body: bytes) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in _ERRORS.iter_errors(json.loads(body))]
