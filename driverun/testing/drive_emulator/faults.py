"""Faults on order: which call is answered how, and on which side of its work."""

from __future__ import annotations

import random as random_module
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

BEFORE = "before"
AFTER = "after"

#: Kinds that are no status.
KINDS = {
    "html": "502 with an HTML page instead of JSON",
    "drop": "the connection is closed without an answer",
    "hang": "no answer comes for `seconds`, and then the connection is closed",
    "empty_body": "200 with nothing in it",
    "truncate": "the answer ends half-way, and the connection is closed",
    "corrupt": "one byte of a download is another one",
    "stale": "a listing shows what was there `seconds` ago",
    "expire_token": "every token of the account is expired from now on",
    "latency": "the call takes `seconds` longer",
    "bandwidth": "the bytes of the answer and of the request pass at `mbps`",
}
#: Which of them make sense on one side of the work only.
ONLY_BEFORE = frozenset({"expire_token", "bandwidth", "stale"})
ONLY_AFTER = frozenset({"empty_body", "truncate", "corrupt"})

#: What may be stale.
LISTINGS = frozenset(
    {
        "drive.files.list",
        "drive.children.list",
        "drive.changes.list",
        "drive.changes.getStartPageToken",
    }
)

#: What `fault_rate` draws from: everything after which a client that tries again succeeds.
DRAWN: Sequence[tuple[str, str]] = (
    ("status:401:authError", BEFORE),
    ("status:403:userRateLimitExceeded", BEFORE),
    ("status:403:rateLimitExceeded", BEFORE),
    ("status:408", BEFORE),
    ("status:429", BEFORE),
    ("status:500", BEFORE),
    ("status:500", AFTER),
    ("status:502", BEFORE),
    ("status:503", BEFORE),
    ("status:503", AFTER),
    ("status:504", AFTER),
    ("html", BEFORE),
    ("html", AFTER),
    ("drop", BEFORE),
    ("drop", AFTER),
    ("hang", BEFORE),
    ("hang", AFTER),
    ("empty_body", AFTER),
    ("truncate", AFTER),
    ("corrupt", AFTER),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes wrong with calls that fit.

    Raises:
        ValueError: the kind, or the side of the work, is none.
    """

    kind: str  #: one of KINDS, or `status:<code>`, or `status:<code>:<reason>`
    method: str = "*"  #: a pattern of method ids, as in `drive.files.*`; `upload` for the chunks of a session
    account: str = "*"  #: a pattern of e-mails
    path: str = "*"  #: a pattern of paths
    when: str = BEFORE  #: the work is not done; or `after`: it is done, and the client does not hear of it
    skip: int = 0  #: so many calls that fit pass first
    times: int | None = 1  #: not more often than this; None: without end
    rate: float = 1.0  #: the probability that a call which fits, and is not skipped, meets it
    seconds: float | None = None  #: of a hang (None: as the settings say), of latency, of a stale listing
    mbps: float = 1.0  #: of bandwidth
    after_bytes: int | None = None  #: of a drop: it comes when so much of the request's body has arrived
    message: str = ""  #: of a status; empty: Drive's own words

    def __post_init__(self) -> None:
        if self.kind not in KINDS and not self._is_status():
            raise ValueError(f"{self.kind!r} is no fault: status:<code>[:<reason>], {', '.join(KINDS)}")
        if self.when not in (BEFORE, AFTER):
            raise ValueError(f"a fault happens before or after the work, not {self.when!r}")

    def _is_status(self) -> bool:
        parts = self.kind.split(":")
        return parts[0] == "status" and len(parts) in (2, 3) and parts[1].isdigit()

    @property
    def status(self) -> int | None:
        return int(self.kind.split(":")[1]) if self.kind.startswith("status:") else None

    @property
    def reason(self) -> str:
        return self.kind.partition(":")[2].partition(":")[2]

    @property
    def side(self) -> str:
        """On which side of the work it happens, whatever was asked for."""
        if self.kind in ONLY_BEFORE:
            return BEFORE
        return AFTER if self.kind in ONLY_AFTER else self.when

    @property
    def label(self) -> str:
        """How the request log calls it."""
        return f"{self.kind}@{self.side}"

    def fits(self, subject: Subject) -> bool:
        return (
            (self.method == "*" or fnmatchcase(subject.method_id, self.method))
            and (self.account == "*" or fnmatchcase(subject.account, self.account))
            and (self.path == "*" or fnmatchcase(subject.path, self.path))
            and (self.kind != "corrupt" or subject.is_download)
            and (self.kind != "stale" or subject.method_id in LISTINGS)
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A call, as far as faults look at it."""

    method_id: str
    account: str
    path: str
    is_download: bool


class Faults:
    """The faults that are ordered; the first one that fits and whose draw succeeds happens."""

    def __init__(self, *, seed: int, rate: Callable[[], float]) -> None:
        self._turn = threading.Lock()
        self._faults: list[tuple[Fault, random_module.Random]] = []
        self._seed = seed
        self._rate = rate
        self._added = 0
        self._random = random_module.Random(f"rate {seed}")

    def add(self, fault: Fault) -> None:
        with self._turn:
            self._added += 1
            self._faults.append((fault, random_module.Random(f"fault {self._seed} {self._added}")))

    def clear(self) -> None:
        with self._turn:
            self._faults.clear()

    def waiting(self) -> list[Fault]:
        """Return those that may still happen, as they stand: `skip` and `times` are what is left."""
        with self._turn:
            return [fault for fault, _ in self._faults]

    def draw(self, subject: Subject) -> Fault | None:
        """Return what happens to a call; None: nothing does."""
        with self._turn:
            for index, (fault, random) in enumerate(self._faults):
                if not fault.fits(subject):
                    continue
                if fault.skip:
                    self._faults[index] = (replace(fault, skip=fault.skip - 1), random)
                    continue
                if fault.rate < 1.0 and random.random() >= fault.rate:
                    continue
                if fault.times is not None:
                    left = replace(fault, times=fault.times - 1)
                    self._faults[index] = (left, random)
                    if left.times == 0:
                        del self._faults[index]
                return fault
            rate = self._rate()
            if rate > 0 and self._random.random() < rate:
                kind, when = self._random.choice(DRAWN)
                if kind == "corrupt" and not subject.is_download:
                    kind = "truncate"
                return Fault(kind=kind, when=when)
            return None
