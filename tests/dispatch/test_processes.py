from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from driverun.dispatch import processes
from driverun.dispatch.processes import is_alive, this_process
from driverun.runs.record import ProcessId

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no signals to ask with")


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits for its input to end."""
    waiting = [sys.executable, "-S", "-c", "import sys; print(flush=True); sys.stdin.read()"]
    with subprocess.Popen(waiting, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process


def named(pid: int) -> ProcessId:
    found = processes._state_and_start(pid)
    return replace(this_process(), pid=pid, started=found[1] if found else "")


def test_the_process_that_asks_is_alive() -> None:
    assert is_alive(this_process()) is True
    assert this_process() == this_process()


def test_a_killed_process_is_dead_before_and_after_its_parent_looks(child: subprocess.Popen[bytes]) -> None:
    name = named(child.pid)
    assert is_alive(name) is True
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # returns when it is a zombie, and leaves it one
    if Path("/proc/self/stat").exists():
        assert is_alive(name) is False
    child.wait()
    assert is_alive(name) is False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_process_that_got_the_number_of_a_dead_one_is_not_taken_for_it() -> None:
    assert is_alive(replace(this_process(), started="1")) is False


@pytest.mark.parametrize("elsewhere", [{"host": "another"}, {"boot_id": "another"}, {"boot_id": ""}])
def test_nothing_is_said_about_other_machines_and_boots(elsewhere: dict[str, str]) -> None:
    assert is_alive(replace(this_process(), pid=1, **elsewhere)) is None


def test_a_rehearsal_can_play_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    here = this_process()
    monkeypatch.setenv("DRIVERUN_HOST", "vm-2")
    assert this_process().host == "vm-2"
    assert is_alive(here) is None


def test_without_proc_a_signal_tells(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, child: subprocess.Popen[bytes]
) -> None:
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    name = replace(this_process(), pid=child.pid)
    assert name.started == ""
    assert name.boot_id.startswith("node/")
    assert is_alive(name) is True
    child.kill()
    child.wait()
    assert is_alive(name) is False
    assert is_alive(replace(name, pid=2**70)) is None


@pytest.mark.parametrize("command", ["a) R (b", "tab\there", "nl\nthere"])
def test_the_name_of_a_command_may_hold_anything(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    (tmp_path / "42").mkdir()
    fields = ["S", *(str(number) for number in range(4, 53))]
    (tmp_path / "42" / "stat").write_text(f"42 ({command}) {' '.join(fields)}\n")
    assert processes._state_and_start(42) == ("S", "22")
