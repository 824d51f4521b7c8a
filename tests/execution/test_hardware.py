"""What the machine has, asked of a stand-in for nvidia-smi: well, hanging, failing, senseless or not there."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from driverun.assembly import capabilities
from driverun.execution.context import WorkerContext
from driverun.execution.hardware import (
    GpuProcess,
    GpuUse,
    Machine,
    describe,
    facts_of,
    gpu_processes,
    gpu_uses,
    look_at_machine,
    strangers,
)
from driverun.execution.worker import Mode, Worker
from driverun.runs.state import RunState, WaitingFor
from driverun.spec.model import Accelerator
from driverun.transfer.results import read_results_manifest
from tests.execution.world import World

GIB = 1 << 30
T4 = GpuUse(
    name="Tesla T4", total_bytes=15 * GIB, used_bytes=1 * GIB, busy_percent=37, driver="580.82", uuid="GPU-1"
)
T4_ROW = "Tesla T4, 15360, 1024, 37, 580.82, GPU-1"


def smi(folder: Path, *, gpus: str = T4_ROW, processes: str = "", script: str = "") -> dict[str, str]:
    """The environment of a machine whose nvidia-smi answers so, or does as `script` says."""
    tool = folder / "nvidia-smi"
    answers = f"""case "$1" in
--query-gpu=name,memory.total,memory.used,utilization.gpu,driver_version,uuid) cat <<'END'
{gpus}
END
;;
--query-compute-apps=pid,process_name,used_memory) cat <<'END'
{processes}
END
;;
*) echo "ERROR: Field is not a valid field to query." ; exit 2 ;;
esac
[ "$2" = --format=csv,noheader,nounits ] || exit 2
"""
    tool.write_text(f"#!/bin/sh\n{script or answers}")
    tool.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin"}


def test_a_machine_with_a_gpu_is_told_in_one_line(tmp_path: Path) -> None:
    machine = look_at_machine(tmp_path / "not" / "there" / "yet", environment=smi(tmp_path))
    assert machine.gpus == (T4,)
    assert machine.no_gpu == ""
    assert machine.memory_bytes > 0
    assert machine.disk_free_bytes > 0
    assert 1 <= machine.cores <= (os.cpu_count() or 1)
    known = replace(machine, memory_bytes=int(12.67 * GIB), disk_free_bytes=int(71.3 * GIB), cores=2)
    assert describe(known) == ("Tesla T4 15.0 GB (driver 580.82), 12.7 GB memory, 71 GB disk free, 2 cores")


def test_how_busy_the_gpus_are_can_be_asked_again_and_again(tmp_path: Path) -> None:
    environment = smi(tmp_path, gpus=f"{T4_ROW}\nNVIDIA A100-SXM4-40GB, 40960, 0, [N/A], 580.82, GPU-2")
    first, second = gpu_uses(environment=environment)
    assert (first.busy_percent, first.used_bytes) == (37, GIB)
    assert (second.name, second.busy_percent) == ("NVIDIA A100-SXM4-40GB", 0)


FAILURES: Mapping[str, tuple[str, str]] = {
    "hangs": ("sleep 60", "did not answer within 0.3 s"),
    "fails": (
        "echo 'NVIDIA-SMI has failed because it could not communicate'; exit 9",
        "could not communicate",
    ),
    "fails without a word": ("exit 3", "code 3"),
    "speaks in tongues": ("echo 'Segmentation fault, core dumped'", "makes no sense: Segmentation fault"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_an_nvidia_smi_that_is_not_well_means_no_gpu_and_the_reason_is_kept(
    tmp_path: Path, failure: str
) -> None:
    script, reason = FAILURES[failure]
    environment = smi(tmp_path, script=script)
    machine = look_at_machine(tmp_path, environment=environment, limit_s=0.3)
    assert machine.gpus == ()
    assert reason in machine.no_gpu
    assert describe(machine).startswith("no GPU (")
    assert gpu_uses(environment=environment, limit_s=0.3) == ()
    assert gpu_processes(environment=environment, limit_s=0.3) == ()


def test_a_machine_without_nvidia_smi_or_without_devices_has_no_gpu_and_nothing_to_say(
    tmp_path: Path,
) -> None:
    for environment in ({"PATH": "/nowhere"}, smi(tmp_path, gpus="No devices were found")):
        machine = look_at_machine(tmp_path, environment=environment)
        assert (machine.gpus, machine.no_gpu) == ((), "")
        assert describe(machine).startswith("no GPU, ")


def test_a_gpu_that_the_environment_hides_is_none(tmp_path: Path) -> None:
    machine = look_at_machine(tmp_path, environment={**smi(tmp_path), "CUDA_VISIBLE_DEVICES": "-1"})
    assert machine.gpus == ()
    assert "CUDA_VISIBLE_DEVICES" in machine.no_gpu


def test_who_holds_memory_of_the_gpu_is_named_with_what_to_do(tmp_path: Path) -> None:
    rows = f"1234, /usr/bin/python3, a b, 11469\n{os.getpid()}, python3, 300\n77, idle, [N/A]"
    found = gpu_processes(environment=smi(tmp_path, processes=rows))
    assert found[0] == GpuProcess(pid=1234, name="/usr/bin/python3,a b", used_bytes=11469 << 20)
    other, own = strangers(found, (T4,))
    assert other.startswith("pid 1234 /usr/bin/python3,a b holds 11.2 of 15.0 GB of the GPU's memory")
    assert "Restart session of the other notebook" in other
    assert own.startswith(f"this very process (pid {os.getpid()}) holds 0.3 of 15.0 GB")


def test_what_a_runtime_can_do_follows_from_its_gpus() -> None:
    assert capabilities(allow_cpu=False, machine=Machine()).accelerators == frozenset()
    assert capabilities(allow_cpu=False, machine=Machine(gpus=(T4,))).accelerators == {Accelerator.GPU}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def on(machine: Machine, worker: Worker, *processes: GpuProcess) -> Worker:
    """The worker, had it found itself on that machine."""
    context: WorkerContext = worker._context
    worker._context = replace(
        context,
        machine=machine,
        capabilities=capabilities(allow_cpu=True, machine=machine),
        gpu_processes=lambda: processes,
    )
    return worker


def test_the_record_and_the_results_say_on_what_it_was_trained(world: World) -> None:
    run_id = world.job()
    machine = Machine(gpus=(T4,), memory_bytes=13 * GIB, disk_free_bytes=71 * GIB, cores=2)
    stranger = GpuProcess(pid=99, name="python3", used_bytes=GIB)
    on(machine, world.worker(), stranger).work(Mode.UNTIL_EMPTY)
    run = world.client.run(run_id)
    assert run.results_path is not None
    environment = read_results_manifest(world.store, run.results_path).summary["environment"]
    assert {name: environment[name] for name in facts_of(machine)} == {
        "gpu": "Tesla T4",
        "gpu_memory": "15.0 GB",
        "gpu_driver": "580.82",
        "memory": "13.0 GB",
        "disk_free": "71 GB",
        "cores": "2",
    }
    assert environment["keras"] == "scripted"
    assert "Tesla T4" in world.client.report(run_id)
    assert [line for line in world.said if line.startswith("pid 99 python3 holds 1.0 of 15.0 GB")]


def test_a_job_for_a_gpu_waits_where_there_is_none_and_says_so_everywhere(world: World) -> None:
    run_id = world.job(accelerator="gpu")
    worked = on(Machine(no_gpu="nvidia-smi failed: no driver"), world.worker()).work(Mode.UNTIL_EMPTY)
    assert "wants a GPU; this runtime has no accelerator" in worked.left[run_id]
    assert world.said.count("no GPU is used: nvidia-smi failed: no driver") == 1
    run = world.client.run(run_id)
    assert (run.state, run.waiting_for) == (RunState.QUEUED, WaitingFor.ACCELERATOR)

    on(Machine(gpus=(T4,)), world.worker()).work(Mode.UNTIL_EMPTY)
    run = world.client.run(run_id)
    assert (run.state, run.waiting_for) == (RunState.SUCCEEDED, None)


def test_tensorflow_takes_memory_as_it_needs_it_or_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what its own dependencies warn of is not asked here
        import tensorflow as tf

        from driverun.training import keras_stack

    grown: list[str] = []
    said: list[str] = []

    class Session:
        say = staticmethod(said.append)

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [f"/{kind}:0", f"/{kind}:1"])
    monkeypatch.setattr(
        tf.config.experimental, "set_memory_growth", lambda device, enable: grown.append(device)
    )
    keras_stack._grow_memory(Session())  # type: ignore[arg-type]
    assert (grown, said) == (["/GPU:0", "/GPU:1"], [])

    def too_late(*_: object) -> None:
        raise RuntimeError("Physical devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", too_late)
    keras_stack._grow_memory(Session())  # type: ignore[arg-type]
    assert said == [
        "the GPU's memory was set up by the script before, and stays so:"
        " Physical devices cannot be modified after being initialized"
    ]
