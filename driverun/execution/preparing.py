"""Brings what a training process needs to the local disk: code, packages, data and the state to go on from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from driverun.checkpoints.newest import find_checkpoints
from driverun.checkpoints.restore import Restored, restore_newest
from driverun.errors import IntegrityError, ObjectNotFound, RequirementsError
from driverun.execution.assignment import Assignment
from driverun.execution.context import WorkerContext
from driverun.execution.course import Course
from driverun.execution.ending import EndWatch
from driverun.execution.environment import JobPackages
from driverun.execution.stopping import StopAsked, StoppableClock
from driverun.execution.tasks import NotWaitedFor
from driverun.execution.texts import Texts
from driverun.execution.training_request import request_of
from driverun.execution.warm_start import bring_state, bring_weights, why_not_exact
from driverun.execution.workdir import AttemptFolders
from driverun.runs.evidence import ClaimEvidence
from driverun.runs.record import Record
from driverun.spec.model import StartFrom
from driverun.spool.request import TrainingRequest
from driverun.spool.snapshot import SnapshotKind
from driverun.storage.base import unseen_for_s
from driverun.transfer.code import unpack_code
from driverun.transfer.given import bring_given
from driverun.transfer.packing import Packer
from driverun.transfer.progress import OnProgress
from driverun.transfer.progress import Progress as Transferred
from driverun.transfer.sync import fingerprint_of, sync_data

LOOK_AGAIN_S = 5.0  #: for a checkpoint that no listing shows yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What lies ready for the training process."""

    request: TrainingRequest  #: is in the spool
    restored: Restored | None  #: the checkpoint in the spool; None where the run begins
    packages: JobPackages
    packers: tuple[Packer, ...]  #: of data that came slowly, to be worked on beside the training


