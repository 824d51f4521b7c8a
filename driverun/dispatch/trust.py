"""Whose code may run on a root that others can write to.

Whoever can write to a root can put any file there. So what a file says counts by who changed it last, which the store
itself tells: a wish to run by somebody who is trusted, about files that trusted people wrote, or a trusted person's
approval of exactly this code and computation. Everything that goes by a run's evidence goes by what is left here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from driverun.errors import SpecError
from driverun.runs.evidence import RunEvidence, Unapproved, WishEvidence
from driverun.runs.layout import WishKind
from driverun.runs.record import RunFile
from driverun.spec.identity import computed_part, computed_sha256, spec_from_json
from driverun.storage.base import People

NOBODY = "somebody whom Drive does not name"
_DIGITS_IN_ID = 12


def judged(evidence: RunEvidence, people: People | None) -> RunEvidence:
    """The run by what counts of its evidence.

    A submission of trusted people leaves no other one standing, so nobody else changes its operating settings. Where
    only others want the run, their submissions stay, for people to see, and `unapproved` says what has to be
    approved. A retry that brings code of others counts once that code is approved. Who may write may cancel and move
    runs, which runs nothing.

    A wish that is known by its head is judged by that. A head could be changed alone, so who takes a run up reads all
    its wishes before.

    Args:
        people: None where the store tells nobody apart: then all of it counts.
    """
    if people is None or _is_beyond_doubt(evidence, people):
        return evidence
    wishes = [_with_belief(wish, people) for wish in evidence.wishes]
    submissions = [wish for wish in wishes if wish.kind is WishKind.SUBMIT]
    approvals = [
        wish.details for wish in wishes if wish.kind is WishKind.APPROVE and people.trusts(wish.author)
    ]
    counting = [
        wish
        for wish in submissions
        if not _strangers(wish, people)
        # A file of its own for the run is of an older driverun; whoever wrote it has to answer for it.
        and (wish.run_file is not None or people.believes(evidence.author))
    ]
    if not counting:
        counting = [
            wish
            for wish in submissions
            if (asked := wish.run_file or evidence.run_file) is not None
            and _is_approved(
                approvals, asked.code_sha256, _digest(asked, wish.is_head), secrets=_secrets_of(wish)
            )
            and (wish.is_head or _computes(wish, asked))
        ]
    is_allowed = bool(counting)
    newest = max(counting or submissions, key=lambda wish: wish.order, default=None)
    run_file = (newest.run_file if newest is not None else None) or evidence.run_file
    if newest is None or run_file is None:
        return replace(evidence, wishes=tuple(wishes))
    digest = _digest(run_file, newest.is_head)
    held_back = [
        wish
        for wish in wishes
        if _brings_code(wish)
        and _strangers(wish, people)
        and not _is_approved(approvals, wish.details["code_sha256"], digest)
    ]
    retry = max(held_back, key=lambda wish: wish.order, default=None)
    ignored = {wish.object_id for wish in held_back}
    if is_allowed:
        kept = {wish.object_id for wish in counting}
        ignored |= {wish.object_id for wish in submissions if wish.object_id not in kept}
    return replace(
        evidence,
        run_file=run_file,
        wishes=tuple(wish for wish in wishes if wish.object_id not in ignored),
        unapproved=None
        if is_allowed
        else Unapproved(
            code_sha256=run_file.code_sha256,
            computed_sha256=digest,
            authors=_strangers(newest, people) or (evidence.author or NOBODY,),
        ),
        unapproved_retry=None
        if retry is None
        else Unapproved(
            code_sha256=retry.details["code_sha256"],
            computed_sha256=digest,
            authors=_strangers(retry, people),
        ),
    )


def _is_beyond_doubt(evidence: RunEvidence, people: People) -> bool:
    """Is it one submission by trusted people, as nearly all runs are? Then there is nothing to weigh."""
    if len(evidence.wishes) != 1 or (wish := evidence.wishes[0]).kind is not WishKind.SUBMIT:
        return False
    return wish.run_file is not None and evidence.run_file is wish.run_file and not _strangers(wish, people)


def names_no_stranger(details: Mapping[str, Any], people: People | None) -> bool:
    """Are all trusted whom a submission names as writers of the job's files, if it names any?"""
    authors = details.get("authors")
    if people is None or not isinstance(authors, list):
        return True
    return all(isinstance(each, str) and people.trusts(each) for each in authors)


def approval_text(run_id: str, unapproved: Unapproved) -> str:
    """Why the run waits, and what to do."""
    return (
        f"last changed by {' and '.join(unapproved.authors)}, whose code does not run here unasked. "
        f"Look at it: driverun approve {run_id} --show"
    )


def _with_belief(wish: WishEvidence, people: People) -> WishEvidence:
    is_believed = people.believes(wish.author)
    return wish if wish.is_believed == is_believed else replace(wish, is_believed=is_believed)


def _digest(run_file: RunFile, is_head: bool) -> str:
    """What an approval has to name; of a head, so much of it as the run's id has.

    It is "" for what no driverun wrote, which cannot be approved.
    """
    if is_head:
        return run_file.run_id[-_DIGITS_IN_ID:]
    try:
        return computed_sha256(run_file.computed)
    except (ValueError, TypeError, RecursionError):
        return ""


def _is_approved(
    approvals: Iterable[Mapping[str, Any]], code_sha256: str, digest: str, *, secrets: Collection[str] = ()
) -> bool:
    return bool(digest) and any(
        details.get("code_sha256") == code_sha256
        and str(details.get("computed_sha256")).startswith(digest)
        and (not secrets or set(secrets) <= _texts(details.get("secrets")))
        for details in approvals
    )


def _secrets_of(wish: WishEvidence) -> frozenset[str]:
    """Names of the secrets that the code would get. They are no part of what is computed, and approved all the same."""
    spec = wish.details.get("spec")
    listed = spec.get("secrets") if isinstance(spec, Mapping) else None
    if not isinstance(listed, list):
        return frozenset()
    return frozenset(str(each.get("name") if isinstance(each, Mapping) else each) for each in listed)


def _texts(listed: object) -> set[str]:
    return {each for each in listed if isinstance(each, str)} if isinstance(listed, list) else set()


def _strangers(wish: WishEvidence, people: People) -> tuple[str, ...]:
    """Who of those that answer for the wish's code is not trusted; whoever says who they are has to be believed."""
    if not people.believes(wish.author):
        return (wish.author or NOBODY,)
    authors = wish.details.get("authors")
    if not isinstance(authors, list) or not authors:
        authors = [wish.author]  # it came from that person's own machine
    strangers = {each or NOBODY if isinstance(each, str | None) else NOBODY for each in authors}
    return tuple(sorted(each for each in strangers if not people.trusts(each)))


def _computes(wish: WishEvidence, run_file: RunFile) -> bool:
    """Is what the wish would have computed what the run file says?"""
    spec, computed = wish.details.get("spec"), run_file.computed
    if not isinstance(spec, Mapping):
        return False
    try:
        parsed = spec_from_json(spec)
        after = computed.get("after", {})
        part = computed_part(
            parsed, code_sha256=run_file.code_sha256, repeat=computed["repeat"], after=after or None
        )
        is_same = all(name in computed and computed[name] == value for name, value in part.items())
        return is_same and set(after) <= set(parsed.after)
    except (SpecError, KeyError, TypeError, ValueError):
        return False


def _brings_code(wish: WishEvidence) -> bool:
    return wish.kind is WishKind.RETRY and isinstance(wish.details.get("code_sha256"), str)
