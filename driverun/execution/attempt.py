"""One attempt at a run, from the claim that was won to the outcome."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from driverun.checkpoints.commit import CheckpointCommitter
from driverun.checkpoints.newest import find_checkpoints
from driverun.checkpoints.restore import Restored, restore_newest
from driverun.checkpoints.retention import Best, Retention, RetentionRules
from driverun.dispatch.choose import FIRST_CHECKPOINT
from driverun.dispatch.claim import WonClaim
from driverun.dispatch.heartbeat import RecordKeeper
from driverun.dispatch.results import confirmed_results, earlier_results
from driverun.errors import (
    DiskFull,
    DriverunError,
    IndexOutOfReach,
    IntegrityError,
    LostOwnership,
    ObjectNotFound,
    RequirementsError,
    SpecError,
    SpoolError,
    StoreAccessDenied,
    StoreError,
    StoreQuotaExceeded,
    TransientStoreError,
)
from driverun.execution.committing import SnapshotCommitter
from driverun.execution.context import WorkerContext
from driverun.execution.environment import JobPackages, changed_versions
from driverun.execution.finishing import collect_results, results_of
from driverun.execution.hardware import facts_of, strangers
from driverun.execution.limits import Limits, LimitWatch
from driverun.execution.outcome import Outcome
from driverun.execution.ownership import OwnershipWatch
from driverun.execution.sending import SendingStore
from driverun.execution.stopping import Abandoned, StopAsked, StoppableClock, rest
from driverun.execution.tasks import NotWaitedFor
from driverun.execution.telling import Told
from driverun.execution.trainer import Exit, Trainer
from driverun.execution.trouble import Trouble
from driverun.execution.viewing import AttemptView, Pace
from driverun.execution.warm_start import Origin, bring_state, bring_weights, why_not_exact
from driverun.execution.withholding import Withholding, notes_of
from driverun.execution.workdir import AttemptFolders
from driverun.purpose import on_behalf_of
from driverun.report.curves import REPORTED
from driverun.runs.evidence import ClaimEvidence
from driverun.runs.record import AttemptState, Failure, Record, ResultsRef, RunFile, Wish
from driverun.runs.retries import MEMORY, worked_s
from driverun.runs.state import Derived
from driverun.spec.identity import spec_from_json
from driverun.spec.model import JobSpec, StartFrom
from driverun.spool.boards import Progress, ProgressBoard
from driverun.spool.events import EventReader
from driverun.spool.masking import Masker
from driverun.spool.request import TrainingRequest
from driverun.spool.snapshot import SnapshotKind
from driverun.storage.base import unseen_for_s
from driverun.transfer.code import unpack_code
from driverun.transfer.given import GivenResults, bring_given
from driverun.transfer.packing import Packer
from driverun.transfer.progress import OnProgress
from driverun.transfer.progress import Progress as Transferred
from driverun.transfer.publish import publish_results
from driverun.transfer.results import read_results_manifest
from driverun.transfer.segments import SegmentWriter
from driverun.transfer.sync import fingerprint_of, sync_data

T = TypeVar("T")

POLL_S = 0.1
LOOK_AGAIN_S = 5.0  #: for a checkpoint that no listing shows yet
COMMIT_POLL_S = 0.2
HAND_OVER_S = 30.0  #: for a trainer to reach a step and put its state down
UNTRAINED_S = 2.0  #: for one that is still on its way to its first step
TERMINATE_S = 5.0  #: for a script that was sent SIGTERM
#: For the last commits and the results while the root as a whole is the trouble, and nobody wants the worker to end ...
PATIENCE_S = 12 * 3600.0
FINAL_S = 300.0  #: ... and for everything else
RETRY_S = 5.0
LONGEST_RETRY_S = 60.0
PACK_POLL_S = 3600.0  #: packs are made once, at the first turn
PACK_PATIENCE_S = (
    30.0  #: for packs that are nearly done when the run is; nobody waits for them on a hand-over
)


_ABANDONED = Outcome(state=AttemptState.INTERRUPTED, reason="abandoned by a person", abandoned=True)


class _Ended(Exception):
    """Somebody asked for the end while data were on their way."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class Attempt:
    """Carries one won claim to its end. `run` is called once."""

    def __init__(
        self,
        context: WorkerContext,
        won: WonClaim,
        *,
        run_file: RunFile,
        spec: JobSpec,
        derived: Derived,
        given: Sequence[GivenResults] = (),
        origin: Callable[[], Origin | None] = lambda: None,
    ) -> None:
        self._gathered = context.secrets.gather(spec.secrets)
        self._masker = masker = Masker(self._gathered.values)
        if masker:
            say, show = context.say, context.show
            context = replace(
                context, say=lambda text: say(masker.text(text)), show=lambda line: show(masker.text(line))
            )
        self._withholding = Withholding(masker)
        self._context = context
        self._store = context.store
        self._clock = context.clock
        self._key = won.key
        self._run_file = run_file
        self._spec = spec
        self._derived = derived
        self._given = given
        self._code_sha256 = derived.code_sha256 or run_file.code_sha256
        self._watch = OwnershipWatch(self._store, self._key, won.claims)
        now = self._clock.now()
        self._keeper = RecordKeeper(
            self._store,
            self._clock,
            Record(
                run_id=self._key.run_id,
                number=self._key.number,
                worker=self._key.worker,
                process=context.process,
                state=AttemptState.RUNNING,
                beat=0,
                started_at=now,
                updated_at=now,
                lease_s=context.settings.lease_s,
                reason="preparing",
            ),
        )
        self._patient = StoppableClock(self._clock, context.stop)
        self._told = Told()
        self._machine = facts_of(context.machine)
        self._doing = "preparing"
        self._log = SegmentWriter(self._store, self._key.log_segment, self._clock)
        self._metrics = SegmentWriter(self._store, self._key.metrics_segment, self._clock)
        self._beat_trouble = Trouble(context.say, self._clock)
        self._text_trouble = Trouble(context.say, self._clock)
        self._committing: SnapshotCommitter | None = None
        self._packers: list[Packer] = []
        self._board: ProgressBoard | None = None
        self._sending = SendingStore(self._store, self._clock)
        self._pace = Pace()
        self._began_s = self._clock.monotonic()
        self._trained_s: float | None = None  # when the first step was made
        self._limits = LimitWatch(
            Limits.of(spec), run_id=self._key.run_id, began_s=self._began_s, worked_before_s=worked_s(derived)
        )
        self._limits_of: str | None = (
            None  # the submission whose limits they are; None: the one that was claimed
        )
        self._limit: Failure | None = None  # the one that was reached
        self._restored: Restored | None = None
        self._origin = origin
        self._began_with: str | None = None  # the state of another run, in one line
        self._outcome: Outcome | None = None

    def run(self) -> Outcome:
        """Work until the run is done or this attempt is over; the outcome is on the root when it returns.

        Raises:
            TransientStoreError: the root stayed out of reach; the record stands still, and the run goes on elsewhere.
        """
        self._keeper.create()
        beating = self._context.tasks.every(
            self._context.settings.heartbeat_s,
            self._beat,
            name="heartbeat",
            at_once=False,  # the record has just been created, and each write has to wait for its turn
        )
        try:
            outcome = self._until_over()
        except Abandoned:
            outcome = _ABANDONED
        except _Ended as exc:
            outcome = exc.outcome
        except LostOwnership as exc:
            outcome = Outcome(state=AttemptState.INTERRUPTED, reason=str(exc), superseded=True)
        except TransientStoreError:
            raise
        except (StoreQuotaExceeded, StoreAccessDenied, ObjectNotFound) as exc:
            # A full root, a login that ended, data that somebody removed a moment ago: no fault of the job's.
            outcome = Outcome(state=AttemptState.INTERRUPTED, reason=str(exc))
        except (DiskFull, IndexOutOfReach) as exc:
            outcome = Outcome(state=AttemptState.INTERRUPTED, reason=str(exc))
        except DriverunError as exc:
            outcome = self._failed(Failure(kind=type(exc).__name__, message=str(exc), traceback=""))
        except OSError as exc:
            outcome = self._of_this_machine(exc)
        except Exception as exc:  # the boundary of a run: whatever went wrong, the queue goes on
            outcome = self._failed(
                Failure(kind=type(exc).__name__, message=str(exc), traceback=traceback.format_exc())
            )
        finally:
            beating.stop(unless=self._is_abandoned)
        if not self._is_abandoned():
            try:
                self._unless_abandoned(self._flush_texts)
                self._finish(outcome)
            except Abandoned:
                outcome = _ABANDONED
        elif not outcome.superseded:
            outcome = _ABANDONED
        moved_on = self._committing is not None and self._committing.newest is not None
        self._outcome = replace(outcome, reason=self._masker.text(outcome.reason), moved_on=moved_on)
        return self._outcome

    def view(self) -> AttemptView:
        """What it is at, for a display; may be called from any thread at any time."""
        told, board, committing, restored = self._told, self._board, self._committing, self._restored
        progress = board.read() if board is not None else Progress()
        newest = committing.newest if committing is not None else None
        age_s = self._clock.monotonic() - committing.newest_s if committing is not None else 0.0
        known_total = progress.total_steps if progress.total_steps >= 0 else None
        outcome, doing = self._outcome, self._doing
        return AttemptView(
            run_id=self._key.run_id,
            number=self._key.number,
            doing=doing if outcome is None else outcome.state.value.lower(),
            fit=progress.fit if progress.fit >= 0 else told.fit,
            epoch=progress.epoch if progress.epoch >= 0 else told.epoch,
            step=max(told.step, progress.step, 0),
            total_steps=told.total_steps if told.total_steps is not None else known_total,
            steps_per_s=self._pace.steps_per_s if doing == "training" and outcome is None else None,
            logs=told.logs,
            first_step=told.first_step,
            resumed_step=restored.header.step if restored is not None else 0,
            resumed_from_attempt=restored.manifest.key.number if restored is not None else None,
            committed_step=newest.manifest.header.step if newest is not None else None,
            committed_age_s=max(0.0, age_s) if newest is not None else None,
            sending=self._sending.sending() if outcome is None else None,
            exactness=told.exactness,
            outcome=outcome,
        )

    # The walk of one run.

    def _until_over(self) -> Outcome:
        self._watch.look()
        earlier = self._earlier_results()
        if earlier is not None:
            return earlier
        if self._watch.cancel_requested:
            return Outcome(state=AttemptState.CANCELLED, reason="cancelled by a person")
        if self._gathered.lacks:
            return Outcome(state=AttemptState.INTERRUPTED, reason="; ".join(self._gathered.lacks))
        with self._context.workdir.attempt(self._key) as folders:
            request, restored = self._prepared(folders)
            self._watch.look()
            self._raise_if_over()
            packing = [
                self._context.tasks.every(PACK_POLL_S, self._quietly(packer.work), name="pack")
                for packer in self._packers
            ]
            try:
                exit_ = self._train(folders, request, restored)
                return self._conclude(folders, exit_)
            finally:
                patience_s = 0.0 if self._is_urgent() else PACK_PATIENCE_S
                for packer in self._packers:
                    packer.stop(patience_s=patience_s)
                for task in packing:
                    task.stop(unless=self._is_urgent)

    def _earlier_results(self) -> Outcome | None:
        """What an attempt before this one finished without living to say so."""
        found = earlier_results(self._store, self._key, self._watch.claims)
        if found is None:
            return None
        try:
            summary = read_results_manifest(self._store, found.path).summary
        except (IntegrityError, ObjectNotFound) as exc:
            self._context.say(f"results of an earlier attempt are not used: {exc}")
            return None
        record = summary.get("record", {})
        self._told.state_sha256 = summary.get("state_sha256")
        self._told.metrics = dict(summary.get("metrics", {}))
        self._told.step = self._told.first_step = int(summary.get("step", 0))
        self._told.total_steps = self._told.step
        self._told.epoch, self._told.fit = record.get("epoch"), record.get("fit")
        self._results, self._outputs_sha256 = found, summary.get("outputs_sha256")
        return Outcome(state=AttemptState.SUCCEEDED, reason="an earlier attempt had finished it")

    _packages = JobPackages()
    _results: ResultsRef | None = None
    _withheld: Mapping[str, Any] = MappingProxyType({})
    _outputs_sha256: str | None = None

    # How it ends early.

    def _is_abandoned(self) -> bool:
        return self._context.stop.abandon

    def _is_urgent(self) -> bool:
        """Somebody asked for the end, or the run is another's: only what has to be kept is worth waiting for."""
        return self._context.stop.stop is not None or self._watch.lost is not None

    def _unless_abandoned(self, act: Callable[[], T]) -> T:
        """What `act` gives. Raises Abandoned as soon as a person has asked twice, whatever it is waiting for."""
        try:
            return self._context.tasks.wait_for(act, unless=self._is_abandoned)
        except NotWaitedFor as exc:
            raise Abandoned from exc

    def _quietly(self, act: Callable[[], object]) -> Callable[[], None]:
        """For what is done beside: that the root is asked nothing more is no news there."""

        def acting() -> None:
            with suppress(Abandoned):
                act()

        return acting

    def _raise_if_over(self) -> None:
        """Raise what ends the attempt while there is nothing yet that has to be kept."""
        if self._watch.lost is not None:
            raise self._watch.lost
        if self._watch.cancel_requested:
            raise _Ended(Outcome(state=AttemptState.CANCELLED, reason="cancelled by a person"))
        if self._is_abandoned():
            raise Abandoned
        if self._context.stop.stop is not None:
            raise _Ended(Outcome(state=AttemptState.INTERRUPTED, reason=self._context.stop.stop.value))
        timed_out = self._limits.timed_out(self._clock.monotonic())
        if timed_out is not None:
            raise _Ended(self._failed(timed_out))

    def _prepared(self, folders: AttemptFolders) -> tuple[TrainingRequest, Restored | None]:
        """As `_prepare`, which a large file may hold up for long; nothing is lost when it is left to itself."""
        try:
            return self._context.tasks.wait_for(
                lambda: self._prepare(folders),
                unless=lambda: self._is_urgent() or self._watch.cancel_requested,
            )
        except (NotWaitedFor, StopAsked) as exc:
            self._raise_if_over()
            raise AssertionError("it was left for a reason") from exc

    def _prepare(self, folders: AttemptFolders) -> tuple[TrainingRequest, Restored | None]:
        say = self._say_while_at_work
        code_files = unpack_code(self._store, self._code_sha256, folders.work)
        self._packages = self._install(folders)
        data: dict[str, str] = {}
        for given in self._given:
            self._doing = f"bringing the results of {given.run_id}"
            on_progress = partial(self._on_progress, self._context.progress_of(given.run_id))
            place = folders.work / "data"
            data.update(bring_given(self._store, given, place, on_progress, clock=self._clock))
        for source in self._spec.data:
            self._doing = f"bringing data: {source.source}"
            tell = self._context.progress_of(source.source)
            synced = sync_data(
                self._store, source, folders.work, self._context.cache, partial(self._on_progress, tell)
            )
            for note in synced.notes:
                say(note)
            data.update(synced.files)
            if synced.packable is not None:
                self._packers.append(
                    Packer(
                        self._store,
                        synced.packable,
                        worker=self._key.worker,
                        scratch=folders.scratch,
                        say=say,
                    )
                )
        self._doing = "looking for a checkpoint"
        resume_after = self._derived.resume_after
        said = [view.committed_step or 0 for view in self._derived.attempts if view.key.number > resume_after]
        self._await_checkpoint(
            self._key.run_id,
            self._watch.claims,
            resume_after,
            wanted=max(said, default=0),
            kinds=SnapshotKind,
        )
        restored = restore_newest(
            self._store,
            self._key.run_id,
            claims=self._watch.claims,
            into=folders.spool,
            cache=folders.scratch,
            resume_after=self._derived.resume_after,
            skipped=say,
        )
        self._restored = restored
        data_sha256 = fingerprint_of(data) if data else ""
        if restored is None:
            request = self._beginning(folders, code_files, data_sha256)
        else:
            request = self._request(folders, code_files, data_sha256, restored)
        request.write(folders.spool.request)
        return request, restored

    def _beginning(
        self, folders: AttemptFolders, code_files: Mapping[str, str], data_sha256: str
    ) -> TrainingRequest:
        """For a run that has no checkpoint yet, which may begin with the state of another."""
        origin, say = self._origin(), self._say_while_at_work
        if origin is None:
            return self._request(folders, code_files, data_sha256, None)
        self._doing = f"bringing the {origin.what.value} of {origin.run_id}"
        is_state = origin.what is StartFrom.STATE
        kinds = {SnapshotKind.CHECKPOINT} if is_state else set(SnapshotKind)
        self._await_checkpoint(
            origin.run_id, origin.claims, origin.resume_after, wanted=origin.step, kinds=kinds
        )
        if not is_state:
            step = bring_weights(self._store, origin, into=folders.spool, cache=folders.scratch, say=say)
            self._began_with = origin.told(step)
            request = self._request(folders, code_files, data_sha256, None)
            notes = request.notes
            if step < origin.step:
                late = f"of step {origin.step} no checkpoint is there"
                notes = (*notes, f"the weights of {origin.run_id} are those of its step {step}: {late}")
            return replace(request, weights_of=origin.run_id, notes=notes)
        found = bring_state(self._store, origin, into=folders.spool, cache=folders.scratch, say=say)
        if found is None:
            note = f"{origin.run_id} has left no state to go on from, so this run begins at step 0"
            say(note)
            request = self._request(folders, code_files, data_sha256, None)
            return replace(request, notes=(*request.notes, note))
        self._began_with = origin.told(found.header.step)
        request = self._request(folders, code_files, data_sha256, found)
        notes = (*request.notes, *why_not_exact(origin, self._run_file))
        return replace(request, continues=origin.run_id, notes=notes)

    def _install(self, folders: AttemptFolders) -> JobPackages:
        if not self._spec.requirements:
            return JobPackages()
        self._doing = "installing packages"
        if self._context.environments is None:
            raise RequirementsError("this worker installs no packages. Leave requirements out")
        return self._context.environments.prepare(
            self._spec.requirements,
            store=self._store,
            into=folders.packages,
            scratch=folders.scratch,
            worker=self._key.worker,
            say=self._say_and_log,
            check=self._raise_if_over,
            withheld=self._context.secrets.foreign_to(()),
        )

    def _on_progress(self, tell: OnProgress, progress: Transferred) -> None:
        """Show how far the data are; raises what ends the attempt, which cannot wait for the last of them."""
        self._raise_if_over()
        self._doing = f"bringing data: {progress}"
        tell(progress)

    def _await_checkpoint(
        self,
        run_id: str,
        claims: Sequence[ClaimEvidence],
        resume_after: int,
        *,
        wanted: int,
        kinds: Iterable[SnapshotKind],
    ) -> None:
        """Wait until listings show a checkpoint of these kinds at step `wanted`, which a record tells of, if they lag.

        A while at most: who said so may have been superseded, and a person may have removed it.
        """
        kinds = frozenset(kinds)
        end_s = self._clock.monotonic() + unseen_for_s(self._store.listing_lag_s)
        while wanted > 0 and self._clock.monotonic() < end_s:
            found = find_checkpoints(self._store, run_id, claims=claims, resume_after=resume_after)
            if any(info.step is not None and info.step >= wanted for info in found if info.kind in kinds):
                return
            self._patient.sleep(LOOK_AGAIN_S)

    def _request(
        self,
        folders: AttemptFolders,
        code_files: Mapping[str, str],
        data_sha256: str,
        restored: Restored | None,
    ) -> TrainingRequest:
        spec, entrypoint = self._spec, self._spec.entrypoint
        notes: list[str] = []
        code_changed = False
        if restored is not None:
            notes += [*restored.reasons, *notes_of(restored.header), *self._changed_packages(restored)]
            before = restored.header.fingerprint
            code_changed = before.get("code_sha256", self._code_sha256) != self._code_sha256
            if code_changed:
                notes.append("code changed: the checkpoint was made by other code")
            if before.get("data_sha256", data_sha256) != data_sha256:
                notes.append("data changed: the files under data/ are not those of the checkpoint")
        every = spec.checkpoint.every
        earlier = [view for view in self._derived.attempts if view.key.number > self._derived.resume_after]
        return TrainingRequest(
            run_id=self._key.run_id,
            name=spec.name,
            attempt=self._key.number,
            worker=self._key.worker,
            entrypoint_kind=entrypoint.kind.value,
            entrypoint=entrypoint.value,
            argv=resolved(spec),
            params=dict(spec.params),
            seed=spec.seed,
            deterministic=spec.deterministic,
            backend=spec.backend,
            working_folder=str(folders.work),
            buffers=str(folders.buffers),
            memory_buffers=str(folders.memory) if folders.memory is not None else None,
            cadence_kind=every.kind.value,
            cadence_value=every.value,
            monitor=spec.checkpoint.monitor,
            code_files=dict(code_files),
            code_sha256=self._code_sha256,
            data_sha256=data_sha256,
            outputs_include=spec.outputs.include,
            outputs_exclude=spec.outputs.exclude,
            max_checkpoint_size_bytes=spec.outputs.max_checkpoint_size_bytes,
            restore_fits=len(restored.fits) if restored is not None else 0,
            restore_checkpoint=restored is not None and restored.has_checkpoint,
            resumed_step=restored.header.step if restored is not None else 0,
            interrupted_before=any(view.first_step is not None or view.died for view in earlier),
            code_changed=code_changed,
            secrets=tuple(self._gathered.values),
            due=self._run_file.computed.get("due"),
            notes=tuple(notes),
        )

    def _changed_packages(self, restored: Restored) -> list[str]:
        """That the attempt of the checkpoint had other packages, as a reason why the run is approximate."""
        made = next((c.record for c in self._watch.claims if c.key == restored.manifest.key), None)
        before = made.environment.get("packages", {}) if made is not None else {}
        changed = changed_versions(before, self._packages.versions) if self._spec.requirements else []
        return [f"packages changed: {', '.join(changed)}"] if changed else []

    def _train(self, folders: AttemptFolders, request: TrainingRequest, restored: Restored | None) -> Exit:
        spool, say = folders.spool, self._context.say
        where = f"goes on at step {request.resumed_step}" if request.resumed_step else "starts"
        say(f"{self._key.run_id}: attempt {self._key.number} {where}")
        committer = CheckpointCommitter(
            self._sending,
            self._key,
            temporary=folders.scratch,
            still_ours=self._watch.look,
            clock=self._clock,
        )
        rules = self._spec.checkpoint
        retention = Retention(
            self._store,
            committer,
            rules=RetentionRules(
                keep=rules.keep,
                best=Best.of_metric(rules.monitor, mode=rules.mode) if rules.monitor else None,
            ),
            still_ours=self._watch.look,
            clock=self._clock,
            lease_s=self._context.settings.lease_s,
        )
        self._committing = SnapshotCommitter(
            committer,
            retention,
            sending=self._sending,
            spool=spool,
            claims=lambda: self._watch.claims,
            resume_after=self._derived.resume_after,
            fits=restored.fits if restored is not None else (),
            clock=self._clock,
            say=say,
            is_ending=self._is_urgent,
            cleared=self._withholding.cleared,
        )
        self._name_strangers()
        self._board = ProgressBoard(spool.progress)
        events = EventReader(spool.events)
        self._doing = "starting the training process"
        trainer = self._context.start_trainer(
            spool,
            work=folders.work,
            seed=self._spec.seed,
            backend=self._spec.backend,
            on_line=self._take_line,
            secrets=self._gathered.values,
            withheld=self._context.secrets.foreign_to(self._gathered.values),
            packages=self._packages.folder,
        )
        self._limits.process_started(self._clock.monotonic())
        tasks = self._context.tasks
        beside = [
            tasks.every(COMMIT_POLL_S, self._quietly(self._committing.commit_pending), name="commit"),
            tasks.every(COMMIT_POLL_S, self._quietly(self._flush_due_texts), name="texts"),
        ]
        try:
            exit_ = self._watch_over(trainer, events)
        finally:
            trainer.kill()
            for task in beside:
                task.stop(unless=self._is_abandoned)
        trainer.close()
        self._take_events(events)
        return exit_

    def _name_strangers(self) -> None:
        """Say who holds memory of the GPU that the job will want."""
        context = self._context
        if context.machine.gpus:
            for line in strangers(context.gpu_processes(), context.machine.gpus):
                context.say(line)

    def _watch_over(self, trainer: Trainer, events: EventReader) -> Exit:
        """Wait for the trainer's end, and bring it about where it has to be."""
        clock, stop = self._clock, self._context.stop
        asked_at_s: float | None = None
        terminated_at_s: float | None = None
        had_committed = False
        while True:
            self._take_events(events)
            self._context.tasks.turn()
            self._see_progress()
            self._note_limit(trainer)
            if not had_committed and self._committing is not None and self._committing.newest is not None:
                had_committed = True
                # An attempt that moved the run on is known to have done so, however soon it dies.
                self._unless_abandoned(self._beat)
            exit_ = trainer.poll()
            if exit_ is not None:
                return exit_
            lost = self._watch.lost or (self._committing.lost if self._committing else None)
            if lost is not None:
                trainer.kill()
                raise lost
            if self._watch.cancel_requested or stop.abandon:
                trainer.kill()
            elif (stop.stop is not None or self._limit is not None) and asked_at_s is None:
                asked_at_s = clock.monotonic()
                self._doing = "handing over"
                trainer.hand_over()
                for packer in self._packers:
                    packer.stop()  # the line is wanted for the checkpoint
            elif asked_at_s is not None and self._trained_s is None:
                if clock.monotonic() - asked_at_s > UNTRAINED_S:
                    trainer.kill()  # it has not made a step, so there is nothing to put down
            elif asked_at_s is not None and clock.monotonic() - asked_at_s > HAND_OVER_S:
                if terminated_at_s is None:
                    terminated_at_s = clock.monotonic()
                    trainer.terminate()
                elif clock.monotonic() - terminated_at_s > TERMINATE_S:
                    trainer.kill()
            clock.sleep(POLL_S)

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
            self._context.say(f"{self._key.run_id} is stopped: {self._limit.message}")

    # The end.

    def _conclude(self, folders: AttemptFolders, exit_: Exit) -> Outcome:
        told, stop = self._told, self._context.stop
        if self._watch.cancel_requested:
            return Outcome(state=AttemptState.CANCELLED, reason="cancelled by a person")
        if stop.abandon:
            return _ABANDONED
        self._doing = "committing" if stop.stop is None else "handing over"
        self._persist(
            self._committing.drain if self._committing else lambda: None, what="the last checkpoint"
        )
        if told.finished:
            return self._publish(folders)
        if self._limit is not None:
            return self._failed(self._limit)
        if told.failure is not None:
            return self._failed(told.failure)
        if stop.stop is not None:
            return Outcome(state=AttemptState.INTERRUPTED, reason=stop.stop.value)
        return self._failed(_failure_of(exit_))

    def _publish(self, folders: AttemptFolders) -> Outcome:
        self._doing = "publishing results"
        withheld = self._unless_abandoned(lambda: self._withhold(folders))
        self._flush_texts()
        collected = self._persist(
            lambda: collect_results(
                self._store,
                self._keeper.record.moved(**self._changes()),
                self._told,
                folders,
                spec=self._spec,
                run_file=self._run_file,
                derived=self._derived,
                claims=self._watch.claims,
                now=self._clock.now(),
                withheld=withheld,
            ),
            what="the report",
        )
        self._outputs_sha256 = collected.outputs_sha256
        published = self._persist(
            lambda: publish_results(
                self._store,
                self._key,
                collected.files,
                still_ours=self._watch.look,
                summary={**collected.summary, **self._withheld, "environment": self._environment()},
            ),
            what="the results",
        )
        try:
            self._results = self._persist(
                lambda: confirmed_results(
                    self._store, self._patient, self._key, published.created_at, self._watch.claims
                ),
                what="the results",
            )
        except StopAsked:
            return Outcome(
                state=AttemptState.INTERRUPTED,
                reason="finished, its results are on the root; the next worker makes sure of them and says so",
            )
        return Outcome(state=AttemptState.SUCCEEDED, reason="")

    def _withhold(self, folders: AttemptFolders) -> dict[str, str]:
        """Which results stay here for the secrets in them, with why; said in the log."""
        withheld = self._withholding.of_results(results_of(self._spec, folders))
        shown = {self._withholding.shown(path): why for path, why in withheld.items()}
        for path, why in shown.items():
            self._take_line(f"[driverun] {path} is not published: {why}")
        self._withheld = {"withheld": shown} if shown else {}
        return withheld

    def _persist(self, act: Callable[[], T], *, what: str) -> T:
        """Do it, again and again while the root is the trouble: what was trained is not given up lightly."""
        trouble = Trouble(self._context.say, self._clock)
        began_s = self._clock.monotonic()
        final_from_s: float | None = None
        retry_s = RETRY_S
        while True:
            try:
                done = self._unless_abandoned(act)
                trouble.over(f"{what}: the root lets us go on")
                return done
            except (LostOwnership, SpoolError):
                raise
            except StoreError as exc:
                now_s = self._clock.monotonic()
                is_roots = isinstance(exc, TransientStoreError | StoreQuotaExceeded | StoreAccessDenied)
                is_patient = is_roots and self._context.stop.stop is None and now_s - began_s < PATIENCE_S
                if final_from_s is None and not is_patient:
                    final_from_s = now_s
                is_over = final_from_s is not None and now_s - final_from_s >= FINAL_S
                if is_over or self._context.stop.abandon:
                    raise
                trouble.met(exc, f"{what}: not on the root yet, this worker keeps trying: {exc}")
                self._rest(retry_s)
                retry_s = min(2 * retry_s, LONGEST_RETRY_S)
                self._context.tasks.turn()

    def _rest(self, seconds: float) -> None:
        """Sleep so long; shorter where somebody asks for something meanwhile."""
        stop = self._context.stop
        before = stop.stop
        rest(self._clock, seconds, unless=lambda: stop.abandon or stop.stop is not before)

    def _of_this_machine(self, exc: OSError) -> Outcome:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = f"the disk of this machine is full: {exc}. Free space there, or use a machine with a larger disk"
            return Outcome(state=AttemptState.INTERRUPTED, reason=reason)
        message = f"this machine could not go on: {exc}. See what is wrong with it, then `driverun retry`."
        return self._failed(Failure(kind="OSError", message=message, traceback=traceback.format_exc()))

    def _failed(self, failure: Failure) -> Outcome:
        mask = self._masker.text
        failure = replace(
            failure, message=mask(failure.message), traceback=mask(failure.traceback), kind=mask(failure.kind)
        )
        self._told.failure = failure
        return Outcome(state=AttemptState.FAILED, reason=failure.message)

    def _finish(self, outcome: Outcome) -> None:
        """Write the outcome; a record that cannot be written stands still, which says enough."""
        changes = {**self._changes(), "reason": self._masker.text(outcome.reason)}
        if outcome.state is AttemptState.FAILED:
            changes["failure"] = self._told.failure
        if outcome.state is AttemptState.SUCCEEDED:
            changes.update(results=self._results, state_sha256=self._told.state_sha256)
            changes.update(outputs_sha256=self._outputs_sha256, total_steps=self._told.step)
        if outcome.superseded:
            return
        self._persist(lambda: self._keeper.finish(outcome.state, **changes), what="the outcome")

    # Beside.

    def _beat(self) -> None:
        key, beat = self._key, self._keeper.record.beat + 1
        if self._is_abandoned():
            return
        try:
            with on_behalf_of(f"heartbeat {beat} of {key}"):
                self._watch.look()
                self._take_new_limits()
                self._keeper.beat(**{**self._changes(), "reason": self._doing})
            self._beat_trouble.over("the heartbeat is back")
        except (LostOwnership, Abandoned):
            return  # the attempt's own thread finds out by itself
        except StoreError as exc:
            self._beat_trouble.met(exc, f"no heartbeat for now: {exc}")

    def _take_new_limits(self) -> None:
        """Who submits the job again with other limits means the attempt that is at work as well."""
        path = self._watch.resubmitted
        if path is None or path == self._limits_of:
            return
        try:
            spec = Wish.from_bytes(self._store.read(path)).details.get("spec")
            limits = Limits.of(spec_from_json(spec)) if isinstance(spec, Mapping) else None
        except (IntegrityError, ObjectNotFound, SpecError) as exc:
            self._context.say(f"{self._key.run_id}: a newer submission is passed over: {exc}")
            limits = None
        self._limits_of = path
        if limits is not None:
            self._limits.limits = limits

    def _changes(self) -> dict[str, Any]:
        told = self._told
        progress = self._board.read() if self._board is not None else None
        step = max(told.step, progress.step if progress is not None else 0)
        newest = self._committing.newest if self._committing is not None else None
        return {
            "fit": told.fit,
            "epoch": told.epoch,
            "step": step,
            "first_step": told.first_step,
            "total_steps": told.total_steps,
            "committed_step": newest.manifest.header.step if newest is not None else None,
            "exactness": told.exactness,
            "exactness_reasons": tuple(told.reasons),
            "metrics": dict(told.metrics),
            "environment": self._environment(),
        }

    def _see_progress(self) -> None:
        now_s = self._clock.monotonic()
        executed = self._board.read().executed if self._board is not None else 0
        if executed and self._trained_s is None:
            self._trained_s = now_s
        self._limits.has_executed(executed, now_s)
        self._pace.note(now_s, executed)

    def _environment(self) -> dict[str, Any]:
        """What it ran on, and how long it took from its beginning until a first step could be on the root."""
        found = {**self._machine, **self._told.environment}
        if self._began_with is not None:
            found["init_from"] = self._began_with
        if self._packages.versions:
            found["packages"] = dict(self._packages.versions)
        if (
            self._trained_s is not None
            and self._committing is not None
            and self._committing.newest is not None
        ):
            found[FIRST_CHECKPOINT] = round(self._trained_s - self._began_s + self._committing.commit_s, 1)
        return found

    def _take_events(self, events: EventReader) -> None:
        knew_start = self._told.first_step is not None
        for event in events.read():
            event = event.masked(self._masker)
            self._told.take(event)
            if event.kind.value in REPORTED:
                self._metrics.append(event.line + "\n")
            if self._committing is not None and self._told.buffers is not None:
                self._committing.snapshot_taken(Path(self._told.buffers))
            if self._committing is not None and self._told.fits_ended:
                self._committing.fit_ended()
        if not knew_start and self._told.first_step is not None:
            if self._doing == "starting the training process":
                self._doing = "training"
            self._unless_abandoned(
                self._beat
            )  # where it took up is on the root before anything can happen to it

    def _say_while_at_work(self, text: str) -> None:
        """For what may be left to itself: nobody wants to hear of it any more."""
        if self._outcome is None:
            self._context.say(text)

    def _say_and_log(self, text: str) -> None:
        """For what concerns the job's owner, who reads the log, as well."""
        self._say_while_at_work(text)
        self._log.append(f"[driverun] {self._masker.text(text)}\n")

    def _take_line(self, line: str) -> None:
        line = self._masker.text(line)
        self._limits.wrote_line(self._clock.monotonic())
        self._log.append(line + "\n")
        self._context.show(line)

    def _flush_due_texts(self) -> None:
        self._put_texts(SegmentWriter.flush_if_due)

    def _flush_texts(self) -> None:
        self._put_texts(SegmentWriter.flush)

    def _put_texts(self, put: Callable[[SegmentWriter], bool]) -> None:
        """Logs and metrics are put on the root where it lets us; they never end an attempt."""
        for texts in (self._log, self._metrics):
            try:
                put(texts)
            except StoreError as exc:
                self._text_trouble.met(exc, f"logs are kept here for now: {exc}")


def resolved(spec: JobSpec) -> tuple[str, ...]:
    """The entrypoint's arguments with the job's parameters filled in."""
    from driverun.spec.model import resolved_argv

    return resolved_argv(spec.entrypoint, spec.params)


def _failure_of(exit_: Exit) -> Failure:
    """Why a process ended that neither finished nor said what went wrong."""
    if exit_.killed_by_kernel:
        return Failure(
            kind=MEMORY,
            message=(
                f"the system killed the training process for its memory, at a peak of {exit_.peak_bytes / 1e9:.1f} GB."
                " Use a smaller batch, load the data piece by piece, or take a machine with more memory;"
                " then `driverun retry` goes on from the last checkpoint."
            ),
            traceback="",
        )
    if exit_.code < 0:
        return Failure(
            kind="signal",
            message=(
                f"the training process was ended by signal {-exit_.code}, at a peak of"
                f" {exit_.peak_bytes / 1e9:.1f} GB of memory. See the end of `driverun logs`; `driverun retry` goes on"
                " from the last checkpoint."
            ),
            traceback="",
        )
    return Failure(
        kind="exit code",
        message=f"the training process ended with code {exit_.code} before the script did. See `driverun logs`.",
        traceback="",
    )
