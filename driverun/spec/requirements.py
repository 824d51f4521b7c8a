"""Packages that a job asks for beside those of the runtime, as PEP 508 writes them."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

_ADDRESS = re.compile(r"(git\+)?(https?|ssh)://", re.IGNORECASE)
#: What the schema can say of it: the name comes first. It accepts more than the parser does.
PATTERN = r"^\s*[A-Za-z0-9]"


def requirement(text: str) -> str:
    """The requirement, without white space around it.

    Raises:
        ValueError: it is none, or one that other machines cannot follow.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    text = text.strip()
    if text.startswith("-"):
        raise ValueError(
            f"{text!r} is an option of pip, not a package: set UV_INDEX_URL and the like where the worker runs"
        )
    if re.match(r"(\.{0,2}/|~|file:)", text) or (
        text.endswith((".whl", ".txt", ".tar.gz")) and "@" not in text
    ):
        raise ValueError(
            f"{text!r} is a path, which other machines do not have: put the code into the job's folder"
        )
    try:
        found = Requirement(text)
    except InvalidRequirement as exc:
        reason = str(exc).splitlines()[0].rstrip(".")
        raise ValueError(
            f"{text!r} is no requirement ({reason}): write name>=version, such as einops>=0.8"
        ) from exc
    if found.url is not None and not _ADDRESS.match(found.url):
        raise ValueError(
            f"{text!r} is at {found.url.partition(':')[0]}:, which other machines do not have:"
            " write an https:// address"
        )
    if re.sub(r"[-_.]+", "-", found.name).lower() == "driverun":
        raise ValueError("driverun is there already, in the version of the worker: leave it out")
    return text


#: One item of `requirements`.
RequirementText = Annotated[
    str, AfterValidator(requirement), WithJsonSchema({"type": "string", "pattern": PATTERN})
]
