"""What `driverun.current_run()` says where there is no worker."""

from __future__ import annotations

from pathlib import Path

import pytest

import driverun
from driverun.errors import UsageError
from driverun.spec.parser import parse_job
from driverun.training.current import SPOOL_VARIABLE, set_current_run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(SPOOL_VARIABLE, raising=False)
    set_current_run(None)
    return tmp_path


def test_a_folder_without_a_job_file_makes_a_run_of_its_own(here: Path) -> None:
    run = driverun.current_run()
    assert (run.params, run.seed, run.attempt, run.run_id) == ({}, 0, 1, "")
    assert (run.data_dir, run.output_dir) == (here / "data", here)


def test_the_job_file_of_the_folder_gives_parameters_and_seed(here: Path) -> None:
    (here / "job.yaml").write_text("entrypoint: train.py\nseed: 7\nparams: {rate: 0.1}\n")
    run = driverun.current_run()
    assert (run.params, run.seed) == ({"rate": 0.1}, 7)


def test_parameters_are_what_a_worker_reads_in_the_same_file(here: Path) -> None:
    values = "1e-3, .5, 1.5E3, -2., 010, -7, 0o17, 0x1f, 1:30, 1_000, 2024-01-01, ~, null, true, False, text, '1e-3'"
    text = f"entrypoint: train.py\nparams: {{each: [{values}], none: }}\n"
    (here / "job.yaml").write_text(text)
    read = driverun.current_run().params
    assert repr(read) == repr(dict(parse_job(text.encode(), file="job.yaml", default_name="mine").params))
    assert read["each"][0] == 0.001


@pytest.mark.parametrize("text", ["", "[]", "params:\nseed:\n"])
def test_a_job_file_that_says_nothing_about_it_is_fine(here: Path, text: str) -> None:
    (here / "job.yaml").write_text(text)
    assert driverun.current_run().params == {}


@pytest.mark.parametrize("text", ["a: [", "seed: many"])
def test_a_job_file_that_does_not_parse_is_named(here: Path, text: str) -> None:
    (here / "job.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"cannot read .*job\.yaml"):
        driverun.current_run()


def test_a_run_that_is_over_leaves_the_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SPOOL_VARIABLE, str(here / "gone"))
    assert driverun.current_run().run_id == ""