class Preparation:
    """Prepares one attempt. `prepare` is called once."""

    def __init__(
        self,
        context: WorkerContext,
        assignment: Assignment,
        folders: AttemptFolders,
        *,
        secrets: Collection[str],
        ends: EndWatch,
        course: Course,
        texts: Texts,
    ) -> None:
        """Start with nothing done.

        Args:
            secrets: the variables as which the job sees them.
            course: is told what is being done, and what was found.
        """
        self._context = context
        self._store = context.store
        self._clock = context.clock
        self._patient = StoppableClock(context.clock, context.stop)
        self._assignment = assignment
        self._spec = assignment.spec
        self._folders = folders
        self._secrets = secrets
        self._ends = ends
        self._course = course
        self._texts = texts

    def prepare(self) -> Prepared:
        """Bring everything. A large file may hold it up for long; nothing is lost when that is left to itself.

        Raises:
            Ended, Abandoned, LostOwnership: there is no reason to train any more.
            DriverunError: it cannot be brought; of some kinds later, or elsewhere, it may.
        """
        try:
            return self._context.tasks.wait_for(self._bring, unless=self._ends.is_wanted)
        except (NotWaitedFor, StopAsked) as exc:
            self._ends.raise_if_over()
            raise AssertionError("it was left for a reason") from exc

    def _bring(self) -> Prepared:
        course, folders = self._course, self._folders
        code_files = unpack_code(self._store, self._assignment.code_sha256, folders.work)
        course.packages = packages = self._install()
        data_sha256, packers = self._bring_data()
        course.restored = restored = self._restore()

        def request_for(found: Restored | None) -> TrainingRequest:
            return request_of(
                self._assignment,
                folders,
                code_files=code_files,
                data_sha256=data_sha256,
                packages=packages.versions,
                secrets=self._secrets,
                packages_before=self._packages_of(found) if found is not None else {},
                restored=found,
            )

        request = request_for(restored) if restored is not None else self._beginning(request_for)
        request.write(folders.spool.request)
        return Prepared(request=request, restored=restored, packages=packages, packers=tuple(packers))

    def _install(self) -> JobPackages:
        if not self._spec.requirements:
            return JobPackages()
        self._course.doing = "installing packages"
        if self._context.environments is None:
            raise RequirementsError("this worker installs no packages. Leave requirements out")
        return self._context.environments.prepare(
            self._spec.requirements,
            store=self._store,
            into=self._folders.packages,
            scratch=self._folders.scratch,
            worker=self._assignment.key.worker,
            say=self._say_and_note,
            check=self._ends.raise_if_over,
            withheld=self._context.secrets.foreign_to(()),
        )

    def _bring_data(self) -> tuple[str, list[Packer]]:
        """Bring all data; gives their digest, "" where there are none, and what makes packs of them."""
        context, work = self._context, self._folders.work
        digests: dict[str, str] = {}
        packers: list[Packer] = []
        for given in self._assignment.given:
            self._course.doing = f"bringing the results of {given.run_id}"
            on_progress = partial(self._on_progress, context.progress_of(given.run_id))
            digests.update(bring_given(self._store, given, work / "data", on_progress, clock=context.clock))
        for source in self._spec.data:
            self._course.doing = f"bringing data: {source.source}"
            on_progress = partial(self._on_progress, context.progress_of(source.source))
            synced = sync_data(self._store, source, work, context.cache, on_progress)
            for note in synced.notes:
                self._say(note)
            digests.update(synced.files)
            if synced.packable is not None:
                packers.append(
                    Packer(
                        self._store,
                        synced.packable,
                        worker=self._assignment.key.worker,
                        scratch=self._folders.scratch,
                        say=self._say,
                    )
                )
        return fingerprint_of(digests) if digests else "", packers

    def _on_progress(self, tell: OnProgress, progress: Transferred) -> None:
        """Show how far the data are; raises what ends the attempt, which cannot wait for the last of them."""
        self._ends.raise_if_over()
        self._course.doing = f"bringing data: {progress}"
        tell(progress)

    def _restore(self) -> Restored | None:
        """The run's newest checkpoint, in the spool; None where it has none."""
        self._course.doing = "looking for a checkpoint"
        run_id, resume_after = self._assignment.key.run_id, self._assignment.derived.resume_after
        told = max((view.committed_step or 0 for view in self._assignment.earlier), default=0)
        self._await_checkpoint(
            run_id, self._ends.ownership.claims, resume_after, wanted=told, kinds=SnapshotKind
        )
        return restore_newest(
            self._store,
            run_id,
            claims=self._ends.ownership.claims,
            into=self._folders.spool,
            cache=self._folders.scratch,
            resume_after=resume_after,
            skipped=self._say,
        )

    def _packages_of(self, found: Restored) -> Mapping[str, str]:
        """Which packages the attempt had that made the checkpoint, be it one of another run.

        Its record is read: what a listing shows of it is without such details.
        """
        if not self._spec.requirements:
            return {}
        try:
            record = Record.from_bytes(self._store.read(found.manifest.key.record_file))
        except (IntegrityError, ObjectNotFound):
            return {}
        said = record.environment.get("packages")
        return said if isinstance(said, Mapping) else {}

    def _beginning(self, request_for: Callable[[Restored | None], TrainingRequest]) -> TrainingRequest:
        """For a run that has no checkpoint yet, which may begin with the state of another."""
        origin = self._assignment.origin()
        if origin is None:
            return request_for(None)
        self._course.doing = f"bringing the {origin.what.value} of {origin.run_id}"
        is_state = origin.what is StartFrom.STATE
        kinds = {SnapshotKind.CHECKPOINT} if is_state else set(SnapshotKind)
        self._await_checkpoint(
            origin.run_id, origin.claims, origin.resume_after, wanted=origin.step, kinds=kinds
        )
        spool, scratch = self._folders.spool, self._folders.scratch
        if not is_state:
            step = bring_weights(self._store, origin, into=spool, cache=scratch, say=self._say)
            self._course.began_with = origin.told(step)
            request = request_for(None)
            notes = request.notes
            if step < origin.step:
                late = f"of step {origin.step} no checkpoint is there"
                notes = (*notes, f"the weights of {origin.run_id} are those of its step {step}: {late}")
            return replace(request, weights_of=origin.run_id, notes=notes)
        found = bring_state(self._store, origin, into=spool, cache=scratch, say=self._say)
        if found is None:
            note = f"{origin.run_id} has left no state to go on from, so this run begins at step 0"
            self._say(note)
            request = request_for(None)
            return replace(request, notes=(*request.notes, note))
        self._course.began_with = origin.told(found.header.step)
        request = request_for(found)
        notes = (*request.notes, *why_not_exact(origin, self._assignment.run_file))
        return replace(request, continues=origin.run_id, notes=notes)

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

    def _say(self, text: str) -> None:
        """For what may be left to itself: once the attempt is over, nobody wants to hear of it any more."""
        if self._course.outcome is None:
            self._context.say(text)

    def _say_and_note(self, text: str) -> None:
        """For what concerns the job's owner, who reads the log, as well."""
        self._say(text)
        self._texts.note(text)
