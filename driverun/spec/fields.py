"""The rules that single fields keep, as validators whose messages a person can act on."""

from __future__ import annotations

import difflib
import enum
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, ValidationInfo, WithJsonSchema

from driverun.errors import UnsafePath
from driverun.spec.paths import MAX_PATH_LENGTH, RELATIVE_PATTERN, path_faults, relative_path
from driverun.spec.sources import (
    ARCHIVE_SUFFIXES,
    SourceKind,
    is_archive,
    kind_of,
    name_of,
    without_suffix,
)
from driverun.spec.units import DURATION_PATTERN, parse_duration, parse_size

RUN_OR_JOB_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,75}$"
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"

E = TypeVar("E", bound=enum.Enum)


def _path_or_fault(text: str) -> str:
    try:
        return relative_path(text)
    except UnsafePath as error:
        raise ValueError(str(error)) from error


def unpacking(written: Any, info: ValidationInfo) -> Any:
    """Whether an archive is unpacked, as written; refuses what the name of the source rules out."""
    name = name_of(info.data.get("source", ""))
    if written is True and name and not is_archive(name):
        raise ValueError(f"{name} is no archive that driverun unpacks: {', '.join(ARCHIVE_SUFFIXES)}")
    return written


def target_path(written: Any, info: ValidationInfo) -> Any:
    """The target as written, else the source's own name; both `x` and `data/x` mean `data/x`.

    An archive that is unpacked lands in a folder of its name without the suffix. Empty for what has its name on
    Drive alone.
    """
    if written is not None:
        if not isinstance(written, str):
            return written
        target = _path_or_fault(written).removeprefix("data/")
        for fault in path_faults([target]):
            raise ValueError(fault)
        return target
    source: str = info.data.get("source", "")  # missing where the source is faulty itself
    name = name_of(source)
    if not name and source and kind_of(source) is SourceKind.ADDRESS:
        raise ValueError(f"{source} does not tell a name: write one, such as target: train.csv")
    return name if info.data.get("unpack") is False else without_suffix(name)


def file_pattern(text: str) -> str:
    _path_or_fault(text)
    return text


def enum_of(kind: type[E]) -> BeforeValidator:
    names = [member.value for member in kind]

    def read(written: Any) -> Any:
        if not isinstance(written, kind) and written not in names:
            near = difflib.get_close_matches(str(written), names, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"{written!r} is not one of {', '.join(names)}{hint}")
        return written

    return BeforeValidator(read)


def json_params(params: Any) -> Any:
    """Refuse what JSON cannot say, wherever it is nested."""
    for place, value in _leaves(params, "params"):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{place} is {value}, which JSON cannot say: use text, or a large number")
        if not isinstance(value, (str, int, float, bool, type(None))):
            raise ValueError(f"{place} is a {type(value).__name__}, which JSON cannot say")
    return params


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                yield f"the key {key!r} of {place}", object()
            yield from _leaves(item, f"{place}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{place}[{index}]")
    else:
        yield place, value


def no_such_backend_yet(name: str | None) -> str | None:
    if name in ("jax", "torch"):
        raise ValueError(f"{name} is not supported by this version: write tensorflow, or leave the field out")
    return name


def clean_name(text: str) -> str:
    """Return the valid job name that is nearest to `text`; `job` where nothing of it can stay."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_]+", "-", ascii_text).strip("-_")[:63].strip("-_") or "job"


def job_name(text: str) -> str:
    if not re.fullmatch(NAME_PATTERN, text) or text.endswith("\n"):
        raise ValueError(
            f"{text!r} cannot be the name of a job: up to 63 letters, digits, - and _, the first a "
            f"letter or digit; write {clean_name(text)}"
        )
    return text


def size_bytes(written: Any) -> int:
    if isinstance(written, bool) or not isinstance(written, (int, str)):
        raise ValueError("expected a size")
    return parse_size(written)


def size_bytes_or_none(written: Any) -> int | None:
    return None if written is None else size_bytes(written)


def without_repeats(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def duration_s(written: Any) -> float:
    if isinstance(written, (int, float)) and not isinstance(written, bool):
        raise ValueError(f"{written} of what? Write {written}s, {written}m or {written}h")
    if not isinstance(written, str):
        raise ValueError("expected a duration, such as 30s, 5m or 1h30m")
    return parse_duration(written)


def limit_s(written: Any) -> float | None:
    """A duration above zero; None where there is no limit."""
    if written is None:
        return None
    seconds = duration_s(written)
    if seconds <= 0:
        raise ValueError(f"a limit of {written} leaves no time at all: it has to be above zero")
    return seconds


DURATION_SCHEMA: dict[str, Any] = {"type": "string", "pattern": f"^{DURATION_PATTERN}$"}
LIMIT_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "string", "pattern": f"^(?=.*[1-9]){DURATION_PATTERN}$"}, {"type": "null"}]
}

PATH_SCHEMA: dict[str, Any] = {
    "type": "string",
    "pattern": f"^{RELATIVE_PATTERN}.+$",
    "maxLength": MAX_PATH_LENGTH,
}

#: A pattern of `outputs`.
FilePattern = Annotated[str, AfterValidator(file_pattern), WithJsonSchema(PATH_SCHEMA)]
