"""What the discovery document of Drive v2 says a call must look like.

The document is the one that googleapiclient ships and builds its clients from, so that nothing here was
copied by hand. The wording of the refusals is that of Google's API front end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from driverun.testing.drive_emulator.refusals import Refusal

#: Query parameters of an upload session's address and of a download's; no method declares them.
UNDECLARED = frozenset({"upload_id"})
UPLOAD_PREFIXES = ("/upload", "/resumable/upload")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a method."""

    name: str
    location: str  #: `path` or `query`
    type: str  #: `string`, `boolean` or `integer`
    format: str = ""
    is_required: bool = False
    allowed: tuple[str, ...] = ()  #: empty: any
    minimum: int | None = None
    maximum: int | None = None
    default: str | None = None

    @classmethod
    def from_document(cls, name: str, given: Mapping[str, Any]) -> Parameter:
        return cls(
            name=name,
            location=given["location"],
            type=given["type"],
            format=given.get("format", ""),
            is_required=given.get("required", False),
            allowed=tuple(given.get("enum", ())),
            minimum=int(given["minimum"]) if "minimum" in given else None,
            maximum=int(given["maximum"]) if "maximum" in given else None,
            default=given.get("default"),
        )

    def read(self, text: str) -> Any:
        """Return `text` as this parameter's type: bool, int, or str.

        Raises:
            Refusal: 400, it is none, or out of range.
        """
        if self.type == "boolean":
            if text.lower() not in ("true", "false"):
                raise self._refusal(f"Invalid boolean value: '{text}'.")
            return text.lower() == "true"
        if self.type == "integer":
            if not re.fullmatch(r"[+-]?\d{1,18}", text):
                raise self._refusal(f"Invalid integer value: '{text}'.")
            number = int(text)
            low, high = self.minimum, self.maximum
            if (low is not None and number < low) or (high is not None and number > high):
                raise self._refusal(
                    f"Invalid value '{number}'. Values must be within the range: [{low}, {high or 'MAX'}]"
                )
            return number
        if self.format == "int64" and not re.fullmatch(r"[+-]?\d{1,19}", text):
            raise self._refusal(f"Invalid long value: '{text}'.")
        if self.allowed and text not in self.allowed:
            raise self._refusal(f"Invalid string value: '{text}'. Allowed values: {list(self.allowed)}")
        return text

    def _refusal(self, message: str) -> Refusal:
        return Refusal(400, "invalidParameter", message, location=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method of the API."""

    id: str  #: as in `drive.files.insert`
    verb: str
    path: str  #: relative to the service, as in `files/{fileId}`
    segments: tuple[str, ...]
    parameters: Mapping[str, Parameter]
    defaults: Mapping[str, Any]
    request_schema: str | None
    response_schema: str | None
    takes_media: bool
    gives_media: bool

    @property
    def is_write(self) -> bool:
        """Whether a call changes something, so that it counts against the writes of an account."""
        return self.verb != "GET"


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A method that an address leads to."""

    method: Method
    path_parameters: Mapping[str, str]
    is_upload: bool  #: it came by the address for media


class Contract:
    """The discovery document, ready for questions."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.schemas: Mapping[str, Any] = document["schemas"]
        self.service_path = "/" + document["servicePath"]
        self.batch_path = "/" + document["batchPath"]
        self.revision = document["revision"]
        self.shared = {
            name: Parameter.from_document(name, given) for name, given in document["parameters"].items()
        }
        self.methods = {method.id: method for method in _methods(document)}
        self._by_shape: dict[tuple[str, int], list[Method]] = {}
        for method in self.methods.values():
            self._by_shape.setdefault((method.verb, len(method.segments)), []).append(method)
        for alike in self._by_shape.values():  # `files/trash` before `files/{fileId}`
            alike.sort(key=lambda method: [segment.startswith("{") for segment in method.segments])

    def match(self, verb: str, path: str) -> Match | None:
        """Return the method that `verb` on `path` calls; None: there is none."""
        is_upload = False
        for prefix in UPLOAD_PREFIXES:
            if path.startswith(prefix + "/"):
                path, is_upload = path[len(prefix) :], True
                break
        if not path.startswith(self.service_path):
            return None
        parts = path[len(self.service_path) :].split("/")
        for method in self._by_shape.get((verb, len(parts)), ()):
            found = _fit(method.segments, parts)
            if found is not None and (method.takes_media or not is_upload):
                return Match(method=method, path_parameters=found, is_upload=is_upload)
        return None

    def read_parameters(self, match: Match, query: Iterable[tuple[str, str]]) -> dict[str, Any]:
        """Return every parameter of a call with its type, defaults filled in.

        Raises:
            Refusal: 400, a parameter is unknown, of a wrong value, or missing.
        """
        method = match.method
        values: dict[str, Any] = {**method.defaults, **match.path_parameters}
        for name, text in query:
            parameter = method.parameters.get(name) or self.shared.get(name)
            if parameter is None or parameter.location == "path":
                if name in UNDECLARED:
                    continue
                raise _unknown_parameter(name)
            values[name] = parameter.read(text)
        for name, parameter in method.parameters.items():
            if parameter.is_required and name not in values:
                raise Refusal(400, "required", f"Required parameter: {name}", location=name)
        alt = values.get("alt", "json")
        if alt == "proto" or (alt == "media" and not method.gives_media):
            raise Refusal(
                400,
                "unsupportedOutputFormat",
                f"The requested output format {alt} is not supported for this method.",
                location="alt",
            )
        return values

    def read_body(self, method: Method, body: bytes) -> dict[str, Any]:
        """Return the JSON object that a call carries; {} where it carries nothing.

        Raises:
            Refusal: 400, it is no JSON, or not of the shape of the method's schema.
        """
        if not body.strip():
            given: Any = {}
        else:
            try:
                given = json.loads(body)
            except ValueError as exc:
                raise Refusal(400, "parseError", "Parse Error") from exc
        if method.request_schema is None:
            if given:
                raise _bad_payload("Request body is not expected for this method.")
            return {}
        if not isinstance(given, dict):
            raise _bad_payload("Root element must be a message.")
        self._check({"$ref": method.request_schema}, given, at="")
        for name, field in self.schemas[method.request_schema]["properties"].items():
            needed_by = field.get("annotations", {}).get("required", ())
            if method.id in needed_by and given.get(name) is None:
                raise Refusal(400, "required", f"Required field: {name}", location=name)
        return given

    def problem(self, schema: str, document: Any) -> str | None:
        """Return what is wrong with `document` as an instance of `schema`; None: nothing is."""
        try:
            self._check({"$ref": schema}, document, at="")
        except Refusal as refusal:
            return refusal.message
        return None

    def field_of(self, schema: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
        """Return the schema of a field, seen through references and lists; None: there is no such field."""
        schema = self._resolved(schema)
        if name in schema.get("properties", {}):
            found: Mapping[str, Any] = schema["properties"][name]
            return found
        extra: Mapping[str, Any] | None = schema.get("additionalProperties")
        return extra

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        while True:
            if "$ref" in schema:
                schema = self.schemas[schema["$ref"]]
            elif schema.get("type") == "array":
                schema = schema["items"]
            else:
                return schema

    def _check(self, schema: Mapping[str, Any], value: Any, *, at: str) -> None:
        if value is None:
            return  # null stands for a field that is not given
        while "$ref" in schema:
            schema = self.schemas[schema["$ref"]]
        kind = schema["type"]
        if kind == "object":
            if not isinstance(value, dict):
                raise _bad_value(at, "TYPE_MESSAGE", value)
            known = schema.get("properties", {})
            others = schema.get("additionalProperties")
            for name, inner in value.items():
                field = known.get(name, others)
                if field is None:
                    raise _unknown_field(name, at)
                self._check(field, inner, at=f"{at}.{name}" if at else name)
        elif kind == "array":
            if not isinstance(value, list):
                raise _bad_value(at, "TYPE_LIST", value)
            for index, item in enumerate(value):
                self._check(schema["items"], item, at=f"{at}[{index}]")
        elif not _fits(kind, schema.get("format", ""), value):
            raise _bad_value(at, f"TYPE_{(schema.get('format') or kind).upper().replace('-', '_')}", value)


@lru_cache(maxsize=1)
def drive_v2() -> Contract:
    """Return the contract of Drive v2, from the document that googleapiclient ships.

    Raises:
        ImportError: googleapiclient is not installed; it comes with the extra `drive`.
    """
    from googleapiclient.discovery_cache import get_static_doc

    return Contract(json.loads(get_static_doc("drive", "v2")))


def _methods(resource: Mapping[str, Any]) -> Iterable[Method]:
    for name, part in resource.get("resources", {}).items():
        for given in part.get("methods", {}).values():
            parameters = {
                name: Parameter.from_document(name, entry)
                for name, entry in given.get("parameters", {}).items()
            }
            yield Method(
                id=given["id"],
                verb=given["httpMethod"],
                path=given["path"],
                segments=tuple(given["path"].split("/")),
                parameters=parameters,
                defaults={
                    name: parameter.read(parameter.default)
                    for name, parameter in parameters.items()
                    if parameter.default is not None
                },
                request_schema=given.get("request", {}).get("$ref"),
                response_schema=given.get("response", {}).get("$ref"),
                takes_media="mediaUpload" in given,
                gives_media=given.get("supportsMediaDownload", False),
            )
        if "resources" in part:
            yield from _methods(part)


def _fit(segments: tuple[str, ...], parts: list[str]) -> dict[str, str] | None:
    found = {}
    for segment, part in zip(segments, parts, strict=True):
        if segment.startswith("{"):
            if not part:
                return None
            found[segment[1:-1]] = unquote(part)
        elif segment != part:
            return None
    return found


def _fits(kind: str, form: str, value: Any) -> bool:
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if form == "int64" and isinstance(value, int) and not isinstance(value, bool):
        return True  # as protobuf's JSON does, which takes both
    if not isinstance(value, str):
        return False
    if form == "int64":
        return re.fullmatch(r"[+-]?\d{1,19}", value) is not None
    if form == "date-time":
        return is_timestamp(value)
    return True


def is_timestamp(text: str) -> bool:
    """Return whether `text` is a time as RFC 3339 writes it, with its zone."""
    try:
        return "T" in text.upper() and datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _bad_payload(message: str) -> Refusal:
    return Refusal(400, "badRequest", f"Invalid JSON payload received. {message}")


def _unknown_parameter(name: str) -> Refusal:
    return _bad_payload(
        f"Unknown name \"{name}\": Cannot bind query parameter. Field '{name}' could not be found in request "
        "message."
    )


def _unknown_field(name: str, at: str) -> Refusal:
    return _bad_payload(f'Unknown name "{name}"{f" at {at!r}" if at else ""}: Cannot find field.')


def _bad_value(at: str, kind: str, value: Any) -> Refusal:
    return Refusal(400, "badRequest", f"Invalid value at '{at}' ({kind}), {json.dumps(value)[:200]}")
