"""What the requests of this thread are for, so that whoever reads a log of requests can tell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_purpose: ContextVar[str] = ContextVar("purpose", default="")


@contextmanager
def on_behalf_of(purpose: str) -> Iterator[None]:
    """Let all requests of the block say that they are for `purpose`; the inner one of two blocks counts."""
    before = _purpose.set(purpose)
    try:
        yield
    finally:
        _purpose.reset(before)


def current_purpose() -> str:
    """What this thread is at; "" where nobody said."""
    return _purpose.get()
