"""Training jobs that live in a folder and survive whatever happens to the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from driverun.client import Client, RunHandle, RunState, RunSummary
    from driverun.training.current import current_run

__all__ = ["Client", "RunHandle", "RunState", "RunSummary", "__version__", "current_run"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for: a script pays for what it uses."""
    if name == "current_run":
        from driverun.training.current import current_run

        return current_run
    if name in ("Client", "RunHandle", "RunState", "RunSummary"):
        from driverun import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
