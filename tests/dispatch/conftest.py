from __future__ import annotations

from collections.abc import Callable

import pytest

from driverun.runs.layout import AttemptKey
from driverun.runs.record import AttemptState, Claim, ProcessId, Record
from driverun.storage.memory import MemoryStore
from driverun.testing.clock import FakeClock

RUN = "digits-0123456789ab"
PROCESS = ProcessId(host="lab", boot_id="b1", pid=7, started="99")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(clock: FakeClock) -> MemoryStore:
    return MemoryStore(clock)


@pytest.fixture
def key() -> AttemptKey:
    return AttemptKey(run_id=RUN, number=1, worker="anna")


@pytest.fixture
def new_claim(store: MemoryStore, clock: FakeClock) -> Callable[[AttemptKey], Claim]:
    """Writes a claim file and returns what is in it."""

    def create(key: AttemptKey) -> Claim:
        claim = Claim(
            run_id=key.run_id, number=key.number, worker=key.worker, process=PROCESS, claimed_at=clock.now()
        )
        store.create(key.claim_file, claim.to_bytes())
        return claim

    return create


@pytest.fixture
def first_record(clock: FakeClock) -> Callable[[AttemptKey], Record]:
    """Makes the record with which an attempt begins."""

    def make(key: AttemptKey) -> Record:
        return Record(
            run_id=key.run_id,
            number=key.number,
            worker=key.worker,
            process=PROCESS,
            state=AttemptState.RUNNING,
            beat=0,
            started_at=clock.now(),
            updated_at=clock.now(),
        )

    return make
