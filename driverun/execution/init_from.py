"""Which run it is that a job means to begin with."""

from __future__ import annotations

import difflib

from driverun.dispatch.ledger import Ledger
from driverun.errors import Fault, SpecError
from driverun.execution.standing import state_as_alive
from driverun.runs.evidence import RunEvidence
from driverun.runs.layout import RUN_ID
from driverun.runs.state import RunState, derive_state
from driverun.spec.model import InitFrom, JobSpec

PLACE = "init_from.run"


def with_run_named(spec: JobSpec, ledger: Ledger, *, file: str) -> JobSpec:
    """The spec with the id of the run that `init_from` means; as it is where it has none.

    Raises:
        SpecError: there is no such run, or none of that job has succeeded.
    """
    if spec.init_from is None:
        return spec
    fault = fault_of(spec.init_from, ledger)
    if fault is not None:
        raise SpecError([Fault(file=file, line=None, field=PLACE, message=fault)])
    run_id = _run_meant(spec.init_from.run, ledger)
    assert run_id is not None, "or it would be a fault"
    return spec.model_copy(update={"init_from": InitFrom(run=run_id, what=spec.init_from.what)})


def fault_of(wanted: InitFrom, ledger: Ledger) -> str | None:
    """Why there is no run to begin with, in words for the person who wrote it; None where there is one."""
    name = wanted.run
    if _run_meant(name, ledger) is not None:
        return None
    runs = [evidence for evidence in ledger.runs.values() if _job_of(evidence) == name]
    if runs:
        states = ", ".join(sorted({state_as_alive(evidence).state.value for evidence in runs}))
        return (
            f"no run of the job {name} has succeeded yet ({len(runs)} there: {states})."
            " Wait for one, or write the id of the run"
        )
    known = sorted({*ledger.runs, *(job for each in ledger.runs.values() if (job := _job_of(each)))})
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "see what there is with `driverun status`"
    return f"there is no run and no job with runs called {name}; {hint}"


def _run_meant(name: str, ledger: Ledger) -> str | None:
    if RUN_ID.fullmatch(name) and ledger.run(name) is not None:
        return name
    succeeded = [
        (derived.results.created_at, run_id)
        for run_id, evidence in ledger.runs.items()
        if _job_of(evidence) == name
        and (derived := derive_state(evidence)).state is RunState.SUCCEEDED
        and derived.results is not None
    ]
    return max(succeeded)[1] if succeeded else None


def _job_of(evidence: RunEvidence) -> str | None:
    return evidence.run_file.name if evidence.run_file is not None else None
