"""What a person sees of schedules: submit, schedule list, suspend, resume."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.cli.test_commands import Shell, job
from tests.cli.test_commands import shell as shell

NIGHTLY = "entrypoint: train.py\nschedule: {cron: 0 3 * * *, timezone: Europe/Berlin}\n"


def test_a_job_with_a_schedule_is_put_in_its_place_and_says_when_it_first_runs(shell: Shell) -> None:
    assert shell.out("submit", job(NIGHTLY)).startswith("mine: falls due next on ")
    assert (shell.root / "jobs/mine/job.yaml").is_file()
    assert shell.json("status") == []
    [listed] = shell.json("schedule", "list")
    assert listed["cron"] == "0 3 * * *"
    assert listed["last_run"] is None
    coming = [datetime.fromisoformat(each) for each in listed["next"]]
    assert len(coming) == 5
    assert coming == sorted(coming)
    assert {(each.hour, each.minute) for each in coming} == {(3, 0)}, "by the clock on the wall"


def test_now_makes_a_run_at_once(shell: Shell) -> None:
    assert shell.out("submit", job(NIGHTLY), "--now").startswith("mine-")
    assert len(shell.json("status")) == 1


@pytest.mark.parametrize("option", ["--again", "--wait", "-pepochs=3"])
def test_what_is_meant_for_one_run_is_refused_without_now(shell: Shell, option: str) -> None:
    assert "driverun submit --now" in shell.refused("submit", job(NIGHTLY), option)
    assert not (shell.root / "jobs/mine").exists()


def test_it_is_suspended_and_resumed(shell: Shell) -> None:
    shell.out("submit", job(NIGHTLY))
    assert "suspended; go on with: driverun schedule resume mine" in shell.out("schedule", "suspend", "mine")
    [listed] = shell.json("schedule", "list")
    assert (listed["suspended"], listed["next"]) == (True, [])
    assert "suspended" in shell.out("schedule", "list")
    assert shell.out("schedule", "resume", "jobs/mine").startswith("mine: falls due next on ")
    assert shell.out("schedule", "list").count("03:00 CE") == 5
    assert "no job of that name on the root has a schedule. Did you mean mine?" in shell.refused(
        "schedule", "suspend", "mien"
    )


def test_a_schedule_that_cannot_be_is_refused_with_its_field(shell: Shell) -> None:
    past = NIGHTLY.replace("}", ", until: 2020-01-01}")
    assert "job.yaml:2: schedule.until: 2020-01-01 is in the past" in shell.refused("submit", job(past))
    never = NIGHTLY.replace("0 3 * * *", "0 0 30 2 *")
    assert "schedule.cron: '0 0 30 2 *' never comes" in shell.refused("submit", job(never))
    early = NIGHTLY + "after: [prepare]\n"
    assert "mine/job.yaml:3: after[0]: there is no job prepare" in shell.refused("submit", job(early))
    assert not (shell.root / "jobs/mine").exists()


def test_a_faulty_schedule_on_the_root_is_told_beside_those_that_are_sound(shell: Shell) -> None:
    shell.out("submit", job(NIGHTLY))
    folder = shell.root / "jobs/other"
    folder.mkdir()
    (folder / "train.py").write_text("")
    (folder / "job.yaml").write_text(NIGHTLY.replace("Europe/Berlin", "Europe/Berlni"))
    listed = shell("schedule", "list")
    assert "mine  0 3 * * *  Europe/Berlin" in listed.stdout
    assert (
        "jobs/other/job.yaml:2: schedule.timezone: there is no time zone 'Europe/Berlni'; did you mean"
        in listed.stderr
    )
