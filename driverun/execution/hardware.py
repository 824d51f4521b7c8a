"""The machine that a worker finds itself on, asked of the system and of `nvidia-smi`, without any framework."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from driverun.execution.memory import memory_bytes
from driverun.transfer.asking import ask

NVIDIA_SMI = "nvidia-smi"
LIMIT_S = 10.0  #: one that is well answers within a second; the first time on a fresh runtime takes longest
_MIB = 1 << 20
_GIB = 1 << 30
_GPU_FIELDS = ("name", "memory.total", "memory.used", "utilization.gpu", "driver_version", "uuid")
_PROCESS_FIELDS = ("pid", "process_name", "used_memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuUse:
    """One GPU, and how busy it is."""

    name: str
    total_bytes: int  #: of its memory
    used_bytes: int
    busy_percent: int  #: of the last moment; 0 where it does not tell
    driver: str
    uuid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """A process that holds memory of a GPU."""

    pid: int  #: as nvidia-smi counts, which in a container may be another machine's count
    name: str
    used_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What this machine has."""

    gpus: tuple[GpuUse, ...] = ()
    no_gpu: str = ""  #: why there are none although there seem to be; "" where nothing speaks for one
    memory_bytes: int = 0  #: of the machine or the container, in all; 0 where it does not tell
    disk_free_bytes: int = 0  #: where local work is done
    cores: int = 1  #: that this process may use


class _NoAnswer(Exception):
    """nvidia-smi did not say what it was asked; the text says why."""


def look_at_machine(
    workdir: Path, *, environment: Mapping[str, str] | None = None, limit_s: float = LIMIT_S
) -> Machine:
    """What this machine has now; what cannot be found out is left out.

    Args:
        workdir: the folder of local work; it need not exist yet.
        environment: where nvidia-smi is looked for, and what it is given; None: that of this process.
        limit_s: after which nvidia-smi counts as one that hangs.
    """
    surroundings = os.environ if environment is None else environment
    gpus: tuple[GpuUse, ...] = ()
    no_gpu = ""
    try:
        gpus = _gpus(surroundings, limit_s)
    except _NoAnswer as exc:
        no_gpu = str(exc)
    hidden = surroundings.get("CUDA_VISIBLE_DEVICES")
    if gpus and hidden is not None and hidden.strip() in ("", "-1"):
        gpus, no_gpu = (), "CUDA_VISIBLE_DEVICES hides it from every job"
    return Machine(
        gpus=gpus,
        no_gpu=no_gpu,
        memory_bytes=memory_bytes(),
        disk_free_bytes=_disk_free_bytes(workdir),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    )


def gpu_uses(*, environment: Mapping[str, str] | None = None, limit_s: float = LIMIT_S) -> tuple[GpuUse, ...]:
    """The GPUs as they are now; none where nvidia-smi does not answer."""
    try:
        return _gpus(os.environ if environment is None else environment, limit_s)
    except _NoAnswer:
        return ()


def gpu_processes(
    *, environment: Mapping[str, str] | None = None, limit_s: float = LIMIT_S
) -> tuple[GpuProcess, ...]:
    """Who holds memory of a GPU now; none where nvidia-smi does not answer."""
    surroundings = os.environ if environment is None else environment
    try:
        rows = _ask(f"--query-compute-apps={','.join(_PROCESS_FIELDS)}", surroundings, limit_s)
    except _NoAnswer:
        return ()
    found = []
    for row in rows:
        if len(row) >= len(_PROCESS_FIELDS) and row[0].isdigit():
            name = ",".join(row[1:-1])
            found.append(GpuProcess(pid=int(row[0]), name=name, used_bytes=_mib(row[-1]) * _MIB))
    return tuple(found)


