"""The IPython in which a job's cells run: no terminal, no kernel, nobody to answer."""

from __future__ import annotations

import ast
import builtins
import codecs
import getpass
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, cast

from IPython.core import page
from IPython.core.compilerop import CachingCompiler
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.history import HistoryManager
from IPython.core.inputtransformer2 import TransformerManager
from IPython.core.interactiveshell import InteractiveShell

from driverun.errors import JobError
from driverun.training.notebook_outputs import Recorder
from driverun.training.notebook_pip import through_job_packages

INLINE = "module://matplotlib_inline.backend_inline"
READ_BYTES = 1 << 16

#: `lines = !command`, which IPython 7 does not see on Python 3.12 and later; Colab has the two together.
_ASSIGNED_COMMAND = re.compile(r"^([ \t]*[A-Za-z_][\w.,\[\]'\" ]*?)=[ \t]*!(?!=)(.+)$", re.MULTILINE)


class JobShell(InteractiveShell):
    """Runs cells for a job; what they show goes to `recorder` where there is one, and as text to the log."""

    recorder: Recorder | None = None
    explain: Callable[[str], None] = staticmethod(print)

    def init_history(self) -> None:
        self.history_manager = HistoryManager(shell=self, parent=self, enabled=False)
        self.configurables.append(cast(Any, self.history_manager))

    def init_virtualenv(self) -> None:
        """Nothing: the interpreter is the worker's, with the packages that belong to it."""

    def transform_cell(self, raw_cell: str) -> str:
        return _transformed(super().transform_cell, raw_cell)

    # Commands of the system.

    def system(self, cmd: str) -> None:
        """`!cmd`: what it prints goes where the cell's own text goes."""
        self.user_ns["_exit_code"] = self._call(cast(Any, self).var_expand(cmd, depth=1), _write)

    def getoutput(self, cmd: str, split: bool = True, depth: int = 0) -> Any:
        """`lines = !cmd`."""
        pieces: list[str] = []
        self._call(cast(Any, self).var_expand(cmd, depth=depth + 1), pieces.append)
        text = "".join(pieces)
        if not split:
            return text
        from IPython.utils.text import SList

        return SList(text.splitlines())

    system_piped = system_raw = system

    def _call(self, command: str, take: Callable[[str], None]) -> int:
        command = through_job_packages(command)
        is_background = command.rstrip().endswith("&")
        sys.stdout.flush()
        process = subprocess.Popen(
            ["bash", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=None if is_background else subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        if process.stdout is not None:
            with process.stdout:
                while chunk := os.read(process.stdout.fileno(), READ_BYTES):
                    take(decoder.decode(chunk))
            take(decoder.decode(b"", final=True))
        code = process.wait()
        importlib.invalidate_caches()  # it may have been pip
        return code

    # What a person would do at the keyboard.

    def debugger(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        _nobody("%debug")

    def ask_exit(self) -> NoReturn:
        raise SystemExit(0)

    def showtraceback(self, *_args: Any, **_kwargs: Any) -> None:
        """Nothing: what ends a cell ends the run, and is told of there."""

    showsyntaxerror = showindentationerror = show_usage_error = showtraceback

    # Plots.

    def enable_gui(self, gui: str | None = None) -> None:
        """There is no display, so there is nothing to enable."""

    def enable_matplotlib(self, gui: str | None = None) -> Any:
        if importlib.util.find_spec("matplotlib") is None:
            self.explain(
                "matplotlib is not installed on this machine, so there is nothing to set up for plots"
            )
            return None, None
        if gui not in (None, "inline", "auto", "agg"):
            self.explain(f"there is no display for `{gui}`: plots are shown in the notebook")
        inherited: Any = super().enable_matplotlib
        return inherited("agg" if gui == "agg" else "inline")

    # Of other versions of IPython, and of Colab.

    def magic(self, arg_s: str) -> Any:
        """As scripts that were made of notebooks call it: `get_ipython().magic("matplotlib inline")`."""
        name, _, line = arg_s.lstrip("%").partition(" ")
        return self.run_line_magic(name, line)


class _Publisher(DisplayPublisher):
    shell: JobShell

    def publish(
        self,
        data: Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
        source: Any = None,
        *,
        transient: Mapping[str, Any] | None = None,
        update: bool = False,
        **_kwargs: Any,
    ) -> None:
        del source  # nobody uses it any more
        recorder = self.shell.recorder
        if recorder is not None:
            shown_as = (transient or {}).get("display_id")
            recorder.display(data, metadata, display_id=shown_as, update=update)
        _log(recorder, data)

    def clear_output(self, wait: bool = False) -> None:
        if self.shell.recorder is not None:
            self.shell.recorder.clear(wait=wait)


class _ResultHook(DisplayHook):
    shell: JobShell

    def write_output_prompt(self) -> None:
        """None: the log is no terminal."""

    def write_format_data(
        self, format_dict: Mapping[str, Any], md_dict: Mapping[str, Any] | None = None
    ) -> None:
        recorder = self.shell.recorder
        if recorder is not None:
            recorder.result(format_dict, md_dict, number=self.prompt_count)
        _log(recorder, format_dict)

    def finish_displayhook(self) -> None:
        sys.stdout.flush()
        self._is_active = False


class _Compiler(CachingCompiler):
    """Names the code of cells after the notebook, the same in every attempt."""

    notebook = "notebook"

    def get_code_name(self, _raw_code: str, _transformed_code: str, number: int) -> str:
        return f"<{self.notebook} cell {number}>"


def make_shell(
    main: ModuleType,
    *,
    notebook: str,
    folder: Path,
    recorder: Recorder | None,
    explain: Callable[[str], None],
) -> JobShell:
    """The shell of this process, whose cells run in `main`.

    Args:
        notebook: how code of cells is named in tracebacks.
        folder: for what IPython wants to keep; nothing of a person's own profile is read.
        explain: says one line to the person whose job it is.
    """
    if InteractiveShell.initialized():
        raise JobError("cannot start IPython for this job: it is running already")
    if "inline" in os.environ.get("MPLBACKEND", INLINE):  # also the one of Colab, which is for its own kernel
        os.environ["MPLBACKEND"] = INLINE
    os.environ.setdefault("PAGER", "cat")
    os.environ.setdefault("GIT_PAGER", "cat")
    folder.mkdir(parents=True, exist_ok=True)
    shell: JobShell = JobShell.instance(
        ipython_dir=str(folder),
        user_module=main,
        displayhook_class=_ResultHook,
        display_pub_class=_Publisher,
        compiler_class=type("Compiler", (_Compiler,), {"notebook": notebook}),
    )
    shell.recorder, shell.explain = recorder, explain
    warnings.filterwarnings("ignore", message="To exit: use")  # a cell that ends the run is understood
    paging: Any = page
    cast(Any, shell).set_hook("show_in_pager", paging.as_hook(paging.display_page), 90)
    _add_colab_magics(shell)
    return shell


def as_python(source: str) -> str:
    """The source of a script with lines for IPython in it, as Python; line by line where it can be."""
    manager: Any = TransformerManager
    return _transformed(manager().transform_cell, source)


def _transformed(transform: Callable[[str], Any], source: str) -> str:
    found = str(transform(source))
    if not _ASSIGNED_COMMAND.search(found) or _is_python(found):
        return found
    return str(transform(_ASSIGNED_COMMAND.sub(_with_call, source)))


def _with_call(found: re.Match[str]) -> str:
    return f"{found[1]}= get_ipython().getoutput({found[2].strip()!r})"


def _is_python(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    return True


def nobody_answers() -> None:
    """Let everything that waits for a person fail with an explanation; there is nobody at a job's keyboard."""
    builtins.input = lambda _prompt="": _nobody("input()")
    getpass.getpass = _no_password
    sys.breakpointhook = lambda *_args, **_kwargs: _nobody("breakpoint()")


def _no_password(*_args: Any, **_kwargs: Any) -> NoReturn:
    _nobody("getpass()")


def _nobody(what: str) -> NoReturn:
    raise EOFError(
        f"{what} waits for a person, and nobody is there while a job runs: put the value into `params:` of job.yaml"
        " (driverun.current_run().params), or into an environment variable"
    )


def _add_colab_magics(shell: Any) -> None:
    def tensorflow_version(_line: str) -> None:
        """The TensorFlow of this machine is used."""

    def tensorboard(_line: str) -> None:
        shell.explain("%tensorboard is for a notebook that somebody watches; its files are among the results")

    def script(_line: str, cell: str) -> None:
        shell.system(cell)

    shell.register_magic_function(tensorflow_version, "line")
    shell.register_magic_function(tensorboard, "line")
    shell.register_magic_function(script, "cell", "shell")
    extensions = shell.extension_manager
    load = extensions.load_extension

    def load_extension(name: str) -> Any:
        if name == "tensorboard" or name.startswith("google.colab"):
            return None  # what they would add is there already, or nothing without a browser
        return load(name)

    extensions.load_extension = load_extension


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _log(recorder: Recorder | None, data: Mapping[str, Any]) -> None:
    """Show the text of something rich in the log alone."""
    text = data.get("text/plain")
    if text is not None:
        stream = getattr(sys.stdout, "beneath", sys.stdout) if recorder is not None else sys.stdout
        print(text, file=stream, flush=True)
