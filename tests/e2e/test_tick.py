"""`driverun tick` as cron calls it: a bare environment, no terminal, no person."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from driverun.clock import SystemClock
from driverun.launchers.tick import only_one
from tests.e2e.runtimes import REPOSITORY, runtime, status
from tests.e2e.unattended import CUT, NIGHTLY, Desk

DAILY = {"cron": "@daily"}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def tick(desk: Desk, *arguments: str, expect: int) -> str:
    """The line that it prints, without its time."""
    home = desk.folder / "home"
    home.mkdir(exist_ok=True)
    words = [sys.executable, "-m", "driverun", "tick", "--root", str(desk.root), *arguments]
    done = subprocess.run(
        ["/bin/sh", "-c", f"cd {REPOSITORY} && exec {' '.join(words)}"],
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), "SHELL": "/bin/sh"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    assert done.stderr == ""
    found = re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z tick: (.*)\n", done.stdout)
    assert found is not None, done.stdout
    return found[1]


def test_one_resumes_one_starts_what_is_due_one_finds_nothing_to_do(desk: Desk) -> None:
    desk.seen("nightly", DAILY, at=datetime.now(UTC) - timedelta(hours=49))
    desk.init()
    cut = desk.interrupted()
    assert tick(desk, expect=0) == f"{cut} SUCCEEDED (attempt 2)"
    assert "attempt 2" in desk.lines(cut)

    assert "falls due next" in desk.job("nightly", NIGHTLY, schedule=DAILY)
    told = tick(desk, expect=0)
    made = told.removeprefix("made ").partition(";")[0]
    assert told == f"made {made}; {made} SUCCEEDED (attempt 1)", "the newest midnight, and none before it"
    today = datetime.now(UTC).date()
    assert desk.lines(made)[-1] in (f"due {day}T00:00:00+00:00" for day in (today, today - timedelta(days=1)))

    assert tick(desk, expect=0) == "nothing to do"
    assert status(desk.root, cut)["state"] == "SUCCEEDED"


def test_a_run_that_fails_is_told_by_the_exit_code_once(desk: Desk) -> None:
    desk.init()
    run_id = desk.job("bad", "raise SystemExit(3)\n")
    assert tick(desk, expect=1).startswith(f"{run_id} FAILED (attempt 1): ")
    assert tick(desk, expect=0) == "nothing to do"


def test_a_faulty_job_keeps_nothing_from_being_done(desk: Desk) -> None:
    desk.init()
    run_id = desk.job("good", "print(1)\n")
    bad = desk.root / "jobs/bad"
    bad.mkdir()
    (bad / "job.yaml").write_text("entrypoint: none.py\nschedule: {cron: 0 0 30 2 *}\n")
    told = tick(desk, expect=0)
    assert told == f"{run_id} SUCCEEDED (attempt 1); INVALID: bad (see: driverun status)"


def test_while_one_is_at_it_a_second_leaves_at_once(desk: Desk) -> None:
    desk.init()
    desk.job("good", "print(1)\n")
    with only_one(desk.folder / "home/.cache/driverun", str(desk.root)) as other:
        assert other is None
        assert re.fullmatch(r"another tick is at it \(process \d+\); nothing done", tick(desk, expect=0))
    assert "SUCCEEDED" in tick(desk, expect=0)


def test_a_worker_that_is_alive_is_not_waited_for(desk: Desk) -> None:
    """Not for a lease, that is: its record says that it lives."""
    desk.init()
    mark = desk.folder / "it-works"
    run_id = desk.job("cut", CUT.replace("MARK", repr(str(mark))))
    clock = SystemClock()
    with runtime(desk.root, "alive") as machine:
        machine.wait_until(mark.exists)
        began_s = clock.monotonic()
        assert tick(desk, expect=0) == f"1 run left ({run_id}: another worker is at it)"
        assert clock.monotonic() - began_s < 20
