"""What holds for the whole suite."""

from __future__ import annotations

import faulthandler

import pytest

EXIT_WITHIN_S = 120.0  #: after the last test; a process that still stands then waits for something for ever


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Say what keeps the interpreter from ending, rather than hang in silence."""
    del session
    faulthandler.dump_traceback_later(EXIT_WITHIN_S, exit=True)
