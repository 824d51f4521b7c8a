"""The record of an attempt, kept in step with what is known of it."""

from __future__ import annotations

from collections.abc import Mapping

from driverun.dispatch.heartbeat import RecordKeeper
from driverun.dispatch.trust import names_no_stranger
from driverun.errors import IntegrityError, LostOwnership, ObjectNotFound, SpecError, StoreError
from driverun.execution.context import WorkerContext
from driverun.execution.course import Course
from driverun.execution.ending import EndWatch
from driverun.execution.limits import Limits
from driverun.execution.outcome import Outcome
from driverun.execution.persisting import persist
from driverun.execution.stopping import Abandoned
from driverun.execution.trouble import Trouble
from driverun.purpose import on_behalf_of
from driverun.runs.record import AttemptState, Record, Wish
from driverun.spec.identity import spec_from_json
from driverun.storage.base import people_of, read_believed


class AttemptRecord:
    """Writes the heartbeats and the outcome of one attempt. It may be used from many threads."""

    def __init__(self, context: WorkerContext, course: Course, ends: EndWatch) -> None:
        self._context = context
        self._course = course
        self._ends = ends
        now = context.clock.now()
        self._keeper = RecordKeeper(
            context.store,
            context.clock,
            Record(
                run_id=course.key.run_id,
                number=course.key.number,
                worker=course.key.worker,
                process=context.process,
                state=AttemptState.RUNNING,
                beat=0,
                started_at=now,
                updated_at=now,
                lease_s=context.settings.lease_s,
                reason="preparing",
            ),
        )
        self._trouble = Trouble(context.say, context.clock)
        #: The submission whose limits are in force; None: the one that was claimed.
        self._limits_of: str | None = None

    def create(self) -> None:
        """Write it for the first time."""
        self._keeper.create()

    def beat(self) -> None:
        """Look whether the run is still ours, and say that we are alive; what the root refuses is said another time."""
        key, beat = self._course.key, self._keeper.record.beat + 1
        if self._ends.is_abandoned():
            return
        try:
            with on_behalf_of(f"heartbeat {beat} of {key}"):
                self._ends.ownership.look()
                self._take_new_limits()
                self._keeper.beat(**{**self._course.fields_of_record(), "reason": self._course.doing})
            self._trouble.over("the heartbeat is back")
        except (LostOwnership, Abandoned):
            return  # the attempt's own thread finds out by itself
        except StoreError as exc:
            self._trouble.met(exc, f"no heartbeat for now: {exc}")

    def as_known(self) -> Record:
        """The record as a heartbeat would write it now."""
        return self._keeper.record.moved(**self._course.fields_of_record())

    def finish(self, outcome: Outcome) -> None:
        """Write the outcome; a record that cannot be written stands still, which says enough."""
        if outcome.superseded:
            return
        changes = {**self._course.fields_of_record(), "reason": outcome.reason}
        if outcome.state is AttemptState.FAILED:
            changes["failure"] = outcome.failure
        if outcome.state is AttemptState.SUCCEEDED:
            told = self._course.told
            changes.update(results=outcome.results, outputs_sha256=outcome.outputs_sha256)
            changes.update(state_sha256=told.state_sha256, total_steps=told.step)
        persist(self._context, lambda: self._keeper.finish(outcome.state, **changes), what="the outcome")

    def _take_new_limits(self) -> None:
        """Who submits the job again with other limits means the attempt that is at work as well."""
        path = self._ends.ownership.resubmitted
        if path is None or path == self._limits_of:
            return
        try:
            store = self._context.store
            details = Wish.from_bytes(read_believed(store, path)).details
            # A worker of ours submits what it finds, and says whose files they are.
            spec = details.get("spec") if names_no_stranger(details, people_of(store)) else None
            limits = Limits.of(spec_from_json(spec)) if isinstance(spec, Mapping) else None
        except (IntegrityError, ObjectNotFound, SpecError) as exc:
            self._context.say(f"{self._course.key.run_id}: a newer submission is passed over: {exc}")
            limits = None
        self._limits_of = path
        if limits is not None:
            self._ends.limits.limits = limits
