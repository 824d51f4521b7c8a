"""Runs a job's entrypoint as a person would have started it."""

from __future__ import annotations

import builtins
import difflib
import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from driverun.errors import JobError

_IMPORT_SYSTEM = ("<frozen importlib", importlib.__file__)
_NOTEBOOK_LINE = re.compile(rb"^[ \t]*[!%]", re.MULTILINE)

#: Starts the IPython of this process for code in a module, and gives it.
StartShell = Callable[[ModuleType], Any]


def run_script(folder: Path, script: str, argv: tuple[str, ...], *, start_shell: StartShell) -> None:
    """Execute `script`, a path in `folder`, as `python script` there would.

    Its module stays `__main__` for good: threads, exit handlers and pickles that outlive it still find it. A script
    that was saved from a notebook may hold lines that begin with `!` or `%`, and calls of `get_ipython()`: it gets one.
    """
    path = folder / script
    try:
        source = path.read_bytes()
    except OSError as exc:
        raise JobError(
            f"cannot read the script {script}: {exc.strerror}; is it among the job's files?"
        ) from exc
    sys.argv = [script, *argv]
    sys.path.insert(0, str(path.parent))
    main = ModuleType("__main__")
    vars(main).update(
        __file__=str(path),
        __cached__=None,
        __package__=None,
        __loader__=importlib.machinery.SourceFileLoader("__main__", str(path)),
        __builtins__=builtins,
    )
    sys.modules["__main__"] = main
    try:
        code = compile(source, str(path), "exec", dont_inherit=True)
    except SyntaxError:
        if not _NOTEBOOK_LINE.search(source):
            raise
        start_shell(main)
        from driverun.training.notebook_shell import as_python

        code = compile(as_python(importlib.util.decode_source(source)), str(path), "exec", dont_inherit=True)
    else:
        if b"get_ipython" in source:
            vars(main)["get_ipython"] = lambda: start_shell(main)
    exec(code, vars(main))


def call_function(name: str, params: Mapping[str, Any], folder: Path) -> None:
    """Import `package.module:function` and call it with those parameters of the job that it takes by name."""
    sys.argv = [name]
    sys.path.insert(0, str(folder))
    function = _function_named(name)
    accepted = inspect.signature(function).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
    by_position = [key for key, parameter in accepted.items() if parameter.kind is parameter.POSITIONAL_ONLY]
    missing = [
        key
        for key, parameter in accepted.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and (key not in params or key in by_position)
    ]
    if missing:
        hint = (
            "make it take them by name (without the / in its signature)"
            if set(missing) & set(by_position)
            else "add them to `params:` in job.yaml"
        )
        raise JobError(f"cannot call {name}: it needs {', '.join(missing)}; {hint}")
    function(
        **{
            key: value
            for key, value in params.items()
            if (takes_all or key in accepted) and key not in by_position
        }
    )


def _function_named(name: str) -> Callable[..., Any]:
    module_name, _, function_name = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{module_name}.".startswith(f"{exc.name}."):
            raise
        raise JobError(
            f"cannot call {name}: there is no module {exc.name} in the job's folder, nor is one installed"
        ) from exc
    for part in function_name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as exc:
            near = difflib.get_close_matches(part, dir(found), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise JobError(f"cannot call {name}: {module_name} has no {function_name}{hint}") from exc
    if not callable(found):
        raise JobError(f"cannot call {name}: it is a {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]


def run_command(argv: tuple[str, ...], folder: Path) -> int:
    """Run a command that is no Python script of the job's; gives its exit code, negative for a signal.

    `python` is the one that runs this. SIGTERM is passed on to the command, and then heard here too.
    """
    environment = dict(os.environ)
    environment["PATH"] = os.pathsep.join(
        [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    )
    commands: list[subprocess.Popen[bytes]] = []
    numbers: list[int] = []
    heard = signal.getsignal(signal.SIGTERM)

    def pass_on(number: int, frame: Any) -> None:
        numbers.append(number)
        for command in commands:
            command.send_signal(number)
        if callable(heard):
            heard(number, frame)

    signal.signal(signal.SIGTERM, pass_on)
    try:
        commands.append(subprocess.Popen(list(argv), cwd=folder, env=environment))
        if numbers:  # it came just before
            commands[0].terminate()
        return commands[0].wait()
    except PermissionError as exc:
        raise JobError(
            f"cannot start {argv[0]}: permission denied; a script needs its interpreter in front: [bash, {argv[0]}]"
        ) from exc
    except OSError as exc:
        raise JobError(f"cannot start {argv[0]}: {exc.strerror}; is it installed on this machine?") from exc
    finally:
        signal.signal(signal.SIGTERM, heard)


def traceback_of_job(exc: BaseException) -> TracebackType | None:
    """The exception's traceback from the job's own first frame on, as Python shows it for a script."""
    trace = exc.__traceback__
    here = Path(__file__)
    own: tuple[str, ...] = (
        __file__,
        str(here.with_name("__main__.py")),
        str(here.with_name("notebook")),
        *_IMPORT_SYSTEM,
    )
    shell = getattr(sys.modules.get("IPython"), "__file__", None)
    if shell is not None:  # it runs the cells of notebooks
        own = (*own, str(Path(shell).parent))
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(own):
        trace = trace.tb_next
    if trace is None and not isinstance(exc, SyntaxError):
        return exc.__traceback__  # no code of the job was running
    return trace
