"""Which runs a person means by the names of sweeps, jobs and runs."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from driverun.errors import RunNotFound, UsageError
from driverun.runs.evidence import RunEvidence
from driverun.runs.layout import JOBS, WishKind


def choose_runs(
    runs: Mapping[str, RunEvidence], of: Sequence[str], *, location: str
) -> tuple[list[RunEvidence], str]:
    """All runs that are meant, in the order of the matrix or of their age, and what they are, for people.

    Args:
        runs: all of the root.
        of: sweeps, jobs, ids of runs or beginnings of ids; none: the newest sweep, else every run.
        location: of the root, for messages.

    Raises:
        RunNotFound: a name is none of these.
        UsageError: a name is that of two jobs.
    """
    in_order = sorted(runs.values(), key=lambda each: (str(each.created_at), each.run_id))
    if not of:
        newest = _newest_sweep(in_order)
        if newest is None:
            return in_order, "all runs"
        of = (newest,)
    found: dict[str, RunEvidence] = {}
    for name in of:
        found.update((each.run_id, each) for each in _named(in_order, name, location))
    return list(found.values()), ", ".join(of)


def _named(runs: Sequence[RunEvidence], name: str, location: str) -> list[RunEvidence]:
    if "@" in name:
        sweeps = {sweep for each in runs for sweep in _sweeps(each) if sweep.startswith(name)}
        if len(sweeps) > 1 and name not in sweeps:
            raise UsageError(
                f"{name} may be one of {len(sweeps)} sweeps; give more of it: {', '.join(sorted(sweeps))}"
            )
        if sweeps:
            sweep = name if name in sweeps else sweeps.pop()
            return [each for each in runs if sweep in _sweeps(each)]
    by_id = [each for each in runs if each.run_id == name]
    bare = name.removeprefix(f"{JOBS}/").rstrip("/")
    of_job = [each for each in runs if bare in _names(each)]
    if not by_id and of_job:
        folders = {folder for each in of_job for folder in _folders(each)}
        if len(folders) < 2:
            return of_job
        if f"{JOBS}/{bare}" not in folders:
            raise UsageError(
                f"{name} is the name of runs of {' and '.join(sorted(folders))}; name the folder of the one you mean,"
                " a sweep or runs"
            )
        return [each for each in of_job if f"{JOBS}/{bare}" in _folders(each)]
    matching = by_id or [each for each in runs if each.run_id.startswith(name)]
    if len(matching) == 1:
        return matching
    if matching:
        listed = "\n  ".join(each.run_id for each in matching)
        raise RunNotFound(f"{name} may be one of {len(matching)} runs; give more of its id:\n  {listed}")
    known = {known for each in runs for known in (each.run_id, *_names(each), *_sweeps(each))}
    near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.5)
    hint = f" Did you mean {', '.join(near)}?" if near else " See what there is with `driverun status`."
    raise RunNotFound(f"there is no sweep, no job and no run {name} on {location}.{hint}")


def _submitted(evidence: RunEvidence, name: str) -> list[str]:
    said = (wish.details.get(name) for wish in evidence.wishes if wish.kind is WishKind.SUBMIT)
    return [each for each in said if isinstance(each, str)]


def _sweeps(evidence: RunEvidence) -> list[str]:
    return _submitted(evidence, "sweep")


def _folders(evidence: RunEvidence) -> list[str]:
    return _submitted(evidence, "job")


def _names(evidence: RunEvidence) -> set[str]:
    names = {folder.removeprefix(f"{JOBS}/") for folder in _folders(evidence)}
    return names | ({evidence.run_file.name} if evidence.run_file is not None else set())


def _newest_sweep(runs: Sequence[RunEvidence]) -> str | None:
    found = [
        (wish.order, sweep)
        for each in runs
        for wish in each.wishes
        if wish.kind is WishKind.SUBMIT and isinstance(sweep := wish.details.get("sweep"), str)
    ]
    return max(found)[1] if found else None
