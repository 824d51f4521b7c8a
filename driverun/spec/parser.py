"""The way from the text of a job file to its spec, with every fault on the way reported at once."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from driverun.errors import Fault, SpecError
from driverun.spec.entrypoint import Entrypoint, EntrypointKind, read_entrypoint
from driverun.spec.faults import in_plain_words, known_part, meant_instead, unknown_field
from driverun.spec.fields import clean_name
from driverun.spec.matrix import MatrixFaults, Point, points, read_matrix
from driverun.spec.model import DataSource, JobSpec, disagreements
from driverun.spec.reader import Place, fault_at, read_yaml
from driverun.spec.scalars import plain_scalar, well_formed

_EXAMPLE = "entrypoint: train.py"

M = TypeVar("M", bound=BaseModel)


def parse_job(text: bytes, *, file: str, default_name: str) -> JobSpec:
    """Return the spec that a job file describes; `default_name` is its name where the file gives none.

    Raises:
        SpecError: with every fault of the file at once, in the order of its lines.
    """
    document = read_yaml(text, file=file)
    if not isinstance(document.value, dict):
        message = f"a job file is a mapping of fields, such as `{_EXAMPLE}`; this one {_held(document.value)}"
        line = None if document.value is None else 1
        raise SpecError([*document.faults, Fault(file=file, line=line, field="", message=message)])

    written, unknown = known_part(document.value)
    found = [(place, unknown_field(place)) for place in unknown]
    spec: JobSpec | None = None
    try:
        spec = JobSpec.model_validate({"name": default_name, **written})
    except ValidationError as error:
        meant = {(*place[:-1], meant_instead(place)) for place in unknown}
        for details in error.errors():
            place = details["loc"]
            inside = details.get("ctx", {}).get("error")
            if isinstance(inside, MatrixFaults):
                found += [((*place, *deeper), message) for deeper, message in inside.found]
                continue
            is_default = place == ("name",) and "name" not in written
            if not place or (place in meant and (is_default or details["type"] == "missing")):
                continue  # the spec as a whole is compared below; what is misspelt is not missing
            found.append((place, _bad_default_name(default_name) if is_default else in_plain_words(details)))
    found += _disagreements(written)

    faults = list(document.faults)
    for place, message in found:
        if not any(_overlap(place, unreadable) for unreadable in document.unreadable):
            faults.append(fault_at(place, message, file=file, line=document.line(place)))
    wrong = _point_fault(spec) if spec is not None and not faults else None
    if wrong is not None:
        faults.append(fault_at(("matrix",), wrong, file=file, line=document.line(("matrix",))))
    if faults or spec is None:
        raise SpecError(sorted(faults, key=lambda fault: fault.line or 0))
    return spec


def _held(value: JsonValue) -> str:
    if value is None:
        return "is empty"
    return "holds a list" if isinstance(value, list) else f"holds only {str(value)[:40]!r}"


def _bad_default_name(name: str) -> str:
    return (
        f"the job's folder is called {name!r}, which cannot be the name of a job; rename it, or write "
        f"`name: {clean_name(name)}` into the file"
    )


def _overlap(place: Place, other: Place) -> bool:
    shared = min(len(place), len(other))
    return place[:shared] == other[:shared]


def _disagreements(written: Mapping[str, JsonValue]) -> Iterator[tuple[Place, str]]:
    """Compare the fields that are sound with each other, however faulty the rest of the file is."""
    try:
        entrypoint = read_entrypoint(written.get("entrypoint"))
    except ValueError:
        entrypoint = None
    params = written.get("params", {})
    data = written.get("data", [])
    sources = (
        [(index, _read_or_none(DataSource, item)) for index, item in enumerate(data)]
        if isinstance(data, list)
        else []
    )
    try:
        matrix = read_matrix(written.get("matrix"))
    except MatrixFaults:
        matrix = None
        params = None  # it may have what a placeholder asks for
    after = written.get("after", [])
    return disagreements(
        entrypoint,
        params if isinstance(params, dict) else None,
        [(index, source) for index, source in sources if source is not None],
        matrix=matrix,
        after=[name for name in after if isinstance(name, str)] if isinstance(after, list) else [],
    )


def _read_or_none(model: type[M], written: Any) -> M | None:
    try:
        return model.model_validate(written)
    except ValidationError:
        return None


def parse_override(text: str) -> tuple[str, JsonValue]:
    """Return name and value of `name=value`, as in `submit -p learning_rate=0.1`.

    The value is what it would mean in a job file: a plain scalar, quoted text, or a list or mapping in
    brackets. Nothing after the `=` is null.

    Raises:
        SpecError: there is no name, or the value cannot be read.
    """
    name, equals, written = text.partition("=")
    name = name.strip()
    if not equals or not all(name.split(".")):
        raise _bad_override(text[:60], "write name=value, such as learning_rate=0.1")
    written = written.strip()
    try:
        name = well_formed(name)
        if not written.startswith(("[", "{", '"', "'")):
            return name, plain_scalar(well_formed(written))
        document = read_yaml(well_formed(written).encode(), file="-p")
    except ValueError as error:
        raise _bad_override(name, str(error)) from error
    except SpecError as error:
        raise _bad_override(name, error.faults[0].message) from error
    if document.faults:
        raise _bad_override(name, document.faults[0].message)
    return name, document.value


def _bad_override(field: str, message: str) -> SpecError:
    return SpecError([Fault(file="-p", line=None, field=field, message=message)])


def with_overrides(spec: JobSpec, overrides: Mapping[str, JsonValue]) -> JobSpec:
    """Return `spec` with some params set; `a.b` sets `b` inside the mapping `a`, which is made if need be.

    Raises:
        SpecError: a name with dots leads through something that is no mapping, a value is none that JSON can
            say, or a placeholder of the entrypoint lost its param.
    """
    params = _params_with(spec.params, overrides)
    fields = {name: getattr(spec, name) for name in JobSpec.model_fields}
    try:
        return JobSpec.model_validate({**fields, "params": params})
    except ValidationError as error:
        faults = [
            fault_at(details["loc"], in_plain_words(details), file="-p", line=None)
            for details in error.errors()
        ]
        raise SpecError(faults) from error


def _params_with(before: Mapping[str, JsonValue], overrides: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """`before` with some params set. Raises SpecError: a name leads through something that is no mapping."""
    params: dict[str, JsonValue] = copy.deepcopy(dict(before))
    for name, value in overrides.items():
        inner, parts = params, name.split(".")
        if name in params:
            parts = [name]
        for depth, part in enumerate(parts[:-1], start=1):
            deeper = inner.setdefault(part, {})
            if not isinstance(deeper, dict):
                raise _bad_override(
                    name, f"{'.'.join(parts[:depth])} is no mapping, so nothing in it can be set"
                )
            inner = deeper
        inner[parts[-1]] = copy.deepcopy(value)
    return params


def _point_fault(spec: JobSpec) -> str | None:
    """What is wrong with the points of the job's matrix beside its other params; None where nothing is."""
    if spec.matrix is None:
        return None
    all_points = points(spec.matrix)
    if not all_points:
        return "exclude takes away every point, so there would be no run at all; leave some"
    try:
        for point in all_points:
            _params_with(spec.params, point)
    except SpecError as error:
        return _bad_point(error)
    return None


