from __future__ import annotations

from pathlib import Path

import pytest

from driverun.execution.memory import memory_bytes

GIB = 2**30


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {}, 16 * GIB),
        ("0::/\n", {"memory.max": "max\n"}, 16 * GIB),
        ("0::/\n", {"memory.max": f"{4 * GIB}\n"}, 4 * GIB),
        ("0::/a/b\n", {"a/memory.max": f"{3 * GIB}\n", "a/b/memory.max": f"{5 * GIB}\n"}, 3 * GIB),
        ("0::/a/b\n", {"a/b/memory.max": f"{64 * GIB}\n"}, 16 * GIB),  # more than there is
        ("0::/of/the/host\n", {"memory.max": f"{2 * GIB}\n"}, 2 * GIB),
        ("4:memory:/x\n0::/\n", {"memory/x/memory.limit_in_bytes": f"{GIB}\n"}, GIB),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 16 * GIB),
        ("nonsense\n", {"memory.max": "lots"}, 16 * GIB),
    ],
)
def test_the_least_of_the_machine_and_all_limits_counts(
    tmp_path: Path, groups: str, files: dict[str, str], expected: int
) -> None:
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal: {16 * GIB // 1024} kB\nMemFree: 1 kB\n")
    (proc / "self" / "cgroup").write_text(groups)
    for path, content in files.items():
        (cgroups / path).parent.mkdir(parents=True, exist_ok=True)
        (cgroups / path).write_text(content)
    assert memory_bytes(proc=proc, cgroups=cgroups) == expected


def test_this_machine_has_memory() -> None:
    assert memory_bytes() > 0
