from __future__ import annotations

from collections.abc import Mapping

import pytest

from driverun.spec.order import JobHead, job_head, order_faults, order_of
from driverun.spec.parser import parse_job


def heads(**after: str) -> dict[str, JobHead]:
    return {
        name: JobHead(file=f"jobs/{name}/job.yaml", name=name, after=tuple(names.split()))
        for name, names in after.items()
    }


def told(found: Mapping[str, JobHead]) -> dict[str, list[str]]:
    return {key: [str(fault) for fault in faults] for key, faults in order_faults(found).items()}


def test_jobs_in_order_have_no_faults_and_come_behind_those_before_them() -> None:
    jobs = heads(report="train prepare", train="prepare split", split="prepare", prepare="", other="")
    assert order_faults(jobs) == {}
    assert order_of("report", jobs) == ["prepare", "split", "train", "report"]
    assert order_of("prepare", jobs) == ["prepare"]


@pytest.mark.parametrize(
    ("jobs", "faulty", "cycle"),
    [
        (heads(a="a"), {"a"}, "a -> a"),
        (heads(a="b", b="a"), {"a", "b"}, "a -> b -> a"),
        (heads(a="x b", b="c", c="a", x=""), {"a", "b", "c"}, "a -> b -> c -> a"),
    ],
)
def test_a_cycle_is_shown_to_each_job_in_it(jobs: dict[str, JobHead], faulty: set[str], cycle: str) -> None:
    found = told(jobs)
    assert found.keys() == faulty
    assert f"it would come after itself: {cycle}." in found["a"][0]
    for key in faulty:
        assert f"after itself: {key} -> " in found[key][0]
        assert f" -> {key}. " in found[key][0]


def test_a_job_behind_a_cycle_is_told_what_to_mend_however_far_behind_it_is() -> None:
    found = told(heads(a="b", b="a", c="b", d="c", e=""))
    assert found.keys() == {"a", "b", "c", "d"}
    assert "the job b, which it comes after, is INVALID: mend jobs/b/job.yaml first" in found["c"][0]
    assert "the job c, which it comes after, is INVALID" in found["d"][0]


def test_an_unknown_job_is_told_with_the_nearest_names() -> None:
    text = b"entrypoint: t.py\nafter:\n  - other\n  - prepair\n"
    spec = parse_job(text, file="jobs/train/job.yaml", default_name="train")
    jobs = heads(prepare="", other="") | {"train": job_head(spec, file="jobs/train/job.yaml", text=text)}
    [fault] = order_faults(jobs)["train"]
    assert (fault.line, fault.field) == (4, "after[1]")
    assert "no job prepair under jobs/ of the root; did you mean prepare?" in fault.message


def test_two_jobs_of_one_name_are_both_told_and_so_is_what_comes_after_them() -> None:
    jobs = heads(c="x", other="") | {
        "a": JobHead(file="jobs/a/job.yaml", name="x", name_line=2),
        "b": JobHead(file="jobs/b.yaml", name="x"),
    }
    found = order_faults(jobs)
    assert found.keys() == {"a", "b", "c"}
    assert (found["a"][0].line, found["a"][0].field) == (2, "name")
    for key in ("a", "b"):
        assert "jobs/a/job.yaml" in found[key][0].message
        assert "jobs/b.yaml" in found[key][0].message
    assert "INVALID" in found["c"][0].message


def test_a_job_after_one_whose_file_is_faulty_waits_for_that_to_be_mended() -> None:
    jobs = heads(a="b") | {"b": JobHead(file="jobs/b/job.yaml", name="b", is_sound=False)}
    assert told(jobs) == {
        "a": [str(order_faults(jobs)["a"][0])],
    }
    assert "mend jobs/b/job.yaml first" in told(jobs)["a"][0]
