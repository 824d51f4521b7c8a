"""A notebook of one cell, run by Jupyter's own machinery in the stand-in."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import pytest

from driverun.testing.colab import ColabStandIn

with warnings.catch_warnings():  # jupyter_client, in the release of Colab's images
    warnings.simplefilter("ignore", DeprecationWarning)
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

pytestmark = pytest.mark.filterwarnings("ignore:.*utcnow:DeprecationWarning")  # the same

MAKE: Any = nbformat.v4  # its functions carry no annotations

COUNTING = """\
#@title Count to three { display-mode: "form" }
CUT_AFTER = "" #@param {type:"string"}
import os, pathlib, signal
from google.colab import auth, drive, runtime
CUT_AFTER = os.environ.get("CUT_AFTER", CUT_AFTER)
auth.authenticate_user()
drive.mount(os.environ["MOUNT"])
steps = pathlib.Path(os.environ["MOUNT"], "MyDrive", "steps.txt")
for step in range(len(steps.read_text()), 4):
    with steps.open("a") as file:
        file.write(str(step))
    print("step", step, flush=True)
    if CUT_AFTER == str(step):
        os.kill(os.getpid(), signal.SIGKILL)
drive.flush_and_unmount()
runtime.unassign()
"""

#: Where the page cannot be asked, although a kernel is near.
ASKING = """\
import os, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
from google.colab import auth

def outcome(*_):
    try:
        auth.authenticate_user()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "granted"

print("thread", ThreadPoolExecutor(1).submit(outcome).result())
child = "from google.colab import auth; auth.authenticate_user()"
plain = dict(os.environ, PYTHON_COLORS="0")  # a kernel has its children colour their tracebacks, from Python 3.13 on
child = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, env=plain)
print("child", child.stderr.splitlines()[-1])
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    os.write(writing, outcome().encode())
    os._exit(0)
os.waitpid(child, 0)
print("fork", os.read(reading, 1000).decode())
print("kernel", outcome())
"""


@pytest.fixture
def colab(tmp_path: Path) -> ColabStandIn:
    return ColabStandIn(tmp_path / "colab")


@pytest.fixture
def life(tmp_path: Path, colab: ColabStandIn, monkeypatch: pytest.MonkeyPatch) -> Life:
    # nbclient's own side reads these as well: connection files go there.
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    return Life(colab)


class Life:
    """Runs a cell in a kernel of its own, in the stand-in, and keeps what it showed."""

    def __init__(self, colab: ColabStandIn) -> None:
        self._colab = colab
        self.shown: list[str] = []

    def run(self, cell: str, **environment: str) -> None:
        """Run it; raises what nbclient raises."""
        notebook = MAKE.new_notebook(cells=[MAKE.new_code_cell(cell)])
        client = NotebookClient(notebook, kernel_name="python3", timeout=60)
        given = self._colab.over({**os.environ, "MOUNT": str(self._colab.mountpoint), **environment})
        try:
            client.execute(env=given)
        finally:
            outputs = notebook.cells[0].outputs
            text = "".join(
                one.text for one in outputs if one.output_type == "stream" and one.name == "stdout"
            )
            self.shown = text.splitlines()


def names(colab: ColabStandIn) -> list[str]:
    return [call.name for call in colab.journal()]


def test_a_cell_goes_on_after_a_power_cut_with_what_had_reached_the_cloud(
    colab: ColabStandIn, life: Life
) -> None:
    (colab.my_drive / "steps.txt").write_text("0")
    with pytest.raises(DeadKernelError):
        life.run(COUNTING, CUT_AFTER="2")
    assert (colab.mountpoint / "MyDrive" / "steps.txt").read_text() == "012"
    assert colab.pending() == ["steps.txt"]
    colab.power_cut()
    assert (colab.my_drive / "steps.txt").read_text() == "0"

    life.run(COUNTING)
    assert life.shown == [f"Mounted at {colab.mountpoint}", "step 1", "step 2", "step 3"]
    assert (colab.my_drive / "steps.txt").read_text() == "0123"
    start = ["auth.authenticate_user", "drive.mount"]
    assert names(colab) == [*start, *start, "drive.flush_and_unmount", "runtime.unassign"]


def test_the_page_answers_nobody_but_the_kernels_main_thread(colab: ColabStandIn, life: Life) -> None:
    life.run(ASKING)
    assert life.shown == [
        "thread RuntimeError: Colab's page was asked from another thread than the main one; the answer may never come",
        "child AttributeError: 'NoneType' object has no attribute 'kernel'",
        "fork RuntimeError: Colab's page was asked by a fork of the kernel, whose sockets are not its own",
        "kernel granted",
    ]
    assert names(colab) == ["auth.authenticate_user"] * 4


def test_a_person_who_declines_ends_the_cell(colab: ColabStandIn, life: Life) -> None:
    colab.fail("drive.mount", "MessageError")
    with pytest.raises(CellExecutionError) as caught:
        life.run(COUNTING)
    assert caught.value.ename == "MessageError"
    assert caught.value.evalue == "Error: credential propagation was unsuccessful"
    assert names(colab) == ["auth.authenticate_user", "drive.mount"]
