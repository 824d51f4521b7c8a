from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from driverun.errors import SpoolError
from driverun.spool.folder import SpoolFolder
from driverun.spool.request import TrainingRequest

PLAIN = TrainingRequest(
    run_id="mnist-0123456789ab",
    name="mnist",
    attempt=2,
    worker="w1",
    entrypoint_kind="script",
    entrypoint="train.py",
    argv=(),
    params={},
    seed=2**32 - 1,
    deterministic=None,
    backend=None,
    working_folder="/w",
    buffers="/b",
    cadence_kind="auto",
    cadence_value=None,
    monitor=None,
)
FULL = dataclasses.replace(
    PLAIN,
    argv=("--rate", "0.1", "ü \udc80"),
    params={"rate": 1e-320, "layers": [64, 32], "nested": {"a": None, "b": True}},
    deterministic=False,
    cadence_kind="seconds",
    cadence_value=2.5,
    monitor="val_loss",
    code_files={"train.py": "ab" * 32},
    outputs_include=("*.png", "models/**"),
    outputs_exclude=("tmp/",),
    notes=("the data have changed",),
    restore_fits=3,
    restore_checkpoint=True,
)


@pytest.mark.parametrize("request_", [PLAIN, FULL], ids=["plain", "full"])
def test_a_request_comes_back_as_it_was(tmp_path: Path, request_: TrainingRequest) -> None:
    request_.write(tmp_path / "r.json")
    assert TrainingRequest.read(tmp_path / "r.json") == request_


def test_fields_may_be_added_and_left_out(tmp_path: Path) -> None:
    raw = {**dataclasses.asdict(PLAIN), "mood": "new"}
    del raw["notes"], raw["restore_fits"]
    (tmp_path / "r.json").write_text(json.dumps(raw))
    assert TrainingRequest.read(tmp_path / "r.json") == PLAIN


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"{}", b"\xff", b'{"run_id": "x"}', b'{"argv": 3}']
)
def test_what_is_no_request_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r.json").write_bytes(content)
    with pytest.raises(SpoolError, match=r"cannot read the request .*r\.json"):
        TrainingRequest.read(tmp_path / "r.json")


def test_a_request_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="cannot read the request"):
        TrainingRequest.read(tmp_path / "r.json")


def test_a_spool_may_be_made_again_and_keeps_what_is_in_it(tmp_path: Path) -> None:
    spool = SpoolFolder(path=tmp_path / "deep" / "spool")
    spool.make()
    spool.file("ab").write_text("kept")
    spool.make()
    assert spool.file("ab").read_text() == "kept"
    assert spool.models.is_dir()
    assert spool.fit(0).parent.is_dir()
    assert spool.restored_fit(0).parent.is_dir()


def test_no_two_things_of_a_spool_lie_in_one_place(tmp_path: Path) -> None:
    spool = SpoolFolder(path=tmp_path)
    places = [
        spool.request,
        spool.control,
        spool.progress,
        spool.events,
        spool.trainer_lock,
        spool.files,
        spool.models,
        spool.restored_checkpoint,
        spool.fit(0),
        spool.fit(1),
        spool.restored_fit(0),
        spool.restored_fit(1000),
    ]
    assert len(set(places)) == len(places)
    assert all(place.is_relative_to(tmp_path) for place in places)
    assert sorted([spool.fit(10), spool.fit(9)]) == [spool.fit(9), spool.fit(10)]
