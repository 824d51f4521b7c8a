"""What a cheap command loads, seen in `sys.modules` of a process of its own, so that no timing can flake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

#: Seconds each to load; nobody who asks for help or for the state of a run should wait for one.
FRAMEWORKS = {"tensorflow", "keras", "torch", "jax", "numpy", "sklearn", "pandas", "h5py"}
DRIVE = {"googleapiclient", "pydrive2", "google", "httplib2", "oauth2client", "urllib3"}
#: Not heavy for a command that reads the root, but much too heavy for one that prints a text.
MODELS = {"pydantic", "pydantic_core", "yaml", "tenacity"}
#: What carries runs out: a third of the time that it takes to say how they stand, if it were loaded for that.
WORKER = {"driverun.execution.worker", "driverun.execution.client", "driverun.checkpoints.manifest"}
#: What carries out one run, which a look that finds none does without.
ATTEMPT = {"driverun.execution.attempt", "driverun.report.page", "driverun.transfer.publish"}

REPORT_MODULES = """
import json, sys
before = set(sys.modules)
try:
    {call}
except SystemExit as leaving:
    assert not leaving.code, leaving.code
finally:
    print("modules:", json.dumps(sorted(set(sys.modules) - before)))
"""


def modules_after(call: str, cwd: Path) -> set[str]:
    """Return the names, dotted ones included, of all that `call` loads in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", REPORT_MODULES.format(call=call)],
        cwd=cwd,
        env={"PYTHONPATH": str(Path(__file__).parent.parent), "PATH": "", "HOME": str(cwd)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.rpartition("modules:")[2]))


def modules_after_command(arguments: list[str], cwd: Path) -> set[str]:
    return modules_after(f"sys.argv[1:] = {arguments!r}; from driverun.cli import main; main()", cwd)


def test_importing_driverun_loads_none_of_its_rooms_and_no_library(tmp_path: Path) -> None:
    loaded = modules_after("import driverun; driverun.__version__", tmp_path)
    assert {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names == {"driverun"}
    assert {name for name in loaded if name.startswith("driverun.")} == set()


def test_help_loads_no_framework_no_drive_and_no_models(tmp_path: Path) -> None:
    loaded = modules_after_command(["--help"], tmp_path)
    assert "driverun.cli" in loaded
    assert not loaded & (FRAMEWORKS | DRIVE | MODELS)


def test_status_of_a_local_root_loads_no_framework_and_no_drive(tmp_path: Path) -> None:
    modules_after_command(["init", str(tmp_path / "root")], tmp_path)
    loaded = modules_after_command(["--root", str(tmp_path / "root"), "status"], tmp_path)
    assert "driverun.execution.board" in loaded
    assert not loaded & (FRAMEWORKS | DRIVE | WORKER)


def test_a_tick_that_finds_nothing_loads_nothing_to_carry_out_a_run(tmp_path: Path) -> None:
    modules_after_command(["init", str(tmp_path / "root")], tmp_path)
    loaded = modules_after_command(["--root", str(tmp_path / "root"), "tick"], tmp_path)
    assert "driverun.execution.worker" in loaded
    assert not loaded & (FRAMEWORKS | DRIVE | ATTEMPT)
