"""Ids for files that are yet to be created.

Whoever names the id beforehand can ask again after a lost answer: the second creation is refused with 409, and
there is one file (developers.google.com/drive/api/guides/create-file).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

BATCH = 100  #: ids fetched by one request; Drive gives up to 1000


class IdPool:
    """Ids that Drive has set aside for this account; threads may share it."""

    def __init__(self, fetch: Callable[[int], Sequence[str]], *, batch: int = BATCH) -> None:
        self._fetch = fetch
        self._batch = batch
        self._ids: list[str] = []
        self._turn = threading.Lock()

    def take(self) -> str:
        """An id that nobody has used. It may ask Drive for more, and raises what that raises."""
        with self._turn:
            if not self._ids:
                self._ids = list(self._fetch(self._batch))[::-1]
            return self._ids.pop()
