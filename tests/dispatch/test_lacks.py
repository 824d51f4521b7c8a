from __future__ import annotations

from collections.abc import Sequence

import pytest

from driverun.dispatch.lacks import Looked, lacks_of
from driverun.runs.evidence import RunEvidence
from driverun.runs.state import WaitingFor, derive_state
from driverun.spec.model import JobSpec
from driverun.spec.parser import parse_job


def spec(**fields: object) -> JobSpec:
    text = "".join(f"{name}: {value}\n" for name, value in {"entrypoint": "t.py", **fields}.items())
    return parse_job(text.encode(), file="job.yaml", default_name="digits")


def looked(*, missing: Sequence[str] = ()) -> Looked:
    evidence = RunEvidence(run_id="digits-0123456789ab")
    return Looked(
        evidence=evidence,
        derived=derive_state(evidence),
        spec=spec(),
        missing_data=lambda: missing,
        state_of=lambda _: None,
    )


@pytest.mark.parametrize("missing", [(), ("data/a.npz", "data/b.npz")])
def test_a_run_lacks_the_data_that_is_not_on_the_root(missing: Sequence[str]) -> None:
    lacks = lacks_of(looked(missing=missing))
    assert [lack.waiting_for for lack in lacks] == [WaitingFor.DATA] * bool(missing)
    if missing:
        assert "data/a.npz, data/b.npz" in lacks[0].text
        assert "driverun upload FILE data/a.npz" in lacks[0].text
