"""The notebook in a Jupyter kernel of its own, in a Colab that stands in: presses on its cell, power cuts, the view."""

from __future__ import annotations

import asyncio
import copy
import os
import re
import shutil
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from driverun.clock import SystemClock
from driverun.execution.workdir import SHARED_MEMORY
from driverun.launchers.notebook import notebook
from driverun.spool.boards import Progress, ProgressBoard
from driverun.testing.colab import ColabStandIn
from tests.e2e.runtimes import clean_environment

with warnings.catch_warnings():  # jupyter_client, in the release of Colab's images
    warnings.simplefilter("ignore", DeprecationWarning)
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import DeadKernelError

CELL = 1  #: of the notebook, the one that is pressed
PATIENCE_S = 300.0


class Press:
    """One press on the cell's button, in a runtime whose disk is `disk`."""

    def __init__(
        self, colab: ColabStandIn, disk: Path, environment: Mapping[str, str], form: Mapping[str, Any]
    ) -> None:
        self.disk = disk
        self._environment = environment
        self._colab = colab
        self._client = NotebookClient(filled_in(form), timeout=round(PATIENCE_S), kernel_name="python3")
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._execute, name="notebook")
        self._board: ProgressBoard | None = None

    def begin(self) -> None:
        self.disk.mkdir(exist_ok=True)
        self._thread.start()

    def _execute(self) -> None:
        home = {**self._environment, "HOME": str(self.disk)}
        home.pop("XDG_CACHE_HOME", None)
        try:
            asyncio.run(self._client.async_execute(env=self._colab.over(home), cwd=str(self.disk)))
        except BaseException as exc:  # it is asked for where it is wanted
            self._error = exc

    @property
    def text(self) -> str:
        """What the cell shows now."""
        outputs = self._client.nb.cells[CELL].get("outputs", [])
        shown = [
            output["text"] if output["output_type"] == "stream" else output["data"]["text/plain"]
            for output in outputs
            if output["output_type"] in ("stream", "display_data")
        ]
        return "\n".join(shown)

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def progress(self) -> Progress:
        """Where training stands."""
        if self._board is None:
            found = list(self.disk.glob(".cache/driverun/attempts/*/spool/progress.bin"))
            if not found or not found[0].stat().st_size:
                return Progress()
            self._board = ProgressBoard(found[0])
        return self._board.read()

    def interrupt(self) -> None:
        """The stop button."""
        os.killpg(self._kernel_pid, signal.SIGINT)  # as jupyter_client does, and so Colab

    def power_cut(self) -> Progress:
        """SIGKILL to the kernel and all it started, its disk deleted; gives where training stood."""
        with suppress(ProcessLookupError):
            os.killpg(self._kernel_pid, signal.SIGKILL)
        progress = self.progress()
        self._thread.join()
        assert isinstance(self._error, DeadKernelError), self._error
        self.lose_disk()
        return progress

    def lose_disk(self) -> None:
        for attempt in self.disk.glob(".cache/driverun/attempts/*"):
            shutil.rmtree(SHARED_MEMORY / f"driverun-{os.getuid()}" / attempt.name, ignore_errors=True)
        shutil.rmtree(self.disk, ignore_errors=True)
        self._colab.power_cut()

    def end(self) -> str:
        """Wait until the cell is done; gives its text."""
        self._thread.join(PATIENCE_S)
        assert self.is_over, f"the cell does not end:\n{self.text}"
        if self._error is not None:
            raise self._error
        return self.text

    def wait_until(self, happened: Any, *, what: str = "it") -> None:
        """Return when it has happened. The cell must be at work until then."""
        clock = SystemClock()
        end_s = clock.monotonic() + PATIENCE_S
        while not happened():
            assert not self.is_over, f"the cell ended too early: {self._error}\n{self.text}"
            assert clock.monotonic() < end_s, f"{what} never happened:\n{self.text}"
            clock.sleep(0.01)

    @property
    def _kernel_pid(self) -> int:
        process: Any = self._client.km.provisioner  # type: ignore[union-attr]
        return int(process.pid)

    def stop_anyhow(self) -> None:
        if not self.is_over:
            with suppress(Exception):
                os.killpg(self._kernel_pid, signal.SIGKILL)
            self._thread.join(30)
        self.lose_disk()


def filled_in(form: Mapping[str, Any]) -> Any:
    """The notebook, with these values in the fields of its form."""
    found = copy.deepcopy(notebook())
    source = "".join(found["cells"][CELL]["source"])
    for name, value in form.items():
        field = re.search(rf"(?m)^{name} = .*?(?=  #@param)", source)
        assert field is not None, f"the form has no field {name}"
        source = f"{source[: field.start()]}{name} = {value!r}{source[field.end() :]}"
    found["cells"][CELL]["source"] = source
    return nbformat.from_dict(found)


@contextmanager
def pressed(colab: ColabStandIn, disk: Path, drive: Mapping[str, str], **form: Any) -> Iterator[Press]:
    """The cell at work; its runtime is gone when the block ends."""
    press = Press(colab, disk, clean_environment(**drive), form)
    press.begin()
    try:
        yield press
    finally:
        press.stop_anyhow()
