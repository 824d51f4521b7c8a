"""What a listing shows of a file of the ledger, so that its content need not be read to decide.

A head is the content's value without details that only a closer look wants (a traceback, the environment, what is
said twice), as compressed JSON, cut over properties of the file. It is written together with the content and never
instead of it: whoever finds no head, or one that makes no sense, reads the file.

    h0     <format><number of parts as two digits><first piece>
    h1 ... <further pieces>

Drive merges properties, so a shorter head leaves the last parts of a longer one behind; hence the number of parts.
"""

from __future__ import annotations

import base64
import binascii
import json
import sys
import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from pydantic_core import from_json

from driverun.errors import IntegrityError
from driverun.runs.layout import EntryKind, LedgerName
from driverun.runs.record import (
    SCHEMA_VERSION,
    Claim,
    ProcessId,
    Record,
    Wish,
    brief,
    from_fields,
    to_fields,
)
from driverun.values import frozen_value

FORMAT = "1"
PARTS = 29  #: of the 30 public properties that a client may give a file on Drive
_PROPERTIES = tuple(f"h{number}" for number in range(PARTS))
PART_BYTES = 124 - len("h28")  #: Drive's limit is for key and value together
_IN_NAME = ("run_id", "number", "worker", "kind", "wish_id")
#: What the spec, the code and the id tell of what is computed; its other fields are kept.
_IN_SPEC = frozenset(
    {
        *("code_sha256", "entrypoint", "params", "data", "outputs", "seed", "deterministic", "backend"),
        *("requirements", "repeat"),
    }
)
_DIGESTS = ("code_sha256", "job_sha256")  #: of a wish: too long to be shared by themselves
_KEPT = (
    "absent",
    "code_sha256",
    "computed",
    "job",
    "job_sha256",
    "sweep",
    "points",
    "max_parallel",
    "due",
    "schedule_tag",
    "fresh",
    "authors",  # without them, whoever submitted would answer for the code
)  #: of a wish
_KEPT_OF_SPEC = ("name", "entrypoint", "priority", "accelerator", "min_memory", "retry", "secrets")
_DISPENSABLE = ("metrics", "exactness_reasons", "environment", "reason")  #: of a record

NO_PROCESS = ProcessId(host="", boot_id="", pid=0, started="")  #: in the head of what is over

#: Format 1 is compressed against this, byte for byte: another text is another format.
_TYPICAL = (
    b'"first_checkpoint_s":"peak_bytes":"due_at":"sweep":"matrix":"schedule":"after":"min_memory":"requirements":[]'
    b'"exactness_reasons":[],"exactness":"approximate""step_exact""total_steps":null,"committed_step":null,"fit":null,'
    b'"epoch":null,"first_step":null,"metrics":{"fit.accuracy":0."fit.loss":0."fit.val_accuracy":0."fit.val_loss":0.'
    b'"failure":{"kind":"exit code","message":"the training process ended with code 1 before the script did. See '
    b'`driverun logs`.","traceback":""}"reason":"preparing""training""state":"INTERRUPTED""FAILED""CANCELLED"'
    b'"RUNNING""SUCCEEDED","state_sha256":"outputs_sha256":null,"results":{"path":"runs/.0001./results","created_at":"202'
    b'"started_at":"2026-"updated_at":"2026-"ended_at":null,"lease_s":60.0,"beat":0,"step":0,"environment":{},"process":'
    b'{"host":"","boot_id":"-4/pid:[4026531836]","pid":"started":"claimed_at":"2026-T00:00:00.000000Z",'
    b'"wished_at":"2026-"by":"@","details":{"job":"jobs/","job_sha256":"code_sha256":"fresh":false,"spec":{"name":"'
    b'"entrypoint":"train.py","params":{"epochs":"batch_size":"learning_rate":0.0"seed":0},"data":[{"source":"data/'
    b'.npz","access":"sync","unpack":null,"target":"data/","optional":false}],"outputs":{"include":["**"],"exclude":'
    b'[],"max_checkpoint_size":1000000000},"seed":0,"deterministic":null,"accelerator":"any","checkpoint":{"every":'
    b'"auto","keep":3,"monitor":null,"mode":"auto"},"retry":{"max_errors":1},"backend":null,"requirements":[],'
    b'"priority":0,"notes":""}},"schema_version":1}]'
)
#: What a spec of format 1 says where its head says nothing: the defaults of the version that began it, for ever.
_USUAL_SPEC: Mapping[str, Any] = {
    "params": {},
    "data": [],
    "outputs": {"include": ["**"], "exclude": [], "max_checkpoint_size": 1000000000},
    "seed": 0,
    "deterministic": None,
    "accelerator": "any",
    "checkpoint": {"every": "auto", "keep": 3, "monitor": None, "mode": "auto"},
    "retry": {"max_errors": 1, "backoff": "30s"},
    "timeout": None,
    "stop_when_idle": None,
    "init_from": None,
    "backend": None,
    "requirements": [],
    "matrix": None,
    "after": [],
    "min_memory": None,
    "secrets": [],
    "schedule": None,
    "priority": 0,
    "notes": "",
}


