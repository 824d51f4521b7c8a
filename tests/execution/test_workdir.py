"""Where a worker keeps what it works on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from driverun.execution.workdir import LOCK, Workdir
from driverun.runs.layout import AttemptKey


def test_a_relative_folder_means_the_same_to_the_training_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    workdir = Workdir(Path("here"), shared_memory=tmp_path / "none")
    assert workdir.path == tmp_path / "here"
    key = AttemptKey(run_id="digits-0123456789ab", number=1, worker="wone")
    with workdir.attempt(key) as folders:
        assert folders.spool.path.is_absolute()
        assert folders.work.is_absolute()


def test_who_sweeps_leaves_alone_what_is_about_to_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All workers of a machine share its memory: one may sweep between the making of a folder and its lock."""
    memory = tmp_path / "memory"
    memory.mkdir()
    mine = Workdir(tmp_path / "mine", shared_memory=memory)
    other = Workdir(tmp_path / "other", shared_memory=memory)
    key = AttemptKey(run_id="digits-0123456789ab", number=1, worker="wone")
    made: list[Path] = []
    make = Path.mkdir

    def make_and_sweep(self: Path, *arguments: Any, **more: Any) -> None:
        make(self, *arguments, **more)
        if self.name == str(key) and self.is_relative_to(memory) and not made:
            made.append(self)
            other.sweep()

    monkeypatch.setattr(Path, "mkdir", make_and_sweep)
    with mine.attempt(key) as folders:
        assert made
        assert folders.memory is not None
        other.sweep()
        assert folders.memory.is_dir()
    assert not folders.memory.exists()


def test_what_a_dead_worker_left_is_swept(tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    left = memory / f"driverun-{os.getuid()}" / "digits-0123456789ab.0001.wdead"
    left.mkdir(parents=True)
    (left / LOCK).touch()
    (left / "slot").write_bytes(b"state")
    assert Workdir(tmp_path / "mine", shared_memory=memory).sweep() == [left]
    assert not left.exists()
