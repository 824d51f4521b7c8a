"""The kernel of a VM: executes code as a notebook does. It runs by itself, on a machine without driverun."""

from __future__ import annotations

import sys
import types
from pathlib import Path


def main(unassigned: Path, source: Path) -> None:
    """Execute `source`.

    Args:
        unassigned: the file that is written when the VM gives itself back.
    """

    def unassign() -> None:
        installed = sys.modules.get("driverun")
        part = unassigned.with_suffix(".part")
        part.write_text(str(getattr(installed, "__file__", None)))
        part.rename(unassigned)

    colab, runtime = types.ModuleType("google.colab"), types.ModuleType("google.colab.runtime")
    runtime.unassign = unassign  # type: ignore[attr-defined]
    colab.runtime = runtime  # type: ignore[attr-defined]
    sys.modules |= {"google.colab": colab, "google.colab.runtime": runtime}
    code = compile(source.read_text(encoding="utf-8"), "<cell>", "exec")
    exec(code, {"__name__": "__main__"})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
