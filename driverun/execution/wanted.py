"""To which jobs a worker keeps, by the names that a person gave it."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

from driverun.runs.evidence import RunEvidence
from driverun.runs.layout import JOBS


class WantedJobs:
    """Names of jobs, or ids of runs. Where none is given, all are wanted."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(name.removeprefix(f"{JOBS}/").rstrip("/") for name in names)

    @property
    def are_all(self) -> bool:
        """Was no name given?"""
        return not self._names

    def wants_job(self, name: str) -> bool:
        """Is the job wanted whose folder or file has this name?"""
        return self.are_all or name in self._names

    def wants(self, evidence: RunEvidence) -> bool:
        return self.are_all or not self._names.isdisjoint(_names_of(evidence))

    def refusal(self, jobs: Iterable[str], runs: Iterable[RunEvidence], *, location: str) -> str | None:
        """What is wrong with the names, for people; None where there is a job or a run of each.

        Args:
            jobs: names of all jobs of the root.
            runs: all of the root.
            location: of the root.
        """
        known = {*jobs, *(name for evidence in runs for name in _names_of(evidence))}
        unknown = sorted(self._names - known)
        if not unknown:
            return None
        near = difflib.get_close_matches(unknown[0], sorted(known), n=3, cutoff=0.5)
        hint = f" Did you mean {', '.join(near)}?" if near else " See what there is with `driverun status`."
        return f"cannot work on {', '.join(unknown)}: there is no job and no run of that name on {location}.{hint}"

    def left_to_others(self, before: Iterable[RunEvidence]) -> str:
        """What to add where a run comes after these, which are not done yet; "" where they are all wanted."""
        names = {each.run_file.name for each in before if each.run_file is not None and not self.wants(each)}
        if not names:
            return ""
        told = " ".join(f"--job {name}" for name in sorted(names))
        return f". This worker keeps to {', '.join(sorted(self._names))}; give it {told} as well"


def _names_of(evidence: RunEvidence) -> set[str]:
    """What a person may call the run: its id, its name, that of its job's folder."""
    names = {evidence.run_id}
    if evidence.run_file is not None:
        names.add(evidence.run_file.name)
    job = evidence.submitted.get("job")
    if isinstance(job, str):
        names.add(job.removeprefix(f"{JOBS}/"))
    return names
