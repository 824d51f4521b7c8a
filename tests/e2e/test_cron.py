"""The same as test_tick.py, by a real cron that fires once a minute.

It needs root, and starts the daemon that DRIVERUN_CRON names, as in DRIVERUN_CRON=/usr/sbin/cron, with a line of its
own in /etc/cron.d. The machine must have no cron that runs. It takes four minutes. Unasked for, no daemon is started on
anybody's machine.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from driverun.clock import SystemClock
from tests.e2e.runtimes import REPOSITORY
from tests.e2e.unattended import NIGHTLY, Desk

CRON = os.environ.get("DRIVERUN_CRON", "")
PATIENCE_S = 400.0
MARK = "exit "

pytestmark = pytest.mark.skipif(not CRON, reason="DRIVERUN_CRON names no cron daemon")


@contextmanager
def cron(line: str, name: str) -> Iterator[None]:
    """The daemon with one more line, for as long as the block lasts."""
    table = Path("/etc/cron.d") / name
    table.write_text(f"SHELL=/bin/sh\nPATH=/usr/bin:/bin\n{line}\n")
    table.chmod(0o644)
    daemon = subprocess.Popen([CRON, "-f"], stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
        assert daemon.poll() is None, "the daemon ended; another may be running"
    finally:
        daemon.terminate()
        daemon.wait()
        table.unlink()


def fired(log: Path) -> list[tuple[str, int]]:
    """What each pass printed, and its exit code."""
    text = log.read_text() if log.exists() else ""
    found = re.findall(rf"(.*?){MARK}(\d+)\n", text, flags=re.DOTALL)
    return [(printed.strip(), int(code)) for printed, code in found]


def test_one_resumes_one_starts_what_is_due_one_finds_nothing_to_do(tmp_path: Path) -> None:
    desk, log, clock = Desk(tmp_path), tmp_path / "tick.log", SystemClock()
    desk.init()
    cut = desk.interrupted()
    left_s = 60 - datetime.now(UTC).second
    if left_s < 15:
        clock.sleep(left_s + 1)  # the first one is to come after all of this
    first = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    due = first + timedelta(minutes=1)
    said = desk.job("once", NIGHTLY, schedule={"cron": f"{due.minute} {due.hour} * * *"})
    assert f"{due:%Y-%m-%d %H:%M} UTC" in said
    words = f"DRIVERUN_WORKDIR={tmp_path}/work {sys.executable} -m driverun tick --root {desk.root}"
    line = f"* * * * * root cd {REPOSITORY} && {words} >>{log} 2>&1; echo {MARK}$? >>{log}"
    with cron(line, f"driverun-test-{os.getpid()}"):
        end_s = clock.monotonic() + PATIENCE_S
        while len(fired(log)) < 3:
            assert clock.monotonic() < end_s, log.read_text() if log.exists() else "it never fired"
            clock.sleep(1.0)
    (one, first_code), (two, second_code), (three, third_code) = fired(log)[:3]
    assert one.endswith(f"tick: {cut} SUCCEEDED (attempt 2)")
    made = re.fullmatch(r".* tick: made (once-\w+); \1 SUCCEEDED \(attempt 1\)", two)
    assert made is not None, two
    assert desk.lines(made[1])[-1] == f"due {due.isoformat()}"
    assert three.endswith("tick: nothing to do")
    assert (first_code, second_code, third_code) == (0, 0, 0)
    print(log.read_text())  # noqa: T201 - for whoever runs it with -s
