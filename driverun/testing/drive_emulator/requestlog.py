"""Every request that came, so that tests and benchmarks count them."""

from __future__ import annotations

import json
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

#: Records in memory; an emulator that runs for days keeps its size.
KEPT = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request, and what became of it."""

    number: int  #: from 1, in the order in which they ended
    at: str  #: when it ended, RFC 3339
    method_id: (
        str  #: as in `drive.files.get`; `upload` for the chunks of a session; `token`, `batch`; `unknown`
    )
    verb: str
    path: str
    query: str  #: as it came, without tokens
    status: int  #: 0: no answer was sent
    request_bytes: int  #: of the body
    response_bytes: int  #: of the body, as far as it was sent
    account: str  #: an e-mail; empty: unknown
    fault: str = ""  #: as in `drop@after`; empty: none
    agent: str = ""  #: what the client calls itself

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> RequestRecord:
        return cls(**given)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class RequestLog:
    """The newest records, in memory; and all of them, as JSON lines in a file that can be read at any time."""

    def __init__(self, path: Path) -> None:
        self._turn = threading.Lock()
        self._records: deque[RequestRecord] = deque(maxlen=KEPT)
        self._number = 0
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def add(self, **about: Any) -> None:
        with self._turn:
            self._number += 1
            record = RequestRecord(number=self._number, **about)
            self._records.append(record)
            if not self._file.closed:
                self._file.write(json.dumps(record.to_json(), separators=(",", ":")) + "\n")

    def __iter__(self) -> Iterator[RequestRecord]:
        with self._turn:
            return iter(list(self._records))

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> RequestRecord:
        return self._records[index]

    def count(self, method_id: str | None = None) -> int:
        """Return how many requests there were, of one method or of all."""
        return sum(method_id is None or record.method_id == method_id for record in self)

    def counts(self) -> Counter[str]:
        """Return how many there were of each method."""
        return Counter(record.method_id for record in self)

    def clear(self) -> None:
        """Forget what was in memory; the file stays."""
        with self._turn:
            self._records.clear()

    def close(self) -> None:
        with self._turn:
            self._file.close()
