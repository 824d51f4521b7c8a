"""What a job starts: a script, a notebook, a function or a command, told apart by how it is written."""

from __future__ import annotations

import difflib
import enum
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue, model_serializer, model_validator

from driverun.errors import Fault, SpecError, UnsafePath
from driverun.spec.paths import RELATIVE_PATTERN, relative_path

_IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]*"
_DOTTED = rf"{_IDENTIFIER}(?:\.{_IDENTIFIER})*"
FUNCTION_PATTERN = rf"(?!.*\.py:){_DOTTED}:{_DOTTED}"
SCRIPT_PATTERN = RELATIVE_PATTERN + r"(?!python3?\s)[^{}]*[^{}/]\.py"
NOTEBOOK_PATTERN = RELATIVE_PATTERN + r"[^{}]*[^{}/]\.ipynb"

#: `{name}` is a placeholder, `{{name}}` the same text without being one; other braces are plain text.
_PLACEHOLDER = re.compile(r"\{\{([A-Za-z0-9_.-]+)\}\}|\{([A-Za-z0-9_.-]+)\}")

_EXPECTED = (
    "write a script (train.py), a notebook (train.ipynb), a function (package.module:function) or a list (a command"
    " and its arguments)"
)


class EntrypointKind(enum.Enum):
    SCRIPT = "script"  #: a Python file of the job, run unmodified; its `fit` is resumable
    NOTEBOOK = "notebook"  #: a Jupyter notebook of the job, its code cells in order; its `fit` is resumable
    FUNCTION = "function"  #: called without arguments; its `fit` is resumable
    COMMAND = "command"  #: any program; a resume starts it again from its top


