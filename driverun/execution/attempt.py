"""One attempt at a run, from the claim that was won to the outcome."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from driverun.errors import TransientStoreError
from driverun.execution.assignment import Assignment
from driverun.execution.concluding import outcome_of_error, outcome_of_exit
from driverun.execution.context import WorkerContext
from driverun.execution.course import Course
from driverun.execution.ending import EndWatch
from driverun.execution.hardware import facts_of
from driverun.execution.limits import Limits, LimitWatch
from driverun.execution.outcome import ABANDONED, CANCELLED, Outcome
from driverun.execution.ownership import OwnershipWatch
from driverun.execution.persisting import persist
from driverun.execution.preparing import Preparation, Prepared
from driverun.execution.publishing import publish, taken_over
from driverun.execution.recording import AttemptRecord
from driverun.execution.stopping import Abandoned, quietly, unless_abandoned
from driverun.execution.supervising import Supervisor, Trained
from driverun.execution.texts import Texts
from driverun.execution.viewing import AttemptView
from driverun.execution.withholding import Withholding
from driverun.execution.workdir import AttemptFolders
from driverun.runs.retries import worked_s
from driverun.spool.masking import Masker

PACK_POLL_S = 3600.0  #: packs are made once, at the first turn
PACK_PATIENCE_S = (
    30.0  #: for packs that are nearly done when the run is; nobody waits for them on a hand-over
)


class Attempt:
    """Carries one won claim to its end. `run` is called once.

    Each stage is a module of its own: `preparing`, `supervising`, `publishing`, `concluding`. What they share is in
    three values: the `Assignment` never changes, the `Course` is what becomes known, the `EndWatch` tells what may
    end it all.
    """

    def __init__(self, context: WorkerContext, assignment: Assignment) -> None:
        key, spec = assignment.key, assignment.spec
        self._secrets = context.secrets.gather(spec.secrets)
        self._masker = Masker(self._secrets.values)
        self._withholding = Withholding(self._masker)
        self._context = context = _masked(context, self._masker)
        self._assignment = assignment
        began_s = context.clock.monotonic()
        limits = LimitWatch(
            Limits.of(spec),
            run_id=key.run_id,
            began_s=began_s,
            worked_before_s=worked_s(assignment.derived),
        )
        self._ownership = OwnershipWatch(context.store, key, assignment.claims)
        self._ends = EndWatch(context, self._ownership, limits)
        self._course = Course(key=key, began_s=began_s, machine=facts_of(context.machine))
        self._texts = Texts(context, key, self._masker)
        self._record = AttemptRecord(context, self._course, self._ends)

    def run(self) -> Outcome:
        """Work until the run is done or this attempt is over; the outcome is on the root when it returns.

        Raises:
            TransientStoreError: the root stayed out of reach; the record stands still, and the run goes on elsewhere.
        """
        self._record.create()
        beating = self._context.tasks.every(
            self._context.settings.heartbeat_s,
            self._record.beat,
            name="heartbeat",
            at_once=False,  # the record has just been created, and each write has to wait for its turn
        )
        try:
            outcome = self._until_over()
        except TransientStoreError:
            raise
        except Exception as exc:  # the boundary of a run: whatever went wrong, the queue goes on
            outcome = outcome_of_error(exc)
        finally:
            beating.stop(unless=self._ends.is_abandoned)
        outcome = outcome.masked(self._masker)
        if not self._ends.is_abandoned():
            try:
                unless_abandoned(self._context, self._texts.flush)
                self._record.finish(outcome)
            except Abandoned:
                outcome = ABANDONED
        elif not outcome.superseded:
            outcome = ABANDONED
        self._course.outcome = outcome = replace(outcome, moved_on=self._course.newest is not None)
        return outcome

    def view(self) -> AttemptView:
        """What it is at, for a display; may be called from any thread at any time."""
        return self._course.view(self._context.clock.monotonic())

    def _until_over(self) -> Outcome:
        self._ownership.look()
        earlier = taken_over(self._context, self._course, self._ownership)
        if earlier is not None:
            return earlier
        if self._ownership.cancel_requested:
            return CANCELLED
        if self._secrets.lacks:
            return Outcome.interrupted("; ".join(self._secrets.lacks))
        with self._context.workdir.attempt(self._assignment.key) as folders:
            prepared = self._prepare(folders)
            self._ownership.look()
            self._ends.raise_if_over()
            with self._packed_beside(prepared):
                supervisor = self._supervisor(folders, prepared)
                return self._conclude(folders, supervisor, supervisor.train())

    def _prepare(self, folders: AttemptFolders) -> Prepared:
        preparation = Preparation(
            self._context,
            self._assignment,
            folders,
            secrets=self._secrets.values,
            ends=self._ends,
            course=self._course,
            texts=self._texts,
        )
        return preparation.prepare()

    @contextmanager
    def _packed_beside(self, prepared: Prepared) -> Iterator[None]:
        """Have packs of slow data made meanwhile, and at the end wait a moment for them if there is time."""
        packing = [
            self._context.tasks.every(PACK_POLL_S, quietly(packer.work), name="pack")
            for packer in prepared.packers
        ]
        try:
            yield
        finally:
            patience_s = 0.0 if self._ends.is_urgent() else PACK_PATIENCE_S
            for packer in prepared.packers:
                packer.stop(patience_s=patience_s)
            for task in packing:
                task.stop(unless=self._ends.is_urgent)

    def _supervisor(self, folders: AttemptFolders, prepared: Prepared) -> Supervisor:
        return Supervisor(
            self._context,
            self._assignment,
            folders,
            prepared,
            secrets=self._secrets.values,
            withholding=self._withholding,
            ends=self._ends,
            course=self._course,
            texts=self._texts,
            beat=self._record.beat,
        )

    def _conclude(self, folders: AttemptFolders, supervisor: Supervisor, trained: Trained) -> Outcome:
        """See to it that what was trained is on the root, and say what came of it."""
        stop = self._context.stop
        if self._ownership.cancel_requested:
            return CANCELLED
        if stop.abandon:
            return ABANDONED
        self._course.doing = "committing" if stop.stop is None else "handing over"
        persist(self._context, supervisor.drain, what="the last checkpoint")
        if not self._course.told.finished:
            return outcome_of_exit(trained, self._course.told, stop=stop.stop)
        return publish(
            self._context,
            self._assignment,
            folders,
            ownership=self._ownership,
            course=self._course,
            texts=self._texts,
            record=self._record,
            withholding=self._withholding,
        )


def _masked(context: WorkerContext, masker: Masker) -> WorkerContext:
    """The context for an attempt whose secrets nobody is to see."""
    if not masker:
        return context
    say, show = context.say, context.show
    return replace(
        context, say=lambda text: say(masker.text(text)), show=lambda line: show(masker.text(line))
    )
