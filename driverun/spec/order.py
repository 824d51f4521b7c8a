"""Which jobs of a root come after which, and what is wrong with that."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from driverun.errors import Fault
from driverun.spec.model import JobSpec
from driverun.spec.reader import read_yaml


@dataclass(frozen=True, slots=True, kw_only=True)
class JobHead:
    """What other jobs of the same root need to know of a job."""

    file: str  #: the job file, as a person would look for it
    name: str
    after: tuple[str, ...] = ()  #: names of the jobs before it
    name_line: int | None = None  #: where the file says so
    after_lines: tuple[int | None, ...] = ()
    is_sound: bool = True  #: False: the file is faulty, and its name is that of its folder


def job_head(spec: JobSpec, *, file: str, text: bytes) -> JobHead:
    """The head of a job.

    Args:
        file: as faults are to name it.
        text: of the job file, for the lines to blame.
    """
    document = read_yaml(text, file=file)
    return JobHead(
        file=file,
        name=spec.name,
        after=spec.after,
        name_line=document.line(("name",)),
        after_lines=tuple(document.line(("after", number)) for number in range(len(spec.after))),
    )


def order_faults(heads: Mapping[str, JobHead]) -> dict[str, tuple[Fault, ...]]:
    """What is wrong with jobs only beside each other: equal names, names of no job, cycles, faulty ones before them.

    Args:
        heads: all jobs of the root, by whatever tells them apart.
    """
    by_name: dict[str, list[str]] = defaultdict(list)
    for key, head in sorted(heads.items()):
        by_name[head.name].append(key)
    found: dict[str, list[Fault]] = defaultdict(list)
    for keys in by_name.values():
        if len(keys) > 1:
            for key in keys:
                found[key].append(_equal_names(heads[key], [heads[other] for other in keys if other != key]))
    for key, head in heads.items():
        for number, name in enumerate(head.after):
            if name not in by_name:
                found[key].append(_after_fault(head, number, _no_job(name, by_name)))
        cycle = _cycle(head, heads, by_name)
        if cycle is not None:
            message = (
                f"it would come after itself: {' -> '.join(cycle)}. Take one of these out of its `after`"
            )
            found[key].append(_after_fault(head, head.after.index(cycle[1]), message))
    return {key: tuple(faults) for key, faults in _with_those_behind(heads, by_name, found).items()}


def order_of(key: str, heads: Mapping[str, JobHead]) -> list[str]:
    """All jobs that come before the one at `key`, each behind those before it, then that one.

    `order_faults` has to have found nothing wrong with it.
    """
    key_of = {head.name: other for other, head in heads.items()}
    ordered: dict[str, None] = {}

    def visit(each: str) -> None:
        if each not in ordered:
            for name in heads[each].after:
                visit(key_of[name])
            ordered[each] = None

    visit(key)
    return list(ordered)


def no_run_yet(head: JobHead, before: JobHead, *, folder: str) -> Fault:
    """What to tell of a job that comes after one with a schedule, which has made no run yet.

    Args:
        folder: of that one, under `jobs/`.
    """
    message = (
        f"the job {before.name}, which it comes after, has a schedule and no run yet. Wait until it falls due"
        f" (driverun schedule list), or make a run of it at once: driverun submit --now {folder}"
    )
    number = head.after.index(before.name) if before.name in head.after else 0
    return _after_fault(head, number, message)


def _equal_names(head: JobHead, others: list[JobHead]) -> Fault:
    files = " and ".join(other.file for other in others)
    message = (
        f"the job {head.file} is called {head.name}, and so is {files}; which of them is meant nobody could tell."
        " Give one of them another name, or remove it"
    )
    return Fault(file=head.file, line=head.name_line, field="name", message=message)


def _no_job(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "put that job there, or take the name out"
    return f"there is no job {name} under jobs/ of the root; {hint}"


def _after_fault(head: JobHead, number: int, message: str) -> Fault:
    line = head.after_lines[number] if number < len(head.after_lines) else None
    return Fault(file=head.file, line=line, field=f"after[{number}]", message=message)


def _cycle(head: JobHead, heads: Mapping[str, JobHead], by_name: Mapping[str, list[str]]) -> list[str] | None:
    """Names from the job back to itself, on the shortest way; None where there is none."""
    ways = [[head.name, name] for name in head.after]
    seen: set[str] = set()
    for way in ways:  # grows as it is walked
        name = way[-1]
        if name == head.name:
            return way
        if name not in seen:
            seen.add(name)
            ways += [[*way, later] for key in by_name.get(name, ()) for later in heads[key].after]
    return None


def _with_those_behind(
    heads: Mapping[str, JobHead], by_name: Mapping[str, list[str]], found: Mapping[str, list[Fault]]
) -> dict[str, list[Fault]]:
    """The faults, with one for each job that is sound itself and comes after a faulty one, however far behind."""
    faults = {key: list(each) for key, each in found.items() if each}
    bad = set(faults) | {key for key, head in heads.items() if not head.is_sound}
    is_done = False
    while not is_done:
        is_done = True
        for key in heads.keys() - bad:
            head = heads[key]
            for number, name in enumerate(head.after):
                faulty = [other for other in by_name.get(name, ()) if other in bad]
                if faulty:
                    message = f"the job {name}, which it comes after, is INVALID: mend {heads[faulty[0]].file} first"
                    faults.setdefault(key, []).append(_after_fault(head, number, message))
            if key in faults:
                bad.add(key)
                is_done = False
    return faults
