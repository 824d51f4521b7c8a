"""Runs a notebook's cells in order, and keeps it with the outputs of its run."""

from __future__ import annotations

import builtins
import os
import random
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from driverun.errors import JobError
from driverun.spool.outputs import OutputRule, executed_notebook
from driverun.spool.snapshot import FileEntry
from driverun.training.notebook_file import CellFailed, CodeCell, Notebook, masked, read_notebook
from driverun.training.notebook_outputs import Recorder, RecordingStream
from driverun.training.notebook_pip import install_pip
from driverun.training.script import traceback_of_job
from driverun.training.session import TrainingSession
from driverun.training.working_folder import Capture, WorkingFolder

if TYPE_CHECKING:
    from driverun.training.notebook_shell import JobShell


class NotebookFolder(WorkingFolder):
    """A notebook's working folder: what the cells have put out so far is one of its files."""

    def __init__(self, session: TrainingSession, path: str, recorder: Recorder) -> None:
        request = session.request
        rule = OutputRule(
            include=request.outputs_include, exclude=request.outputs_exclude, code_files=request.code_files
        )
        super().__init__(
            Path(request.working_folder),
            store=session.spool.files,
            rule=rule.with_notebook(path),
            max_bytes=request.max_checkpoint_size_bytes,
        )
        self._recorder = recorder
        self._masker = session.masker
        self._path = path
        self._written = -1  #: changes of the recorder that are in the file
        self._pid = os.getpid()

    def write(self) -> None:
        """Put the notebook with its outputs into the folder."""
        if os.getpid() != self._pid:
            return  # a process that the job forked
        changes = self._recorder.changes
        target = self.folder / self._path
        if changes != self._written or not target.is_file():
            target.write_bytes(masked(self._recorder.document(), self._masker))
            self._written = changes

    def capture(self) -> Capture:
        self.write()
        return super().capture()

    def restore(self, files: Sequence[FileEntry], *, keep: Iterable[str] = ()) -> None:
        super().restore(files, keep=keep)
        if any(entry.path == self._path for entry in files):
            # From here on the run is where it was when these were captured, and so are its outputs.
            self._recorder.take_up((self.folder / self._path).read_bytes())


def run_notebook(session: TrainingSession, folder: Path, name: str, argv: tuple[str, ...]) -> None:
    """Run the code cells of the notebook `name`, a path in `folder`, until the first that fails.

    They run in `__main__`, which stays for good. The executed notebook lies in the folder when this returns.

    Raises:
        JobError: the notebook cannot be read, or IPython is not installed.
        CellFailed: a cell ended with an exception.
        SystemExit: a cell asked for the end.
    """
    notebook = read_notebook(folder, name)
    recorder = Recorder(notebook)
    sys.argv = [name, *argv]
    main = _new_main()
    shell = start_shell(main, session, name=name, recorder=recorder)
    from driverun.training.notebook_shell import nobody_answers

    nobody_answers()
    # Only now: a module of the job may have the name of one that IPython imports.
    sys.path.insert(0, str((folder / name).parent))
    files = NotebookFolder(session, executed_notebook(name, session.request.code_files), recorder)
    session.files = files
    os.register_at_fork(after_in_child=recorder.forget)
    try:
        with _recorded(recorder):
            for cell in notebook.cells:
                _run_cell(shell, cell, recorder)
    finally:
        files.write()
        recorder.close()


def start_shell(
    main: ModuleType, session: TrainingSession, *, name: str, recorder: Recorder | None = None
) -> JobShell:
    """The IPython of this process, whose code runs in `main`; with it `pip` becomes the job's own.

    Raises:
        JobError: IPython is not installed.
    """
    state = random.getstate()
    try:
        from driverun.training.notebook_shell import make_shell
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in ("IPython", "traitlets"):
            raise
        raise JobError(
            f"cannot run {name}: IPython is not installed where the worker runs; pip install 'driverun[notebook]'"
        ) from exc
    packages = install_pip(session.spool.path / "job")
    # After a script's own folder, before what the machine has; a notebook's own folder comes in front of it later.
    sys.path.insert(0 if recorder is not None else 1, str(packages))
    shell = make_shell(
        main,
        notebook=name,
        folder=session.spool.path / "job" / "ipython",
        recorder=recorder,
        explain=lambda text: print(f"driverun: {text}", flush=True),  # noqa: T201 (the child's stdout is the job's log)
    )
    random.setstate(state)  # the job's own first draw is what it would be without
    return shell


def _new_main() -> ModuleType:
    main = ModuleType("__main__")
    vars(main).update(__builtins__=builtins)
    sys.modules["__main__"] = main
    return main


def _run_cell(shell: Any, cell: CodeCell, recorder: Recorder) -> None:
    recorder.begin(cell.index)
    shell.execution_count = cell.number  # also after a cell that counted for several
    ended = shell.run_cell(cell.source, store_history=True)
    exc = ended.error_before_exec or ended.error_in_exec
    if exc is None:
        return
    exc = exc.with_traceback(traceback_of_job(exc))
    if isinstance(exc, SystemExit):
        raise exc
    lines = [line for part in traceback.format_exception(exc) for line in part.splitlines()]
    recorder.error(type(exc).__name__, str(exc), lines)
    raise CellFailed(cell, exc)


@contextmanager
def _recorded(recorder: Recorder) -> Iterator[None]:
    """Within the block, what is written to the standard streams is recorded, and goes where it went."""
    before: tuple[Any, Any] = sys.stdout, sys.stderr
    sys.stdout = RecordingStream("stdout", before[0], recorder)
    sys.stderr = RecordingStream("stderr", before[1], recorder)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


__all__ = ["CellFailed", "Notebook", "NotebookFolder", "run_notebook", "start_shell"]