class _Spec(Mapping[str, Any]):
    """A spec that holds only what is not usual, because there may be ten thousand."""

    __slots__ = ("_own",)

    def __init__(self, own: dict[str, Any]) -> None:
        self._own = own

    def __getitem__(self, name: str) -> Any:
        return self._own[name] if name in self._own else _USUAL_SPEC[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._own, **_USUAL_SPEC})

    def __len__(self) -> int:
        return len(self._own.keys() | _USUAL_SPEC.keys())

    def __repr__(self) -> str:
        return repr(dict(self))


@frozen_value(frozen=True, slots=True, kw_only=True)
class Head:
    """What the properties of a file say of its content."""

    value: Claim | Record | Wish
    is_cut: bool  #: more was left out than details: there was no room


def head_of(value: Claim | Record | Wish, content: bytes) -> dict[str, str]:
    """The properties for a file that holds `content`, which is of `value`. None at all if there is no room."""
    fields = {name: one for name, one in to_fields(value).items() if name not in _IN_NAME}
    dispensable = _without_details(value, fields)
    is_cut = False
    while True:
        parts = _parts(json.dumps([len(content), is_cut, fields], separators=(",", ":")))
        if len(parts) <= PARTS:
            return {f"h{number}": part for number, part in enumerate(parts)}
        largest = max(
            ((holder, name) for holder in dispensable for name in holder if _may_go(holder, name, fields)),
            key=lambda place: len(json.dumps(place[0][place[1]])),
            default=None,
        )
        if largest is None:
            return {}
        holder, name = largest
        del holder[name]
        is_cut = True
        if isinstance(value, Wish) and holder is fields["details"].get("spec"):
            fields["details"].setdefault("absent", []).append(name)


def read_head(name: LedgerName, properties: Mapping[str, str] | None, size_bytes: int) -> Head | None:
    """The head of the file of that name and size; None where there is none that makes sense."""
    first = properties.get("h0", "") if properties else ""
    if not properties or first[:1] != FORMAT:
        return None
    try:
        parts = [first[3:], *map(properties.__getitem__, _PROPERTIES[1 : int(first[1:3])])]
        packed = binascii.a2b_base64("".join(parts), strict_mode=True)
        text = zlib.decompressobj(zdict=_TYPICAL).decompress(packed)
        # Only wishes are kept as they are read, so what many have in common is in memory once.
        size, is_cut, fields = from_json(text, cache_strings="all" if name.kind is EntryKind.WISH else "keys")
        if size != size_bytes:
            return None  # somebody changed the content, and it alone
        return Head(value=_value(name, fields), is_cut=bool(is_cut))
    except (KeyError, ValueError, TypeError, binascii.Error, zlib.error, IntegrityError):
        return None