def _bad_point(error: SpecError) -> str:
    return f"one of its points cannot be: {error.faults[0].field}: {error.faults[0].message}"


def point_specs(spec: JobSpec) -> tuple[tuple[Point, JobSpec], ...]:
    """Each point of the job's matrix with the very spec that overriding its params gives; one point without any.

    Raises:
        SpecError: a point sets what cannot be set, with dots in its name.
    """
    if spec.matrix is None:
        return (({}, spec),)
    made: list[tuple[Point, JobSpec]] = []
    for point in points(spec.matrix):
        try:
            made.append((point, with_overrides(spec, point).model_copy(update={"matrix": None})))
        except SpecError as error:
            fault = Fault(file=error.faults[0].file, line=None, field="matrix", message=_bad_point(error))
            raise SpecError([fault]) from error
    return tuple(made)


def refuse_overrides_of_matrix(spec: JobSpec, overrides: Mapping[str, JsonValue]) -> None:
    """Raise SpecError where a param is set that the matrix sets, or one inside it or around it."""
    of_matrix = spec.matrix.names if spec.matrix is not None else frozenset[str]()
    for name in overrides:
        for other in sorted(of_matrix):
            if name == other or name.startswith(f"{other}.") or other.startswith(f"{name}."):
                message = f"{other} is set by the job's matrix, point by point; change it there"
                raise _bad_override(name, message)


def check_code(spec: JobSpec, *, file: str, paths: Collection[str], text: bytes) -> tuple[Fault, ...]:
    """Return a fault if the entrypoint is not among the job's files, with the name that is nearest.

    Args:
        paths: the job's files, relative to its folder.
        text: the job file, for the line to blame.
    """
    wanted = _wanted_files(spec.entrypoint)
    if not wanted or any(path in paths for path in wanted):
        return ()
    if spec.entrypoint.kind is EntrypointKind.FUNCTION:
        module = spec.entrypoint.value.partition(":")[0]
        message = f"there is no module `{module}` among the job's files (looked for {' and '.join(wanted)})"
    else:
        message = f"there is no file `{wanted[0]}` in the job's folder"
    near = _nearest_path(wanted[0], paths)
    line = read_yaml(text, file=file).line(("entrypoint",))
    hint = f"; did you mean `{near}`?" if near else "; add it, or name another"
    return (Fault(file=file, line=line, field="entrypoint", message=message + hint),)


def _wanted_files(entrypoint: Entrypoint) -> tuple[str, ...]:
    """The files of which the job needs one; none where only the runtime can tell."""
    if entrypoint.kind is EntrypointKind.FUNCTION:
        module = entrypoint.value.partition(":")[0].replace(".", "/")
        return f"{module}.py", f"{module}/__init__.py"
    if entrypoint.kind is EntrypointKind.COMMAND:
        program = entrypoint.argv[0]
        return (program.removeprefix("./"),) if program.startswith("./") else ()
    return (entrypoint.value,)


def _nearest_path(path: str, paths: Collection[str]) -> str | None:
    same_name = sorted(other for other in paths if other.rsplit("/", 1)[-1] == path.rsplit("/", 1)[-1])
    if same_name:
        return same_name[0]
    by_lower = {other.lower(): other for other in sorted(paths)}
    near = difflib.get_close_matches(path.lower(), list(by_lower), n=1)
    return by_lower[near[0]] if near else None
