"""The log of a root's claims, as it is put together from what lay there."""

from __future__ import annotations

import pytest

from driverun.dispatch.ledger import Ledger
from driverun.launchers.root_history import RootHistory, attempt_logs
from driverun.runs.claim_log import RootObject
from driverun.runs.heads import head_of
from driverun.runs.record import AttemptState, Claim, ProcessId, Record
from driverun.storage.memory import MemoryStore
from driverun.testing.clock import FakeClock

PROCESS = ProcessId(host="soak-1", boot_id="b", pid=321, started="1")


@pytest.mark.parametrize("keeps_properties", [True, False])
def test_whose_process_an_attempt_was_is_known_when_it_is_over(*, keeps_properties: bool) -> None:
    """A listing does not tell it of what is over, and without it nobody knows which worker died or stood still."""
    clock = FakeClock()
    store = MemoryStore(clock)
    claim = Claim(
        run_id="digits-0123456789ab", number=1, worker="wab12cd", process=PROCESS, claimed_at=clock.now()
    )
    record = Record(
        run_id=claim.run_id,
        number=claim.number,
        worker=claim.worker,
        process=PROCESS,
        state=AttemptState.SUCCEEDED,
        beat=3,
        started_at=clock.now(),
        updated_at=clock.now(),
        ended_at=clock.now(),
        first_step=17,
        lease_s=42.0,
    )
    for path, value in ((claim.key.claim_file, claim), (claim.key.record_file, record)):
        content = value.to_bytes()
        store.create(path, content, properties=head_of(value, content) if keeps_properties else {})
    ledger, history = Ledger(store), RootHistory()
    ledger.refresh()
    history.take(
        RootObject(
            path=info.path,
            object_id=info.object_id,
            created_at=info.created_at,
            written_at=(info.modified_at,),
        )
        for info in store.list("", recursive=True)
    )

    (log,) = attempt_logs(ledger, history)

    assert (log.process, log.first_step, log.lease_s, log.says_succeeded) == (PROCESS, 17, 42.0, True)