def _value(name: LedgerName, fields: dict[str, Any]) -> Claim | Record | Wish:
    if name.kind is EntryKind.WISH:
        return _wish(name, fields)
    attempt = {**fields, "run_id": name.run_id, "number": name.number, "worker": name.worker}
    if name.kind is EntryKind.RECORD:
        return from_fields(Record, {"process": NO_PROCESS, **attempt})
    return from_fields(Claim, attempt)


def _wish(name: LedgerName, fields: dict[str, Any]) -> Wish:
    """As `from_fields` does it, at a fifth of the cost: every run has one."""
    assert name.wish is not None, "a wish has a kind"
    assert name.wish_id is not None, "a wish has an id"
    details, version = fields["details"], fields["schema_version"]
    wished_at = datetime.fromisoformat(fields["wished_at"])
    if version > SCHEMA_VERSION or not isinstance(details, dict) or wished_at.tzinfo is None:
        raise ValueError("it is no wish, or one of a newer format")
    for each in _DIGESTS:
        if isinstance(digest := details.get(each), str):
            details[each] = sys.intern(digest)
    own = details.get("spec")
    if isinstance(own, dict):
        details["spec"] = _Spec(own)
        if absent := details.pop("absent", None):
            details["spec"] = {key: one for key, one in details["spec"].items() if key not in absent}
    return Wish(
        run_id=name.run_id,
        kind=name.wish,
        wish_id=name.wish_id,
        wished_at=wished_at,
        by=sys.intern(fields["by"]),
        details=details,
    )


def _parts(text: str) -> list[str]:
    packer = zlib.compressobj(level=9, zdict=_TYPICAL)
    packed = base64.b64encode(packer.compress(text.encode()) + packer.flush()).decode()
    room = PART_BYTES - 3
    rest = range(room, len(packed), PART_BYTES)
    return [
        f"{FORMAT}{1 + len(rest):02d}{packed[:room]}",
        *(packed[start : start + PART_BYTES] for start in rest),
    ]


def _without_details(value: Claim | Record | Wish, fields: dict[str, Any]) -> list[dict[str, Any]]:
    """Take the details out of the fields; gives what more can be taken from, if need be."""
    if isinstance(value, Wish):
        details = fields["details"] = dict(value.details)
        computed = details.pop("computed", None)
        if isinstance(computed, Mapping) and (
            beyond := {name: one for name, one in computed.items() if name not in _IN_SPEC}
        ):
            details["computed"] = beyond
        spec = details.get("spec")
        if not isinstance(spec, Mapping):
            return [details]
        details["spec"] = {
            name: one for name, one in spec.items() if name not in _USUAL_SPEC or _USUAL_SPEC[name] != one
        }
        if absent := [
            name for name in _USUAL_SPEC if name not in spec
        ]:  # of a version that had no such field
            details["absent"] = absent
        return [details["spec"], details]
    if isinstance(value, Record):
        fields["environment"] = {  # numbers are what decisions go by
            name: one
            for name, one in value.environment.items()
            if isinstance(one, int | float) and not isinstance(one, bool)
        }
        if value.state.is_over:
            del fields["process"]  # nobody asks whether it lives
        fields["reason"] = brief(value.reason)
        fields["exactness_reasons"] = [brief(reason) for reason in value.exactness_reasons]
        if value.failure is not None:
            message = brief(value.failure.message)
            fields["failure"] = {"kind": value.failure.kind, "message": message, "traceback": ""}
        for each in [each for each, one in fields.items() if one in (None, "", [], {})]:
            del fields[each]  # it is the default, of each of them
        return [fields]
    return []


def _may_go(holder: dict[str, Any], name: str, fields: dict[str, Any]) -> bool:
    if holder is fields:
        return name in _DISPENSABLE
    return name not in (*_KEPT, *_KEPT_OF_SPEC, "spec")
