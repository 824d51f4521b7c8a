"""A job with packages of its own: a real worker, its power cut, and an index that is gone when the run goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from driverun.testing.drive_audit import untidiness
from tests.e2e.drives import ROOT, Drive
from tests.e2e.runtimes import Runtime, driverun, runtime, status
from tests.execution.wheels import offline, write_wheel

SCRIPT = """
import os, signal, subprocess, sys
import driverun, tinya, numpy

print("with", tinya.version, os.path.dirname(tinya.__file__))
subprocess.run(["tiny"], check=True)
open("result.txt", "w").write(tinya.version)
if driverun.current_run().attempt == 1 and "wait" in driverun.current_run().params:
    print("installed", flush=True)
    signal.pause()
"""


def submit(root: Path, name: str, requirements: str, params: str = "{}") -> str:
    job = root.parent / name
    job.mkdir()
    (job / "train.py").write_text(SCRIPT)
    (job / "job.yaml").write_text(
        f"entrypoint: train.py\nrequirements: {requirements}\nparams: {params}\nretry: {{max_errors: 3}}\n"
    )
    return driverun("submit", str(job), root=root).strip()


def work(root: Path, name: str, *, expect: int, **environment: str) -> str:
    with runtime(root, name, **environment) as machine:
        assert machine.process.wait(timeout=120) == expect, machine.log()
        return machine.log()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    driverun("init", root=root)
    write_wheel(tmp_path / "links", "tinya", "1.5", requires=["tinyb"], program="tiny")
    write_wheel(tmp_path / "links", "tinyb", "1.2")
    write_wheel(tmp_path / "links", "tinyold", "1.0", requires=["numpy<1.5"])
    return root


def test_a_resume_needs_no_index_any_more(root: Path, tmp_path: Path) -> None:
    environment = offline(tmp_path / "links")
    run_id = submit(root, "job", '["tinya>=1"]', "{wait: 1}")
    with runtime(root, "cut", **environment) as machine:
        machine.wait_until(lambda: installed(machine))
        machine.power_cut()
    shutil.rmtree(tmp_path / "links")
    shutil.rmtree(tmp_path / "uv-cache", ignore_errors=True)
    log = work(root, "next", expect=0, **environment)
    assert "packages from the root: tinya 1.5, tinyb 1.2" in log
    found = status(root, run_id)
    assert found["state"] == "SUCCEEDED"
    assert len(found["attempts"]) == 2
    assert (root / found["results"]["path"] / "outputs" / "result.txt").read_text() == "1.5"
    assert "tinya 1.5" in driverun("logs", run_id, root=root).splitlines()


def test_packages_are_kept_on_drive(tmp_path: Path, drive: Drive) -> None:
    write_wheel(tmp_path / "links", "tinya", "1.5", program="tiny")
    drive.driverun("init")
    root = tmp_path / "machines" / "drive"
    root.parent.mkdir()
    runs = []
    for name in ("first", "second"):
        job = tmp_path / name
        job.mkdir()
        (job / "train.py").write_text(SCRIPT)
        (job / "job.yaml").write_text("entrypoint: train.py\nrequirements: [tinya]\n")
        runs.append(drive.driverun("submit", str(job)).strip())
        environment = {**drive.environment, **offline(tmp_path / "links")}
        with runtime(root, name, address=ROOT, **environment) as machine:
            assert machine.process.wait(timeout=120) == 0, machine.log()
            assert ("packages from the root" in machine.log()) == (name == "second")
        shutil.rmtree(tmp_path / "links", ignore_errors=True)
    assert [drive.status(run_id)["state"] for run_id in runs] == ["SUCCEEDED"] * 2
    assert untidiness(drive.admin.files()) == []


def installed(machine: Runtime) -> bool:
    return "| installed" in machine.disk.with_suffix(".log").read_text()


def test_packages_that_cannot_be_had_fail_their_run_alone(root: Path, tmp_path: Path) -> None:
    conflict = submit(root, "conflict", '["numpy<1.5"]')
    brought = submit(root, "brought", '["tinyold"]')
    nowhere = submit(root, "nowhere", '["nothere>=3"]')
    good = submit(root, "good", '["tinya"]')
    log = work(root, "all", expect=1, **offline(tmp_path / "links"))
    assert status(root, good)["state"] == "SUCCEEDED", log
    for run_id, words in (
        (conflict, ("numpy<1.5 is wanted by the job", "this runtime has numpy", "leave it out")),
        (brought, ("tinyold", "numpy<1.5", "This runtime has numpy")),
        (nowhere, ("nothere", "Ask for versions that exist")),
    ):
        found = status(root, run_id)
        assert (found["state"], len(found["attempts"])) == ("FAILED", 1), "another try would meet the same"
        for word in words:
            assert word in found["reason"], found["reason"]
            assert word in log
