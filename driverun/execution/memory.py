"""How much main memory the processes of this machine, or of this container, may have in all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


def memory_bytes(*, proc: Path = PROC, cgroups: Path = CGROUPS) -> int:
    """The machine's memory, or a limit of the container where that is less; 0 where the system does not tell."""
    machine = _of_machine(proc)
    return min([limit for limit in (machine, *_limits(proc, cgroups)) if limit > 0], default=0)


def _of_machine(proc: Path) -> int:
    try:
        for line in (proc / "meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # macOS has no /proc
    except (AttributeError, OSError, ValueError):
        return 0


def _limits(proc: Path, cgroups: Path) -> Iterator[int]:
    """Every limit that is set on the group of this process or on one around it, by both versions of cgroups.

    In a container the path of the group may be the host's, while what is mounted begins at the container's own;
    so the top of the mount is read as well.
    """
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    places = {(cgroups, "memory.max"), (cgroups / "memory", "memory.limit_in_bytes")}
    for line in lines:
        if line.count(":") < 2:
            continue
        _, kinds, path = line.split(":", 2)
        if kinds == "":
            top, file = cgroups, "memory.max"
        elif "memory" in kinds.split(","):
            top, file = cgroups / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = top / path.lstrip("/")
        places |= {(folder, file) for folder in (group, *group.parents) if folder.is_relative_to(top)}
    for folder, file in sorted(places):
        try:
            yield int((folder / file).read_text(encoding="ascii"))
        except (OSError, ValueError):  # none is set: "max", or no such file
            continue
