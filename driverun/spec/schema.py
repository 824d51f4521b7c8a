"""The published JSON Schema of the job file, by which editors complete and check it."""

from __future__ import annotations

from typing import Any, cast

from pydantic import JsonValue

from driverun.spec.model import JobSpec


def job_schema() -> dict[str, JsonValue]:
    """Return the JSON Schema (draft 2020-12) of `job.yaml`.

    It accepts nothing less than the parser does; what takes more than one field to see (two sources with one
    target, a placeholder without its param) the parser alone finds.
    """
    schema: dict[str, Any] = JobSpec.model_json_schema(by_alias=True, mode="validation")
    for part in (schema, *schema["$defs"].values()):
        for name, field in part.get("properties", {}).items():
            field["title"] = name.replace("_", " ").capitalize()
    schema["required"] = ["entrypoint"]  # a job without a name has its folder's
    schema["title"] = "driverun job"
    schema["description"] = "What driverun runs: only entrypoint is required."
    return cast(dict[str, JsonValue], {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
