"""What the cell says before it works, and when it cannot; in this process, without a notebook."""

from __future__ import annotations

import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest

from driverun.assembly import Surroundings, make_root
from driverun.clock import SystemClock
from driverun.launchers import colab
from driverun.launchers.colab import CellOptions, run_cell


@pytest.fixture
def here(tmp_path: Path) -> Surroundings:
    environment = {"DRIVERUN_WORKDIR": str(tmp_path / "work"), "PATH": ""}
    return Surroundings(environment=environment, cwd=tmp_path, home=tmp_path, clock=SystemClock())


@pytest.fixture
def root(here: Surroundings, tmp_path: Path) -> str:
    make_root(str(tmp_path / "root"), here)
    return str(tmp_path / "root")


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_an_empty_queue_ends_the_cell(
    root: str, here: Surroundings, capsys: pytest.CaptureFixture[str]
) -> None:
    run_cell(CellOptions(root=root), here=here)
    text = said(capsys)
    assert "nothing in the queue" in text
    assert text.strip().endswith("The queue is empty.")


def test_the_machine_is_asked_for_its_gpu_once_before_work_begins(
    root: str,
    here: Surroundings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(colab, "LOOK_AT_GPU_EVERY", sys.maxsize)  # however slow this machine is
    asked = tmp_path / "asked"
    smi = tmp_path / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\necho $1 >> {asked}\necho Tesla T4, 15360, 0, 7, 550.54.15, GPU-1\n")
    smi.chmod(0o755)
    here = replace(here, environment={**here.environment, "PATH": str(tmp_path)})
    run_cell(CellOptions(root=root), here=here)
    assert "Tesla T4" in said(capsys)
    assert len(asked.read_text().splitlines()) == 1


def test_jobs_that_are_not_there_are_told(
    root: str, here: Surroundings, capsys: pytest.CaptureFixture[str]
) -> None:
    run_cell(CellOptions(root=root, jobs="mnist, cifar"), here=here)
    assert "cifar" in said(capsys)


@pytest.mark.parametrize("hours", [0.0, -1.0, float("nan")])
def test_hours_that_make_no_sense_are_told(
    hours: float, root: str, here: Surroundings, capsys: pytest.CaptureFixture[str]
) -> None:
    run_cell(CellOptions(root=root, hours=hours), here=here)
    assert "no time that a runtime may last" in said(capsys)


def test_an_old_runtime_begins_nothing(
    root: str, here: Surroundings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colab, "_runtime_age_s", lambda: 11.49 * 3600.0)
    run_cell(CellOptions(root=root, hours=11.5), here=here)
    assert "This runtime is 11 h 29 min old, and you gave it 11.5 h: too little is left" in said(capsys)


def test_no_root_is_told(tmp_path: Path, here: Surroundings, capsys: pytest.CaptureFixture[str]) -> None:
    run_cell(CellOptions(root=str(tmp_path / "nowhere")), here=here)
    assert "is no driverun root" in said(capsys)


def test_a_release_that_fails_is_told(
    root: str, here: Surroundings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unassign() -> None:
        raise RuntimeError("the backend did not answer")

    runtime = types.ModuleType("google.colab.runtime")
    runtime.unassign = unassign  # type: ignore[attr-defined]
    package = types.ModuleType("google.colab")
    package.runtime = runtime  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "google.colab", package)
    run_cell(CellOptions(root=root, release_runtime=True), here=here)
    assert "could not be released (the backend did not answer). Use Runtime > Disconnect" in said(capsys)


def test_mounting_where_it_cannot_be_is_told(
    root: str, here: Surroundings, capsys: pytest.CaptureFixture[str]
) -> None:
    run_cell(CellOptions(root=root, mount_drive=True), here=here)
    assert "only Colab can mount Drive" in said(capsys)
