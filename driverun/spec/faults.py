"""What pydantic and misspelt names have to say about a job, in words for the person who wrote it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel, JsonValue
from pydantic.fields import FieldInfo

from driverun.spec.model import JobSpec
from driverun.spec.reader import Place

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "string_too_short": "text that is not empty",
}


def yaml_name(name: str, field: FieldInfo) -> str:
    """How a job file spells the field that the model calls `name`."""
    alias = field.validation_alias
    return alias if isinstance(alias, str) else name


@cache
def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {yaml_name(name, field): field for name, field in model.model_fields.items()}


def _section(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a field that is a mapping with fields of its own, or a list of such mappings."""
    for candidate in (field.annotation, *get_args(field.annotation)):
        if (
            isinstance(candidate, type)
            and issubclass(candidate, BaseModel)
            and "kind" not in candidate.model_fields
        ):
            return candidate
    return None


@cache
def _sections(model: type[BaseModel]) -> dict[str, type[BaseModel] | None]:
    return {name: _section(field) for name, field in _fields(model).items()}


def known_part(
    written: Mapping[str, JsonValue], model: type[BaseModel] = JobSpec, place: Place = ()
) -> tuple[dict[str, JsonValue], list[Place]]:
    """Return `written` without the fields that do not exist, and the places of those, at every level."""
    fields, sections = _fields(model), _sections(model)
    known: dict[str, JsonValue] = {}
    unknown: list[Place] = []
    for name, value in written.items():
        if name not in fields:
            unknown.append((*place, name))
            continue
        section = sections[name]
        known[name] = value
        if section is not None and isinstance(value, dict):
            known[name], deeper = known_part(value, section, (*place, name))
            unknown += deeper
        elif section is not None and isinstance(value, list):
            items: list[JsonValue] = []
            for index, item in enumerate(value):
                if isinstance(item, dict):
                    item, deeper = known_part(item, section, (*place, name, index))
                    unknown += deeper
                items.append(item)
            known[name] = items
    return known, unknown


def meant_instead(place: Place) -> str | None:
    """The field that the unknown name at `place` most likely stands for, None where nothing is near."""
    near = difflib.get_close_matches(str(place[-1]).lower(), list(_fields(_model_of(place[:-1]))), n=1)
    return near[0] if near else None


def unknown_field(place: Place) -> str:
    """Say that there is no field `place`, and what to write instead."""
    name = str(place[-1])
    near = meant_instead(place)
    if near:
        return f"there is no field `{name}`; did you mean `{near}`?"
    model = _model_of(place[:-1])
    for home, field in _fields(JobSpec).items():
        section = _section(field)
        if section is not None and section is not model and name in _fields(section):
            return f"there is no field `{name}` here; it belongs under `{home}`"
    if model is not JobSpec and name in JobSpec.model_fields:
        return f"there is no field `{name}` here; it belongs to the job itself, without indentation"
    choices = f"the fields here are {', '.join(_fields(model))}"
    return f"there is no field `{name}`; {choices}" + (
        ". Values for your code go under `params`" * (model is JobSpec)
    )


def _model_of(place: Place) -> type[BaseModel]:
    model: type[BaseModel] = JobSpec
    for part in place:
        if isinstance(part, str):
            model = _section(_fields(model)[part]) or model
    return model


def in_plain_words(error: Any) -> str:
    """Say what one of pydantic's `errors()` means: what was expected, an example, what was found."""
    context: dict[str, Any] = error.get("ctx", {})
    name, field = _named_field(error["loc"])
    kind: str = error["type"]
    if kind == "value_error":
        return f"{context['error']}{_unless_quoted(error['input'])}"
    example = f", such as {_example(name, field, error['loc'])}" if field is not None else ""
    if kind == "missing":
        return f"this field is required{example}"
    if kind == "literal_error":
        return f"expected one of {_choices(field)}; found {_found(error['input'])}"
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
        return f"{error['input']} is out of range: it has to be {bound}"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}{example}; found {_found(error['input'])}"
    return f"{error['msg']}; found {_found(error['input'])}"


def _named_field(place: tuple[int | str, ...]) -> tuple[str, FieldInfo | None]:
    model: type[BaseModel] = JobSpec
    name, field = "", None
    for part in place:
        fields = _fields(model)
        if isinstance(part, str) and part in fields:
            name, field = part, fields[part]
            model = _section(field) or model
    return name, field


def _example(name: str, field: FieldInfo, place: tuple[int | str, ...]) -> str:
    example = (field.examples or [""])[0]
    if place and isinstance(place[-1], int):  # an item of the list, not the list
        return json.dumps(example[0]).replace('"', "") if isinstance(example, list) else str(example)
    written = example if isinstance(example, str) else json.dumps(example)
    if not isinstance(example, str):
        written = written.replace('"', "") if "*" not in written else written
    return f"{name}: {written}"


def _choices(field: FieldInfo | None) -> str:
    return ", ".join(_literals(field.annotation)) if field is not None else ""


def _literals(annotation: Any) -> Iterator[str]:
    for argument in get_args(annotation):
        if isinstance(argument, str):
            yield argument
        else:
            yield from _literals(argument)


def _unless_quoted(value: object) -> str:
    """The finding, where the message of a validator could not quote it."""
    return "" if (isinstance(value, str) and value) or isinstance(value, list) else f"; found {_found(value)}"


def _found(value: object) -> str:
    if value is None:
        return "nothing (leave the line out for the default)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {json.dumps(value if len(value) <= 40 else value[:37] + '...', ensure_ascii=False)}"
    return "a mapping" if isinstance(value, dict) else "a list"
