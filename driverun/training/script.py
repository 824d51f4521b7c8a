"""Runs a job's entrypoint as a person would have started it."""

from __future__ import annotations

import importlib
import inspect
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from driverun.errors import JobError


def run_script(path: Path, argv: tuple[str, ...]) -> None:
    """Execute the file as `__main__`, with its own folder first on the import path."""
    sys.argv = [str(path), *argv]
    sys.path.insert(0, str(path.parent))
    runpy.run_path(str(path), run_name="__main__")


def call_function(name: str, params: Mapping[str, Any], folder: Path) -> None:
    """Import `package.module:function` and call it with those parameters of the job that it takes by name."""
    module_name, _, function_name = name.partition(":")
    sys.argv = [name]
    sys.path.insert(0, str(folder))
    function = getattr(importlib.import_module(module_name), function_name)
    accepted = inspect.signature(function).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
    given = {key: value for key, value in params.items() if takes_all or key in accepted}
    missing = [
        key
        for key, parameter in accepted.items()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and key not in given
    ]
    if missing:
        raise JobError(
            f"cannot call {name}: it needs {', '.join(missing)}; add them to `params:` in job.yaml"
        )
    function(**given)


def run_command(argv: tuple[str, ...], folder: Path) -> int:
    """Run a command that is no Python script of the job's; gives its exit code."""
    try:
        return subprocess.run(list(argv), cwd=folder, env=dict(os.environ), check=False).returncode
    except OSError as exc:
        raise JobError(f"cannot start {argv[0]}: {exc.strerror}; is it installed on this machine?") from exc
