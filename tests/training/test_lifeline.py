"""Nothing of a job outlives its runner by more than five seconds, however the runner went."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from driverun.spool.folder import REFUSED
from driverun.training.descendants import descendants_of
from tests.training.processes import GONE_S, PATIENCE_S, Job, Log, environment

RUNNER = """
import os, signal, subprocess, sys, threading
spool, ending = sys.argv[1:]
reading, writing = os.pipe()

def start():
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "driverun.training", spool, str(reading)],
        stdin=subprocess.DEVNULL, pass_fds=(reading,),
    )

if ending == "hoarder":  # some other process of the runner's has the pipe, too, and lives on
    if not os.fork():
        os.close(1), os.close(2)
        sys.stdin.read()
        os._exit(0)
if ending == "thread":
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    print("thread is over")
else:
    start()
os.close(reading)
sys.stdin.readline()
if ending == "close":
    os.close(writing)
    sys.stdin.read()
"""

BUSY = {
    "interpreter": "while True: pass",
    "wait": "import threading; threading.Event().wait()",
    # PyDLL keeps the interpreter's lock during the call, as careless libraries do
    "lock held": "import ctypes; ctypes.PyDLL(None).sleep(600)",
    "regular expression": "import re; re.match(r'(a*)*b', 'a' * 60)",
    "deaf": "import signal; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 13, 15)]; signal.pause()",
}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path / "job")


@contextmanager
def runner_of(
    job: Job, source: str, *, ending: str = "kill"
) -> Iterator[tuple[subprocess.Popen[bytes], Log]]:
    """A runner in a process of its own, which has started a trainer of `source`."""
    job.write("train.py", source)
    job.request.write(job.spool.request)
    process = subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(job.spool.path), ending],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    log = Log(process.stdout)
    try:
        yield process, log
    finally:
        process.kill()
        process.wait(PATIENCE_S)
        process.stdin.close()
        log.close()


def busy(how: str) -> str:
    """A script that has a child and a daemon, all of them busy for ever.

    Each says so by one write: what three processes print, piece by piece, may be one line.
    """
    return textwrap.dedent(
        f"""
        import os, subprocess, sys
        deaf = "import os, signal; signal.signal(15, signal.SIG_IGN); os.write(1, b'up' + bytes([10])); signal.pause()"
        child = subprocess.Popen([sys.executable, "-c", deaf])
        if not os.fork():
            os.setsid()
            if os.fork():
                os._exit(0)
            os.execl(sys.executable, sys.executable, "-c", deaf)
        os.wait()
        os.write(1, b"busy %d\\n" % os.getpid())
        {how}
        """
    )


def wait_until_busy(log: Log) -> int:
    """All three are at work; gives the trainer's pid."""
    pid = 0
    up = 0
    while not (pid and up == 2):
        line = log.line()
        up += line == "up"
        if line.startswith("busy "):
            pid = int(line.removeprefix("busy "))
    return pid


@pytest.mark.parametrize("how", BUSY.values(), ids=BUSY)
def test_a_killed_runner_takes_all_of_its_job_along(job: Job, how: str) -> None:
    with runner_of(job, busy(how)) as (runner, log):
        wait_until_busy(log)
        runner.kill()
        log.read_to_the_end(GONE_S)  # it ends with the last process that holds it


def test_a_runner_that_ends_in_peace_takes_all_of_its_job_along(job: Job) -> None:
    with runner_of(job, busy(BUSY["lock held"])) as (runner, log):
        wait_until_busy(log)
        assert runner.stdin is not None
        runner.stdin.write(b"\n")
        runner.stdin.flush()
        assert runner.wait(PATIENCE_S) == 0
        log.read_to_the_end(GONE_S)


def test_a_runner_may_end_its_job_by_closing_the_pipe(job: Job) -> None:
    with runner_of(job, busy(BUSY["lock held"]), ending="close") as (runner, log):
        trainer = wait_until_busy(log)
        assert runner.stdin is not None
        waits_for = os.pidfd_open(trainer)
        runner.stdin.write(b"\n")
        runner.stdin.flush()
        with open(waits_for, "rb") as gone:
            assert select.select([gone], [], [], GONE_S)[0]
        assert runner.poll() is None


def test_the_end_of_the_thread_that_started_a_job_is_not_the_end_of_the_runner(job: Job) -> None:
    os.mkfifo(job.work / "go")
    source = "print('begun')\nopen('go').read()\nprint('still here')\nopen('go').read()"
    with runner_of(job, source, ending="thread") as (runner, log):
        assert sorted([log.line(), log.line()]) == ["begun", "thread is over"]
        (job.work / "go").write_text("")
        assert log.line() == "still here"
        runner.kill()
        log.read_to_the_end(GONE_S)


def test_the_runners_death_is_seen_even_where_another_process_holds_its_pipe(job: Job) -> None:
    with runner_of(job, busy(BUSY["wait"]), ending="hoarder") as (runner, log):
        wait_until_busy(log)
        runner.kill()
        log.read_to_the_end(GONE_S)


def test_a_job_whose_runner_died_before_it_began_ends_at_once(job: Job) -> None:
    job.write("train.py", "print('never')\nimport threading; threading.Event().wait()")
    job.request.write(job.spool.request)
    reading, writing = os.pipe()
    os.close(writing)
    try:
        done = subprocess.run(
            job.trainer_command(reading),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=environment(),
            pass_fds=(reading,),
            check=False,
            timeout=GONE_S,
        )
    finally:
        os.close(reading)
    assert done.returncode == -signal.SIGKILL


def test_a_killed_guardian_takes_the_trainer_along(job: Job) -> None:
    with job.start(f"import os\nprint(os.getpid())\n{BUSY['lock held']}") as running:
        assert int(running.log.line()) in descendants_of(running.process.pid)
        running.process.kill()
        running.log.read_to_the_end(GONE_S)
        assert running.process.wait(PATIENCE_S) == -signal.SIGKILL


def test_a_job_that_forks_without_end_comes_to_one(job: Job) -> None:
    bomb = """
    import os
    print("busy")
    for _ in range(5):
        os.fork()
    while True:
        if not os.fork():
            os._exit(0)
        os.wait()
    """
    with job.start(bomb) as running:
        assert running.log.line() == "busy"
        running.cut_lifeline()
        running.log.read_to_the_end(PATIENCE_S)


def test_without_a_pipe_nothing_begins(job: Job) -> None:
    job.write("train.py", "print('never')")
    job.request.write(job.spool.request)
    done = subprocess.run(
        job.trainer_command(999),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == REFUSED
    assert done.stderr == "driverun: cannot watch the runner: 999 is no open file descriptor\n"


def test_descendants_are_found_whatever_they_are_called(tmp_path: Path) -> None:
    strange = tmp_path / ") R 1 (\\xff"
    strange.symlink_to(sys.executable)
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1); input()'])"
    with subprocess.Popen(
        [str(strange), "-c", code],
        executable=sys.executable,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"1\n"
        found = descendants_of(os.getpid())
        assert found.index(process.pid) < found.index(descendants_of(process.pid)[0])
        process.stdin.write(b"\n")
