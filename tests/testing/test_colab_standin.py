from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from pathlib import Path

import pytest

from driverun.testing.colab import ColabStandIn, Secret
from driverun.testing.colab.package.google.colab._cache import Cache


@pytest.fixture
def colab(tmp_path: Path) -> ColabStandIn:
    return ColabStandIn(tmp_path / "colab")


@pytest.fixture
def mounted(tmp_path: Path, colab: ColabStandIn) -> Path:
    """My Drive below the mount, with a file and a folder that were there before."""
    (colab.my_drive / "folder").mkdir()
    (colab.my_drive / "folder" / "old.txt").write_text("old")
    Cache(tmp_path / "colab").attach(str(colab.mountpoint), readonly=False)
    return colab.mountpoint / "MyDrive"


def test_after_a_while_the_mount_and_the_cloud_agree(colab: ColabStandIn, mounted: Path) -> None:
    (mounted / "folder" / "here.txt").write_text("1")
    (colab.my_drive / "folder" / "there.txt").write_text("2")
    assert not (mounted / "folder" / "there.txt").exists()
    colab.settle()
    for side in (mounted, colab.my_drive):
        assert {path.name: path.read_text() for path in (side / "folder").iterdir()} == {
            "old.txt": "old",
            "here.txt": "1",
            "there.txt": "2",
        }
    assert colab.pending() == []


def test_a_change_of_equal_size_at_the_same_time_is_a_change(colab: ColabStandIn, mounted: Path) -> None:
    (mounted / "folder" / "old.txt").write_text("new")
    assert colab.pending() == ["folder/old.txt"]
    colab.settle()
    assert (colab.my_drive / "folder" / "old.txt").read_text() == "new"


def test_what_was_deleted_on_either_side_stays_deleted(colab: ColabStandIn, mounted: Path) -> None:
    (mounted / "second.txt").touch()
    colab.settle()
    (mounted / "folder" / "old.txt").unlink()
    (mounted / "folder").rmdir()
    (colab.my_drive / "second.txt").unlink()
    assert colab.pending() == ["folder", "folder/old.txt"]
    colab.settle()
    assert list(mounted.iterdir()) == list(colab.my_drive.iterdir()) == []


@pytest.mark.parametrize("side", ["mount", "cloud"])
def test_a_folder_may_become_a_file_and_a_file_a_folder(
    colab: ColabStandIn, mounted: Path, side: str
) -> None:
    here = mounted if side == "mount" else colab.my_drive
    (here / "folder" / "old.txt").unlink()
    (here / "folder").rmdir()
    (here / "folder").write_text("a file now")
    colab.settle()
    assert (mounted / "folder").read_text() == (colab.my_drive / "folder").read_text() == "a file now"
    (here / "folder").unlink()
    (here / "folder" / "in").mkdir(parents=True)
    (here / "folder" / "in" / "it.txt").write_text("a folder again")
    colab.settle()
    assert (mounted / "folder" / "in" / "it.txt").read_text() == "a folder again"
    assert (colab.my_drive / "folder" / "in" / "it.txt").read_text() == "a folder again"


def test_a_mount_that_died_settles_nothing_until_it_is_healed(colab: ColabStandIn, mounted: Path) -> None:
    (mounted / "new.txt").touch()
    colab.break_mount()
    colab.settle()
    assert colab.pending() == ["new.txt"]
    assert not (colab.my_drive / "new.txt").exists()
    colab.heal()
    assert (mounted / "new.txt").exists()
    colab.settle()
    assert (colab.my_drive / "new.txt").exists()


def test_the_power_takes_the_disk_and_leaves_the_cloud(colab: ColabStandIn, mounted: Path) -> None:
    (colab.content / "work.txt").touch()
    (mounted / "new.txt").touch()
    colab.power_cut()
    assert list(colab.content.iterdir()) == []
    assert [path.name for path in colab.my_drive.iterdir()] == ["folder"]
    assert colab.pending() == []


def test_the_power_takes_a_mount_that_lies_elsewhere(tmp_path: Path, colab: ColabStandIn) -> None:
    Cache(tmp_path / "colab").attach(str(tmp_path / "elsewhere"), readonly=False)
    colab.power_cut()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_mount_that_was_cut_short_is_made_anew(tmp_path: Path, colab: ColabStandIn) -> None:
    (tmp_path / "colab" / "vm" / "cache" / "half").mkdir(parents=True)
    (colab.my_drive / "whole").mkdir()
    Cache(tmp_path / "colab").attach(str(colab.mountpoint), readonly=False)
    assert [path.name for path in (colab.mountpoint / "MyDrive").iterdir()] == ["whole"]


def test_a_process_that_runs_already_may_enter_it(
    colab: ColabStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in colab.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(colab.package_path)
    colab.kernel_needed = False
    try:
        import_module("google.colab").runtime.unassign()
    finally:
        for name in [name for name in sys.modules if name.startswith("google.colab")]:
            del sys.modules[name]
    (call,) = colab.journal()
    assert (call.name, call.pid) == ("runtime.unassign", os.getpid())


@pytest.mark.parametrize(
    ("call", "error"), [("drive.mount", "OSError"), ("drive.unmount", "ValueError"), ("mount", "ValueError")]
)
def test_a_fault_that_colab_does_not_have_is_refused(colab: ColabStandIn, call: str, error: str) -> None:
    with pytest.raises(ValueError, match="not among what is known of Colab"):
        colab.fail(call, error)


def test_a_python_path_that_there_is_comes_second(colab: ColabStandIn) -> None:
    assert colab.over({"PYTHONPATH": "/mine", "HOME": "/h"})["PYTHONPATH"] == f"{colab.package_path}:/mine"
    assert colab.over({})["PYTHONPATH"] == str(colab.package_path)
    assert colab.over({"HOME": "/h"})["HOME"] == "/h"


def test_a_folder_that_is_opened_again_is_as_it_was(tmp_path: Path, colab: ColabStandIn) -> None:
    colab.secrets = {"TOKEN": Secret(value="t", granted=False)}
    colab.hosted = False
    colab.fail("drive.mount", "ValueError")
    again = ColabStandIn(tmp_path / "colab")
    assert again.secrets == {"TOKEN": Secret(value="t", granted=False)}
    assert not again.hosted
    assert again.kernel_needed
    again.fail("drive.mount", "MessageError")
    faults = json.loads((tmp_path / "colab" / "settings.json").read_text())["faults"]
    assert [fault["id"] for fault in faults] == [1, 2]
