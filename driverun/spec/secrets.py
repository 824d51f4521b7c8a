"""Secrets as a job file names them: what each is kept under, and as what the job sees it. Values are no part of it."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

#: What a person may call a secret: Colab allows anything without white space, the environment less.
NAME_PATTERN = r"[A-Za-z_][A-Za-z0-9_.-]{0,127}"
VARIABLE_PATTERN = r"[A-Za-z_][A-Za-z0-9_]{0,127}"

#: Variables that decide how processes run: a secret in their place would break the job in ways nobody could explain.
_TAKEN = frozenset(
    {"PATH", "HOME", "SHELL", "IFS", "ENV", "BASH_ENV", "TMPDIR", "LANG", "USER", "KERAS_BACKEND"}
)
_TAKEN_BEGINNINGS = ("PYTHON", "LD_", "DYLD_", "DRIVERUN_", "TF_", "CUDA_", "XLA_", "LC_")


def secret_name(text: str) -> str:
    """Raises ValueError for what no place keeps secrets under."""
    if not re.fullmatch(NAME_PATTERN, text):
        raise ValueError(
            f"{text[:40]!r} cannot be the name of a secret: up to 128 letters, digits, _, - and ., such as HF_TOKEN."
            " The value itself never belongs into a job file"
        )
    return text


def secret_variable(text: str) -> str:
    """Raises ValueError for what cannot be the environment variable of a secret."""
    if not re.fullmatch(VARIABLE_PATTERN, text):
        raise ValueError(
            f"{text[:40]!r} cannot be an environment variable: letters, digits and _, such as as: WANDB_API_KEY"
        )
    if text in _TAKEN or text.startswith(_TAKEN_BEGINNINGS):
        raise ValueError(
            f"{text} decides how processes run and cannot be a secret; call it otherwise with as:"
        )
    return text


class Secret(BaseModel):
    """One secret of the job. Its value is kept elsewhere."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: Annotated[
        str,
        AfterValidator(secret_name),
        WithJsonSchema({"type": "string", "pattern": f"^{NAME_PATTERN}$"}),
    ] = Field(
        description="What it is kept under in Colab's secrets, the environment or the keyring.",
        examples=["HF_TOKEN"],
    )
    variable: Annotated[
        str | None,
        AfterValidator(lambda written: written if written is None else secret_variable(written)),
        WithJsonSchema({"anyOf": [{"type": "string", "pattern": f"^{VARIABLE_PATTERN}$"}, {"type": "null"}]}),
    ] = Field(
        default=None,
        validation_alias="as",
        serialization_alias="as",
        description="The environment variable by which the job sees it. By default its name.",
        examples=["WANDB_API_KEY"],
    )

    @model_validator(mode="before")
    @classmethod
    def _of_a_name(cls, written: object) -> object:
        return {"name": written} if isinstance(written, str) else written

    @model_validator(mode="after")
    def _has_a_variable(self) -> Secret:
        secret_variable(self.seen_as)
        return self

    @property
    def seen_as(self) -> str:
        """The environment variable of the job."""
        return self.variable or self.name

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> Any:
        return {"anyOf": [{"type": "string", "pattern": f"^{VARIABLE_PATTERN}$"}, handler(schema)]}


def distinct_variables(secrets: tuple[Secret, ...]) -> tuple[Secret, ...]:
    """Raises ValueError where two secrets would be one variable of the job."""
    for index, secret in enumerate(secrets):
        if any(secret.seen_as == other.seen_as for other in secrets[:index]):
            raise ValueError(f"two secrets are both seen as {secret.seen_as}; give one of them another as:")
    return secrets
