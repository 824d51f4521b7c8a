"""What runs came to, side by side: their final states, and the first place where two of them differ."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from driverun.checkpoints.newest import find_checkpoints, load_manifest
from driverun.errors import UsageError
from driverun.report.diff import Difference, first_difference
from driverun.report.final_state import FinalState, OutputFile, final_state_of
from driverun.runs.evidence import RunEvidence
from driverun.runs.state import Derived
from driverun.spool.outputs import differs_by_the_clock
from driverun.storage.base import ObjectStore
from driverun.transfer.fetch import ResultReader
from driverun.transfer.results import ResultsManifest, read_results_manifest


def first_difference_in(
    run_a: str, first: Sequence[FinalState], run_b: str, second: Sequence[FinalState]
) -> Difference | None:
    """The first variable, value or output in which two runs differ; None if they are the same.

    Raises:
        UsageError: one of them left nothing, or fewer states than the other which are otherwise the same.
    """
    if not first and not second:
        raise UsageError(
            f"cannot compare {run_a} and {run_b}: neither has trained anything yet. Compare them once they have."
        )
    if not first or not second:
        raise UsageError(
            f"cannot compare {run_a} and {run_b}: {run_b if first else run_a} has neither a checkpoint nor"
            " results. See where it stands with `driverun status`."
        )
    for a, b in zip(first, second, strict=False):
        difference = first_difference(a, b)
        if difference is not None:
            return difference
    if len(first) != len(second):
        raise UsageError(
            f"cannot compare {run_a} and {run_b} to the end: {run_a} left {len(first)} states to compare (the"
            f" ends of its fits, its newest one, its outputs), {run_b} {len(second)}; as far as both go they"
            " are the same. Compare them when both are done."
        )
    return None


def final_states(
    store: ObjectStore, evidence: RunEvidence, derived: Derived, scratch: Path
) -> list[FinalState]:
    """The ends of the finished fits of a run in order, then the newest state if it is in the middle of one.

    What its script wrote comes last; a run that left nothing has none of these.
    """
    found = find_checkpoints(
        store, evidence.run_id, claims=evidence.claims, resume_after=derived.resume_after
    )
    if not found:
        return _outputs_alone(store, derived, evidence.run_id, scratch)
    newest = load_manifest(store, found[0].path).manifest
    manifests = [*(load_manifest(store, fit.path).manifest for fit in newest.fits), newest]
    states = [final_state_of(store, manifest, scratch, label=evidence.run_id) for manifest in manifests]
    return [*states, *_outputs_alone(store, derived, evidence.run_id, scratch)]


def _outputs_alone(store: ObjectStore, derived: Derived, run_id: str, scratch: Path) -> list[FinalState]:
    """What the script wrote, as a state of its own."""
    if derived.results is None:
        return []
    folder = derived.results.path
    manifest: ResultsManifest = read_results_manifest(store, folder)
    reader = ResultReader(store, folder, manifest, scratch)
    outputs = tuple(
        OutputFile(path=file.path, sha256=file.sha256, read=partial(reader.read, file.path))
        for file in manifest.files
        if file.path.startswith("outputs/") and not differs_by_the_clock(file.path)
    )
    return [FinalState(label=run_id, outputs=outputs)]
