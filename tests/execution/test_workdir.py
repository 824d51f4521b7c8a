"""Where a worker keeps what it works on."""

from __future__ import annotations

from pathlib import Path

import pytest

from driverun.execution.workdir import Workdir
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
