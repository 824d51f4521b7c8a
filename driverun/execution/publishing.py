"""Publishes the results of a run, or takes over those that an attempt before published."""

from __future__ import annotations

from driverun.dispatch.results import confirmed_results, earlier_results
from driverun.errors import IntegrityError, ObjectNotFound
from driverun.execution.assignment import Assignment
from driverun.execution.context import WorkerContext
from driverun.execution.course import Course
from driverun.execution.finishing import collect_results, results_of
from driverun.execution.outcome import Outcome
from driverun.execution.ownership import OwnershipWatch
from driverun.execution.persisting import persist
from driverun.execution.recording import AttemptRecord
from driverun.execution.stopping import StopAsked, StoppableClock, unless_abandoned
from driverun.execution.texts import Texts
from driverun.execution.withholding import Withholding
from driverun.execution.workdir import AttemptFolders
from driverun.runs.record import AttemptState
from driverun.transfer.publish import publish_results
from driverun.transfer.results import read_results_manifest


def taken_over(context: WorkerContext, course: Course, ownership: OwnershipWatch) -> Outcome | None:
    """The outcome if an attempt before this one finished the run without living to say so."""
    found = earlier_results(context.store, course.key, ownership.claims)
    if found is None:
        return None
    try:
        summary = read_results_manifest(context.store, found.path).summary
    except (IntegrityError, ObjectNotFound) as exc:
        context.say(f"results of an earlier attempt are not used: {exc}")
        return None
    record, told = summary.get("record", {}), course.told
    told.state_sha256 = summary.get("state_sha256")
    told.metrics = dict(summary.get("metrics", {}))
    told.step = told.first_step = told.total_steps = int(summary.get("step", 0))
    told.epoch, told.fit = record.get("epoch"), record.get("fit")
    return Outcome(
        state=AttemptState.SUCCEEDED,
        reason="an earlier attempt had finished it",
        results=found,
        outputs_sha256=summary.get("outputs_sha256"),
    )


def publish(
    context: WorkerContext,
    assignment: Assignment,
    folders: AttemptFolders,
    *,
    ownership: OwnershipWatch,
    course: Course,
    texts: Texts,
    record: AttemptRecord,
    withholding: Withholding,
) -> Outcome:
    """Put the results of a finished script on the root, and make sure that they are the run's.

    Raises:
        LostOwnership, StoreError: as `persist`; what was published does not count, or not yet.
        Abandoned: a person has asked twice.
    """
    course.doing = "publishing results"
    withheld = unless_abandoned(context, lambda: withholding.of_results(results_of(assignment.spec, folders)))
    shown = {withholding.shown(path): why for path, why in withheld.items()}
    for path, why in shown.items():
        texts.take_line(f"[driverun] {path} is not published: {why}")
    texts.flush()
    collected = persist(
        context,
        lambda: collect_results(
            context.store,
            record.as_known(),
            course.told,
            folders,
            spec=assignment.spec,
            run_file=assignment.run_file,
            derived=assignment.derived,
            claims=ownership.claims,
            now=context.clock.now(),
            withheld=withheld,
        ),
        what="the report",
    )
    published = persist(
        context,
        lambda: publish_results(
            context.store,
            assignment.key,
            collected.files,
            still_ours=ownership.look,
            summary={
                **collected.summary,
                **({"withheld": shown} if shown else {}),
                "environment": course.environment(),
            },
        ),
        what="the results",
    )
    patient = StoppableClock(context.clock, context.stop)
    try:
        results = persist(
            context,
            lambda: confirmed_results(
                context.store, patient, assignment.key, published.created_at, ownership.claims
            ),
            what="the results",
        )
    except StopAsked:
        return Outcome.interrupted(
            "finished, its results are on the root; the next worker makes sure of them and says so"
        )
    return Outcome(
        state=AttemptState.SUCCEEDED, reason="", results=results, outputs_sha256=collected.outputs_sha256
    )
