"""Starts the training process of an attempt, is with it while it trains, and brings about its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from driverun.checkpoints.commit import CheckpointCommitter
from driverun.checkpoints.retention import Best, Retention, RetentionRules
from driverun.execution.assignment import Assignment
from driverun.execution.committing import SnapshotCommitter
from driverun.execution.context import WorkerContext
from driverun.execution.course import Course
from driverun.execution.ending import EndWatch
from driverun.execution.hardware import strangers
from driverun.execution.preparing import Prepared
from driverun.execution.sending import SendingStore
from driverun.execution.stopping import quietly, unless_abandoned
from driverun.execution.texts import Texts
from driverun.execution.trainer import Exit, Trainer
from driverun.execution.withholding import Withholding
from driverun.execution.workdir import AttemptFolders
from driverun.runs.record import Failure
from driverun.spool.boards import ProgressBoard
from driverun.spool.events import EventReader

POLL_S = 0.1
COMMIT_POLL_S = 0.2
HAND_OVER_S = 30.0  #: for a trainer to reach a step and put its state down
UNTRAINED_S = 2.0  #: for one that is still on its way to its first step
TERMINATE_S = 5.0  #: for a script that was sent SIGTERM

STARTING = "starting the training process"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """How the training process of an attempt ended."""

    exit_: Exit
    limit: Failure | None  #: the limit that it was ended for


class Supervisor:
    """Supervises one training process. `train` is called once."""

    def __init__(
        self,
        context: WorkerContext,
        assignment: Assignment,
        folders: AttemptFolders,
        prepared: Prepared,
        *,
        secrets: Mapping[str, str],
        withholding: Withholding,
        ends: EndWatch,
        course: Course,
        texts: Texts,
        beat: Callable[[], None],
    ) -> None:
        """Start idle.

        Args:
            secrets: their values, by the variable as which the job sees each.
            course: is told all that becomes known of the training.
            beat: makes a heartbeat now, where something happened that is not to wait for the next.
        """
        self._context = context
        self._clock = context.clock
        self._assignment = assignment
        self._folders = folders
        self._prepared = prepared
        self._secrets = secrets
        self._ends = ends
        self._limits = ends.limits
        self._course = course
        self._texts = texts
        self._beat = beat
        self._committing = self._committer(withholding)
        self._events = EventReader(folders.spool.events)
        self._limit: Failure | None = None  # the one that was reached
        self._asked_at_s: float | None = None  # when it was asked to hand over
        self._terminated_at_s: float | None = None

    def train(self) -> Trained:
        """Train until the process has ended, by itself or because it had to.

        Raises:
            LostOwnership: the run is another's; the process was killed.
            Abandoned: a person has asked twice; likewise.
        """
        key, resumed_step = self._assignment.key, self._prepared.request.resumed_step
        where = f"goes on at step {resumed_step}" if resumed_step else "starts"
        self._context.say(f"{key.run_id}: attempt {key.number} {where}")
        self._course.committing = self._committing
        self._name_strangers()
        self._course.board = ProgressBoard(self._folders.spool.progress)
        self._course.doing = STARTING
        trainer = self._start()
        self._limits.process_started(self._clock.monotonic())
        every = self._context.tasks.every
        beside = [
            every(COMMIT_POLL_S, quietly(self._committing.commit_pending), name="commit"),
            every(COMMIT_POLL_S, quietly(self._texts.flush_if_due), name="texts"),
        ]
        try:
            exit_ = self._watch_over(trainer)
        finally:
            trainer.kill()
            for task in beside:
                task.stop(unless=self._ends.is_abandoned)
        trainer.close()
        self._take_events()
        return Trained(exit_=exit_, limit=self._limit)

    def drain(self) -> None:
        """Commit all that the process has put down.

        Raises:
            LostOwnership, StoreError, SpoolError, IntegrityError: not all is committed.
        """
        self._committing.drain()

    def _committer(self, withholding: Withholding) -> SnapshotCommitter:
        """What turns the snapshots of this attempt into checkpoints."""
        context, spec, ownership = self._context, self._assignment.spec, self._ends.ownership
        sending = SendingStore(context.store, context.clock)
        committer = CheckpointCommitter(
            sending,
            self._assignment.key,
            temporary=self._folders.scratch,
            still_ours=ownership.look,
            clock=context.clock,
        )
        rules = spec.checkpoint
        retention = Retention(
            context.store,
            committer,
            rules=RetentionRules(
                keep=rules.keep,
                best=Best.of_metric(rules.monitor, mode=rules.mode) if rules.monitor else None,
            ),
            still_ours=ownership.look,
            clock=context.clock,
            lease_s=context.settings.lease_s,
        )
        restored = self._prepared.restored
        return SnapshotCommitter(
            committer,
            retention,
            sending=sending,
            spool=self._folders.spool,
            claims=lambda: ownership.claims,
            resume_after=self._assignment.derived.resume_after,
            fits=restored.fits if restored is not None else (),
            clock=context.clock,
            say=context.say,
            is_ending=self._ends.is_urgent,
            cleared=withholding.cleared,
        )

    def _name_strangers(self) -> None:
        """Say who holds memory of the GPU that the job will want."""
        context = self._context
        if context.machine.gpus:
            for line in strangers(context.gpu_processes(), context.machine.gpus):
                context.say(line)

    def _start(self) -> Trainer:
        spec = self._assignment.spec
        return self._context.start_trainer(
            self._folders.spool,
            work=self._folders.work,
            seed=spec.seed,
            backend=spec.backend,
            on_line=self._take_line,
            secrets=self._secrets,
            withheld=self._context.secrets.foreign_to(self._secrets),
            packages=self._prepared.packages.folder,
        )

    def _watch_over(self, trainer: Trainer) -> Exit:
        had_committed = False
        while True:
            self._take_events()
            self._context.tasks.turn()
            now_s = self._clock.monotonic()
            self._limits.has_executed(self._course.see_steps(now_s), now_s)
            self._note_limit(trainer)
            if not had_committed and self._course.newest is not None:
                had_committed = True
                # An attempt that moved the run on is known to have done so, however soon it dies.
                unless_abandoned(self._context, self._beat)
            exit_ = trainer.poll()
            if exit_ is not None:
                return exit_
            self._end_if_it_has_to(trainer)
            self._clock.sleep(POLL_S)

    def _note_limit(self, trainer: Trainer) -> None:
        """See whether the job has reached a limit; of one that is stuck, the log is to show where."""
        if self._limit is not None or self._context.stop.stop is not None:
            return
        now_s = self._clock.monotonic()
        self._limit = self._limits.timed_out(now_s)
        idle = self._limits.fell_idle(now_s)
        if self._limit is None and idle is not None:
            self._limit = idle
            trainer.show_stacks()
        if self._limit is not None:
            self._context.say(f"{self._assignment.key.run_id} is stopped: {self._limit.message}")

    def _end_if_it_has_to(self, trainer: Trainer) -> None:
        """Do what is due to end the process, if there is a reason to: ask, then insist, then kill.

        Raises:
            LostOwnership: the run is another's; the process is gone.
        """
        stop, ownership, now_s = self._context.stop, self._ends.ownership, self._clock.monotonic()
        lost = ownership.lost or self._committing.lost
        if lost is not None:
            trainer.kill()
            raise lost
        if ownership.cancel_requested or stop.abandon:
            trainer.kill()
        elif self._asked_at_s is None:
            if stop.stop is not None or self._limit is not None:
                self._asked_at_s = now_s
                self._course.doing = "handing over"
                trainer.hand_over()
                for packer in self._prepared.packers:
                    packer.stop()  # the line is wanted for the checkpoint
        elif self._course.trained_s is None:
            if now_s - self._asked_at_s > UNTRAINED_S:
                trainer.kill()  # it has not made a step, so there is nothing to put down
        elif now_s - self._asked_at_s > HAND_OVER_S:
            if self._terminated_at_s is None:
                self._terminated_at_s = now_s
                trainer.terminate()
            elif now_s - self._terminated_at_s > TERMINATE_S:
                trainer.kill()

    def _take_events(self) -> None:
        """Take over what the training process has told since."""
        told = self._course.told
        knew_start = told.first_step is not None
        for event in self._events.read():
            event = self._texts.masked(event)
            told.take(event)
            self._texts.report(event)
            if told.buffers is not None:
                self._committing.snapshot_taken(Path(told.buffers))
            if told.fits_ended:
                self._committing.fit_ended()
        if not knew_start and told.first_step is not None:
            if self._course.doing == STARTING:
                self._course.doing = "training"
            # Where it took up is on the root before anything can happen to it.
            unless_abandoned(self._context, self._beat)

    def _take_line(self, line: str) -> None:
        """One line of the job's output; called from another thread."""
        self._limits.wrote_line(self._clock.monotonic())
        self._texts.take_line(line)