def strangers(
    processes: tuple[GpuProcess, ...], gpus: tuple[GpuUse, ...], *, own_pid: int | None = None
) -> list[str]:
    """A line about each process that holds GPU memory which a job would need, with what to do about it.

    Args:
        processes: as `gpu_processes` found them, before a training process of ours is there.
        gpus: for how much there is in all.
        own_pid: of this process; None: the one that asks.
    """
    total_bytes = sum(gpu.total_bytes for gpu in gpus)
    own = os.getpid() if own_pid is None else own_pid
    lines = []
    for process in processes:
        if not process.used_bytes:
            continue
        of = f" of {_gb(total_bytes)}" if total_bytes else ""
        held = f"holds {process.used_bytes / _GIB:.1f}{of} of the GPU's memory"
        if process.pid == own:
            lines.append(
                f"this very process (pid {own}) {held}: something loaded a framework here before. In Colab,"
                " Runtime > Restart session, then run this cell alone"
            )
        else:
            lines.append(
                f"pid {process.pid} {process.name} {held}: end it if the job runs out of memory. In Colab,"
                " Runtime > Restart session of the other notebook"
            )
    return lines


def describe(machine: Machine) -> str:
    """The machine in one line: `Tesla T4 15.0 GB (driver 580.82), 12.7 GB memory, 71 GB disk free, 2 cores`.

    Sizes are in units of 2**30 bytes, as Colab shows them.
    """
    told = [f"{gpu.name} {_gb(gpu.total_bytes)} (driver {gpu.driver})" for gpu in machine.gpus]
    if not told:
        told.append(f"no GPU ({machine.no_gpu})" if machine.no_gpu else "no GPU")
    if machine.memory_bytes:
        told.append(f"{_gb(machine.memory_bytes)} memory")
    told.append(f"{machine.disk_free_bytes / _GIB:.0f} GB disk free")
    told.append(f"{machine.cores} core{'s' if machine.cores != 1 else ''}")
    return ", ".join(told)


def facts_of(machine: Machine) -> dict[str, str]:
    """What an attempt's record keeps of the machine."""
    facts = {
        "memory": _gb(machine.memory_bytes),
        "disk_free": f"{machine.disk_free_bytes / _GIB:.0f} GB",
        "cores": str(machine.cores),
    }
    if machine.gpus:
        facts |= {
            "gpu": ", ".join(gpu.name for gpu in machine.gpus),
            "gpu_memory": ", ".join(_gb(gpu.total_bytes) for gpu in machine.gpus),
            "gpu_driver": machine.gpus[0].driver,
        }
    return facts


def _gpus(environment: Mapping[str, str], limit_s: float) -> tuple[GpuUse, ...]:
    rows = _ask(f"--query-gpu={','.join(_GPU_FIELDS)}", environment, limit_s)
    found = []
    for row in rows:
        if len(row) != len(_GPU_FIELDS) or not row[1].isdigit():
            raise _NoAnswer(f"{NVIDIA_SMI} said what makes no sense: {', '.join(row)[:100]}")
        name, total, used, busy, driver, uuid = row
        found.append(
            GpuUse(
                name=name,
                total_bytes=_mib(total) * _MIB,
                used_bytes=_mib(used) * _MIB,
                busy_percent=int(busy) if busy.isdigit() else 0,  # some say [N/A]
                driver=driver,
                uuid=uuid,
            )
        )
    return tuple(found)


def _ask(query: str, environment: Mapping[str, str], limit_s: float) -> list[list[str]]:
    """The answer of nvidia-smi, row by row; empty where there is no such command. Raises _NoAnswer."""
    command = shutil.which(NVIDIA_SMI, path=environment.get("PATH", ""))
    if command is None:
        return []
    try:
        answer = ask(
            [command, query, "--format=csv,noheader,nounits"], environment=environment, limit_s=limit_s
        )
    except TimeoutError as exc:
        raise _NoAnswer(f"{NVIDIA_SMI} did not answer within {limit_s:g} s") from exc
    except OSError as exc:
        raise _NoAnswer(f"{command} cannot be started: {exc.strerror}") from exc
    if answer.code != 0:
        said = answer.lines[0] if answer.lines else f"code {answer.code}"
        raise _NoAnswer(f"{NVIDIA_SMI} failed: {said[:200]}")
    rows = [line for line in answer.lines if "No devices" not in line]
    return [[field.strip() for field in line.split(",")] for line in rows]


def _mib(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / _GIB:.1f} GB"


def _disk_free_bytes(folder: Path) -> int:
    for place in (folder, *folder.absolute().parents):
        try:
            return shutil.disk_usage(place).free
        except FileNotFoundError:
            continue
        except OSError:
            break
    return 0