class Entrypoint(BaseModel):
    """What a job starts.

    Attributes:
        value: the script or notebook relative to the job's folder, or `package.module:function`; "" for a command.
        argv: what a script or notebook finds in `sys.argv[1:]`; for a command the whole of it, the program first.
            Placeholders are still in it: see `resolved_argv`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: EntrypointKind
    value: str = ""
    argv: tuple[str, ...] = ()

    @property
    def written(self) -> str | list[str]:
        """The entrypoint as a job file writes it; `read_entrypoint` turns it back into the same value."""
        if self.kind is EntrypointKind.COMMAND:
            return list(self.argv)
        return [self.value, *self.argv] if self.argv else self.value

    @model_validator(mode="after")
    def _is_what_its_writing_says(self) -> Entrypoint:
        if _classify(self.written) != (self.kind, self.value, self.argv):
            raise ValueError(f"{self.written!r} is not how a {self.kind.value} is written")
        return self

    @model_serializer
    def _as_written(self) -> str | list[str]:
        return self.written


def read_entrypoint(written: Any) -> Entrypoint:
    """Return the entrypoint that a job file writes as text or as a list of texts.

    Raises:
        ValueError: it is neither, or names something that cannot be started; the message says what to write.
    """
    if isinstance(written, Entrypoint):
        return written
    kind, value, argv = _classify(written)
    return Entrypoint(kind=kind, value=value, argv=argv)


def _classify(written: Any) -> tuple[EntrypointKind, str, tuple[str, ...]]:
    if isinstance(written, str):
        return _classify_text(written)
    if isinstance(written, (list, tuple)):
        return _classify_list(written)
    raise ValueError(_EXPECTED)


def _classify_text(text: str) -> tuple[EntrypointKind, str, tuple[str, ...]]:
    if text.endswith(".py") and not re.match(r"python3?\s", text):
        return EntrypointKind.SCRIPT, _path_of(text, "script"), ()
    if text.endswith(".ipynb"):
        return EntrypointKind.NOTEBOOK, _path_of(text, "notebook"), ()
    if re.fullmatch(FUNCTION_PATTERN, text):
        return EntrypointKind.FUNCTION, text, ()
    if re.fullmatch(rf"{_DOTTED}\.py:{_DOTTED}", text):
        raise ValueError(f"a function is named without .py: write {text.replace('.py:', ':')}")
    if re.search(r"\s", text.strip()):
        raise ValueError(f"a command with arguments is written as a list: {_as_list(text)}")
    if re.fullmatch(r"[^\s:]+\.sh", text):
        raise ValueError(f"a shell script is written as a command: [bash, {text}]")
    raise ValueError(f"{text!r} cannot be started: {_EXPECTED}")


def _classify_list(items: list[Any] | tuple[Any, ...]) -> tuple[EntrypointKind, str, tuple[str, ...]]:
    if not items:
        raise ValueError(f"the list is empty: {_EXPECTED}")
    for number, item in enumerate(items, start=1):
        if not isinstance(item, str):
            raise ValueError(
                f"item {number} of the list is not text: write {json.dumps(json.dumps(item))}, in quotes"
            )
        if "\0" in item:
            raise ValueError(f"item {number} of the list holds a zero character, which no argument can")
    head, *rest = items
    if not head.strip():
        raise ValueError("the first item of the list is empty; it names the program")
    if head.endswith(".ipynb"):
        return EntrypointKind.NOTEBOOK, _path_of(head, "notebook"), tuple(rest)
    if head in ("python", "python3") and rest and rest[0].endswith(".py") and not rest[0].startswith("-"):
        head, *rest = rest
    if head.endswith(".py"):
        return EntrypointKind.SCRIPT, _path_of(head, "script"), tuple(rest)
    return EntrypointKind.COMMAND, "", tuple(items)


def _path_of(text: str, kind: str) -> str:
    if "{" in text or "}" in text:
        raise ValueError(f"{text!r}: the {kind} itself cannot hold a {{placeholder}}, only its arguments can")
    if text.rsplit("/", 1)[-1] in (".py", ".ipynb"):
        raise ValueError(f"{text!r} names no {kind}: {_EXPECTED}")
    try:
        return relative_path(text)
    except UnsafePath as error:
        raise ValueError(f"{error} (the {kind} belongs into the job's folder)") from error


def _as_list(text: str) -> str:
    try:
        words = shlex.split(text)
    except ValueError:  # an open quote: the plain words show the form as well
        words = text.split()
    return json.dumps(words)


def resolved_argv(entrypoint: Entrypoint, params: Mapping[str, JsonValue]) -> tuple[str, ...]:
    """Return `entrypoint.argv` with every `{param}` filled in; `{a.b}` reaches into nested params.

    Text goes in as it is, any other value as JSON (`0.001`, `true`, `[64, 32]`). `{{name}}` becomes `{name}`.

    Raises:
        SpecError: a placeholder names no param.
    """
    unknown = tuple(unknown_placeholders(entrypoint, params))
    if unknown:
        raise SpecError(
            [Fault(file="job.yaml", line=None, field="entrypoint", message=text) for text in unknown]
        )

    def filled(match: re.Match[str]) -> str:
        if match[1] is not None:
            return "{" + match[1] + "}"
        value = _lookup(params, match[2])[1]
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    return tuple(_PLACEHOLDER.sub(filled, item) for item in entrypoint.argv)


def unknown_placeholders(entrypoint: Entrypoint, params: Mapping[str, JsonValue]) -> Iterator[str]:
    """Yield a message for each placeholder of `entrypoint` that names no param."""
    names = dict.fromkeys(name for item in entrypoint.argv for _, name in _PLACEHOLDER.findall(item) if name)
    for name in names:
        if not _lookup(params, name)[0]:
            near = difflib.get_close_matches(name, list(params), n=1)
            hint = f"did you mean {{{near[0]}}}?" if near else "add it under params."
            yield f"{{{name}}} names no param; {hint} For the plain text write {{{{{name}}}}}"


def _lookup(params: Mapping[str, JsonValue], name: str) -> tuple[bool, JsonValue]:
    """Whether there is a param of this name, and its value; a name with dots reaches into nested params."""
    if name in params:
        return True, params[name]
    head, dot, rest = name.partition(".")
    inner = params.get(head)
    return _lookup(inner, rest) if dot and isinstance(inner, dict) else (False, None)
