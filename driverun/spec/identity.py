"""Which computation a spec stands for, and the forms in which specs and identities are stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from pydantic import JsonValue, ValidationError

from driverun.errors import SpecError
from driverun.spec.faults import in_plain_words, known_part
from driverun.spec.model import JobSpec
from driverun.spec.reader import fault_at

#: Whose results a run is given: a job's name to the id of its run, to those of all its points for a matrix.
After = Mapping[str, str | list[str]]


def computed_part(
    spec: JobSpec,
    *,
    code_sha256: str,
    repeat: int,
    after: After | None = None,
    due: datetime | None = None,
) -> dict[str, JsonValue]:
    """Return all that decides what a run computes, and nothing of how it is operated.

    How data gets to the disk (`access`) and when outputs are uploaded (`max_checkpoint_size`) are operation;
    the name is in front of the run's id anyway.
    """
    return {
        "code_sha256": code_sha256,
        "entrypoint": {
            "kind": spec.entrypoint.kind.value,
            "value": spec.entrypoint.value,
            "argv": list(spec.entrypoint.argv),
        },
        "params": dict(spec.params),
        "data": [
            {
                "source": source.source,
                "target": source.target,
                "optional": source.optional,
                # Only where it was written: the ids of runs without it stay what they were.
                **({} if source.unpack is None else {"unpack": source.unpack}),
            }
            for source in spec.data
        ],
        "outputs": {"include": list(spec.outputs.include), "exclude": list(spec.outputs.exclude)},
        "seed": spec.seed,
        "deterministic": spec.deterministic,
        "backend": spec.backend,
        "requirements": list(spec.requirements),
        "repeat": repeat,
        # Only where it is used, likewise.
        **({"after": cast(JsonValue, dict(after))} if after else {}),
        **({} if spec.init_from is None else {"init_from": spec.init_from.model_dump(mode="json")}),
        **({} if due is None else {"due": due_text(due)}),
    }


def due_text(due: datetime) -> str:
    """Return how a due time is written in ids and files: in UTC, whatever zone its schedule has."""
    return due.astimezone(UTC).isoformat()


def run_id_of(
    spec: JobSpec,
    *,
    code_sha256: str,
    repeat: int = 0,
    after: After | None = None,
    due: datetime | None = None,
) -> str:
    """Return the id of the run: the job's name and 12 hex digits of what is computed.

    `repeat` counts the runs that a person asked for again; the first one is 0. `due` is when a schedule wants it.
    """
    digest = _sha256_of(computed_part(spec, code_sha256=code_sha256, repeat=repeat, after=after, due=due))
    return f"{spec.name}-{digest[:12]}"


def computed_sha256(computed: Mapping[str, Any]) -> str:
    """Return the whole digest of what `computed_part` gave, of which a run's id has the beginning.

    Raises:
        ValueError: it is no such thing, but has a number in it that is not finite.
    """
    return _sha256_of(computed)


def code_sha256_of(files: Mapping[str, tuple[str, bool]]) -> str:
    """Return one digest for a job's files, whatever order they were found in.

    Args:
        files: path relative to the job's folder to (sha256 hex of its bytes, whether it may be executed).
    """
    return _sha256_of(
        [[path, digest, is_executable] for path, (digest, is_executable) in sorted(files.items())]
    )


def spec_to_json(spec: JobSpec) -> dict[str, JsonValue]:
    """Return the spec as a job file would write it, every default spelt out."""
    return cast(dict[str, JsonValue], spec.model_dump(mode="json", by_alias=True))


def spec_from_json(mapping: Mapping[str, JsonValue]) -> JobSpec:
    """Return the very spec that `spec_to_json` wrote. Fields that this version does not know are passed over.

    Raises:
        SpecError: the mapping is no spec of this version.
    """
    known, _ = known_part(mapping)
    try:
        return JobSpec.model_validate(known)
    except ValidationError as error:
        raise SpecError(
            [
                fault_at(details["loc"], in_plain_words(details), file="the stored spec", line=None)
                for details in error.errors()
            ]
        ) from error


def _sha256_of(value: Any) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
