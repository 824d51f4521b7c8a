"""What a root says of work for machines elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from driverun.clock import Clock
from driverun.dispatch.choose import Capabilities, candidate_of, waiting_for
from driverun.dispatch.ledger import Ledger
from driverun.execution.client import Client
from driverun.execution.discovering import Discovery
from driverun.report.summary import RunSummary
from driverun.runs.layout import AttemptKey
from driverun.runs.record import AttemptState
from driverun.runs.state import RunState, WaitingFor
from driverun.spec.model import Accelerator

GPU = Capabilities(accelerators=frozenset({Accelerator.GPU}), allows_cpu=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLook:
    """How things stand, as far as a runtime with a GPU is concerned."""

    claimable: tuple[str, ...] = ()  #: runs that it could take up now
    left: Mapping[str, str] = field(
        default_factory=dict
    )  #: run -> why it is not done, for all that are not over
    alive: frozenset[AttemptKey] = frozenset()  #: attempts whose record moves
    died: frozenset[AttemptKey] = frozenset()  #: attempts whose record stands still since longer than a lease
    attempts: frozenset[AttemptKey] = frozenset()  #: all of them
    failed: Mapping[str, str] = field(default_factory=dict)  #: run -> why
    steps: Mapping[str, int] = field(default_factory=dict)  #: run -> how far it has come, as last heard of
    progress: frozenset[tuple[str, str, int]] = (
        frozenset()
    )  #: what can only change when something was achieved


class RootQueue:
    """A root's runs, looked at again and again."""

    def __init__(self, client: Client, *, clock: Clock, quiet_s: float, by: str) -> None:
        self._client = client
        self._clock = clock
        self._ledger = Ledger(client.store)
        self._discovery = Discovery(client.store, quiet_s=quiet_s, clock=clock, by=by)

    def settle(self) -> Mapping[str, str]:
        """Make runs of the jobs that lie on the root, as a worker would; waits for those that are just arriving.

        Gives the jobs that cannot become runs, with their faults.
        """
        while True:
            self._ledger.refresh()
            _, soonest_s = self._discovery.look(self._ledger)
            if soonest_s is None:
                invalid = self._discovery.invalid
                return {name: "; ".join(map(str, job.faults)) for name, job in invalid.items()}
            self._clock.sleep(soonest_s)

    def look(self) -> QueueLook:
        """How things stand now. Raises StoreError: the root is out of reach."""
        runs = self._client.runs()
        self._ledger.refresh()
        lacks = {run.run_id: self._lack(run) for run in runs if run.state.is_claimable}
        views = [
            (AttemptKey(run_id=run.run_id, number=each.number, worker=each.worker), each)
            for run in runs
            for each in run.attempts
            if each.owned
        ]
        left = {run_id: lack or "not taken up yet" for run_id, lack in lacks.items()}
        left |= {run.run_id: "a worker is at it" for run in runs if run.state is RunState.RUNNING}
        return QueueLook(
            claimable=tuple(run_id for run_id, lack in lacks.items() if not lack),
            left=left,
            alive=frozenset(key for key, each in views if each.state is AttemptState.RUNNING),
            died=frozenset(key for key, each in views if each.died),
            attempts=frozenset(key for key, _ in views),
            failed={run.run_id: run.reason for run in runs if run.state is RunState.FAILED},
            steps={run.run_id: run.step for run in runs},
            progress=frozenset(
                (run.run_id, run.state.value if run.state.is_over else "", run.committed_step or 0)
                for run in runs
            ),
        )

    def _lack(self, run: RunSummary) -> str:
        """Why a runtime with a GPU cannot take it up; "" if it can."""
        evidence = self._ledger.run(run.run_id)
        candidate = candidate_of(evidence) if evidence is not None else None
        if candidate is None:
            return "its submission is not complete"
        lack = waiting_for(candidate, GPU)
        if lack is not None:
            return lack.text
        if run.waiting_for in (None, WaitingFor.ACCELERATOR, WaitingFor.MEMORY):
            return ""  # the client says that of whatever asks for a GPU or memory: it knows no runtime
        return run.reason or f"waits for {run.waiting_for.value}"
