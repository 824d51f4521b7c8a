"""A run's id follows from what is computed, and from nothing else."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from driverun.errors import SpecError
from driverun.spec.identity import code_sha256_of, computed_part, run_id_of, spec_from_json, spec_to_json
from driverun.spec.model import JobSpec
from driverun.spec.parser import parse_job

BASE = {"name": "mnist", "entrypoint": "train.py", "params": {"lr": 0.1, "epochs": 5}}
CODE = "c0de" * 16


def run_id(**changes: Any) -> str:
    return run_id_of(JobSpec.model_validate({**BASE, **changes}), code_sha256=CODE)


@pytest.mark.parametrize(
    "changes",
    [
        {"init_from": {"run": "mnist-0123456789ab", "what": "weights"}},
        {"init_from": {"run": "mnist-0123456789ab", "what": "state"}},
        {"entrypoint": "other.py"},
        {"entrypoint": ["train.py", "x"]},
        {"params": {"lr": 0.1, "epochs": 6}},
        {"params": {"lr": 0.1, "epochs": 5.0}},
        {"params": {"lr": 0.1, "epochs": "5"}},
        {"data": [{"source": "data/x"}]},
        {"outputs": {"exclude": ["cache/**"]}},
        {"seed": 1},
        {"deterministic": True},
        {"backend": "tensorflow"},
    ],
)
def test_what_is_computed_is_in_the_id(changes: dict[str, Any]) -> None:
    assert run_id(**changes) != run_id()


@pytest.mark.parametrize(
    "changes",
    [
        {"params": {"epochs": 5, "lr": 1e-1}},
        {"checkpoint": {"every": "30s", "keep": 9}},
        {"retry": {"max_errors": 3, "backoff": "1m"}},
        {"timeout": "6h"},
        {"stop_when_idle": "10m"},
        {"priority": 5},
        {"notes": "again"},
        {"accelerator": "gpu"},
        {"secrets": ["HF_TOKEN"]},
        {"outputs": {"max_checkpoint_size": 1}},
    ],
)
def test_how_it_is_operated_is_not_in_the_id(changes: dict[str, Any]) -> None:
    assert run_id(**changes) == run_id()


def test_how_data_reaches_the_disk_is_not_in_the_id() -> None:
    assert run_id(data=[{"source": "x", "access": "mount"}]) == run_id(data=[{"source": "x"}])


def test_code_and_repeat_are_in_the_id() -> None:
    spec = JobSpec.model_validate(BASE)
    ids = {run_id_of(spec, code_sha256=code, repeat=repeat) for code in ("a", "b") for repeat in (0, 1)}
    assert len(ids) == 4
    assert all(re.fullmatch(r"mnist-[0-9a-f]{12}", run_id) for run_id in ids)


def test_the_id_of_a_known_job_never_changes() -> None:
    # Roots out there are full of such ids: a change of this line orphans every finished run.
    assert run_id() == "mnist-d9f18519f203"
    assert list(computed_part(JobSpec.model_validate(BASE), code_sha256=CODE, repeat=0)) == [
        "code_sha256",
        "entrypoint",
        "params",
        "data",
        "outputs",
        "seed",
        "deterministic",
        "backend",
        "requirements",
        "repeat",
    ]


def test_the_digest_of_code_knows_paths_bytes_and_modes_but_no_order() -> None:
    files = {"train.py": ("a" * 64, False), "b/run.sh": ("b" * 64, True)}
    digest = code_sha256_of(files)
    assert re.fullmatch(r"[0-9a-f]{64}", digest)
    assert code_sha256_of(dict(reversed(files.items()))) == digest
    others = [
        {**files, "train.py": ("c" * 64, False)},
        {**files, "train.py": ("a" * 64, True)},
        {"main.py": files["train.py"], "b/run.sh": files["b/run.sh"]},
        {"train.py": files["train.py"]},
        {},
    ]
    assert len({digest, *map(code_sha256_of, others)}) == 6


FULL = b"""
name: full-1
entrypoint: [python, train.py, --lr, "{lr}"]
params: {lr: 1e-3, nested: {a: [1, 2.5, null, true, "x"]}, big: 123456789012345678901234567890, u: "\xc3\xa4"}
data:
  - {source: ./data//a.npz, access: mount, target: data/train.npz, optional: true}
  - {source: data/images/}
  - {source: x, target: data/data/y}
outputs: {include: ["*.png"], exclude: [cache/**], max_checkpoint_size: 4MiB}
seed: 7
deterministic: false
accelerator: gpu
checkpoint: {every: 1.25s, keep: 5, monitor: val_loss, mode: min}
retry: {max_errors: 2}
backend: tensorflow
priority: -3
notes: |
  two
  lines
"""


@pytest.mark.parametrize(
    "text",
    [
        FULL,
        b"entrypoint: train.py",
        b"entrypoint: a.b:c\ncheckpoint: {every: 1 epoch}",
        b"entrypoint: [make, all]\ncheckpoint: {every: 500 steps}",
        b"entrypoint: [make]\ncheckpoint: {every: 0.333333333333333333s}",
    ],
)
def test_a_spec_survives_the_way_through_json(text: bytes) -> None:
    spec = parse_job(text, file="job.yaml", default_name="job")
    stored = json.dumps(spec_to_json(spec))
    assert spec_from_json(json.loads(stored)) == spec
    assert parse_job(stored.encode(), file="job.yaml", default_name="other") == spec  # it is a job file, too


def test_fields_of_a_later_version_are_passed_over() -> None:
    stored = spec_to_json(JobSpec.model_validate(BASE))
    checkpoint = {**stored["checkpoint"], "colour": 1}  # type: ignore[dict-item]  # it is a mapping
    assert spec_from_json({**stored, "checkpoint": checkpoint, "later": [1]}) == JobSpec.model_validate(BASE)


def test_a_stored_spec_that_is_none_is_refused_in_plain_words() -> None:
    with pytest.raises(SpecError, match="the stored spec: seed: expected a whole number"):
        spec_from_json({**BASE, "seed": "x"})  # type: ignore[dict-item]  # a mapping of JSON values
