"""How a job's code may end, and what the training process makes of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from driverun.spool.boards import ProgressBoard
from driverun.spool.events import EventKind
from driverun.spool.folder import REFUSED
from tests.training.processes import Job, Running


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path / "job")


def test_a_script_that_comes_to_its_end_has_finished(job: Job) -> None:
    ended = job.run("print('hello')")
    ended.assert_finished()
    assert ended.log == b"hello\n"
    (finished,) = ended.of(EventKind.FINISHED)
    assert finished == {"state_sha256": None, "step": 0}


def test_what_a_script_raises_is_shown_and_recorded_from_its_own_first_frame_on(job: Job) -> None:
    ended = job.run(
        """
        def train():
            raise ValueError("no such layer\\nand more")

        train()
        """
    )
    assert ended.code == 1
    script = job.work / "train.py"
    assert ended.failure["kind"] == "ValueError"
    assert ended.failure["message"] == "no such layer"
    assert ended.failure["traceback"] == ended.text
    lines = ended.text.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1] == f'  File "{script}", line 5, in <module>'
    assert lines[-2:] == ["ValueError: no such layer", "and more"]
    assert "driverun" not in ended.text.replace(str(script), "")


def test_a_chain_of_causes_is_kept(job: Job) -> None:
    ended = job.run(
        """
        try:
            {}["rate"]
        except KeyError as exc:
            raise RuntimeError("no rate") from exc
        """
    )
    assert "KeyError: 'rate'" in ended.failure["traceback"]
    assert "direct cause" in ended.text


def test_a_script_may_show_what_it_raises_in_its_own_way(job: Job) -> None:
    ended = job.run(
        """
        import sys
        sys.excepthook = lambda kind, exc, trace: print("oh,", exc, trace.tb_frame.f_code.co_name)
        1 / 0
        """
    )
    assert ended.text == "oh, division by zero <module>\n"
    assert "ZeroDivisionError" in ended.failure["traceback"]


@pytest.mark.parametrize(
    ("leaving", "code", "message", "log"),
    [
        ("3", 3, "exit code 3", "driverun: the script ended with exit code 3\n"),
        ("256", 1, "exit code 256", "driverun: the script ended with exit code 256\n"),
        ("'no data'", 1, "no data", "no data\ndriverun: the script ended with no data\n"),
        ("[1]", 1, "exit code 1", "[1]\ndriverun: the script ended with exit code 1\n"),
    ],
)
def test_leaving_early_is_a_failure_with_its_code(
    job: Job, leaving: str, code: int, message: str, log: str
) -> None:
    ended = job.run(f"import sys\nsys.exit({leaving})")
    assert ended.code == code
    assert ended.failure == {
        "kind": "exit code",
        "message": f"the script ended with {message}",
        "traceback": "",
    }
    assert ended.text == log


@pytest.mark.parametrize("leaving", ["", "0", "None", "False"])
def test_leaving_with_nothing_to_say_is_an_end_like_any_other(job: Job, leaving: str) -> None:
    job.run(f"import sys\nsys.exit({leaving})").assert_finished()


def test_a_module_that_is_missing_is_named_with_what_to_do(job: Job) -> None:
    ended = job.run("import nosuchpackage.part")
    assert ended.failure["kind"] == "ModuleNotFoundError"
    message = ended.failure["message"]
    assert message.startswith("No module named 'nosuchpackage'")
    assert "requirements: [nosuchpackage]" in message
    assert "nosuchpackage.py into the job's folder" in message


def test_a_script_that_is_no_python_says_where(job: Job) -> None:
    ended = job.run("x = 1\nif x\n  pass\n")
    assert ended.code == 1
    assert ended.failure["kind"] == "SyntaxError"
    assert "(train.py, line 2)" in ended.failure["message"]
    assert "Traceback" not in ended.text
    assert f'File "{job.work / "train.py"}", line 2' in ended.text


def test_a_script_that_is_not_there_is_named(job: Job) -> None:
    ended = job.run()
    assert ended.code == 1
    assert "cannot read the script train.py: No such file" in ended.failure["message"]
    assert ended.text == f"driverun: {ended.failure['message']}\n"


def test_an_exception_that_cannot_even_be_printed_is_an_outcome(job: Job) -> None:
    ended = job.run(
        """
        class Odd(Exception):
            def __str__(self):
                raise RuntimeError
        raise Odd
        """
    )
    assert (ended.failure["kind"], ended.failure["message"]) == ("Odd", "Odd")


def test_a_full_disk_is_named_with_what_to_do(job: Job) -> None:
    ended = job.run("raise OSError(28, 'No space left on device', 'big.bin')")
    assert "the disk of this machine is full" in ended.failure["message"]


def test_a_giant_message_does_not_make_a_giant_event(job: Job) -> None:
    ended = job.run("raise ValueError('x' * 10_000_000)")
    assert len(ended.failure["message"]) == 500
    assert len(ended.failure["traceback"]) < 70_000
    assert len(ended.log) > 10_000_000


def test_the_end_is_told_when_exit_handlers_and_threads_have_ended(job: Job) -> None:
    ended = job.run(
        f"""
        import atexit, pathlib, threading
        events = pathlib.Path({str(job.spool.events)!r})

        def look(who):
            print(who, "finished" in events.read_text())

        may = threading.Event()
        threading.Thread(target=lambda: (may.wait(), look("thread"))).start()
        atexit.register(look, "handler")
        may.set()
        """
    )
    ended.assert_finished()
    assert ended.text.splitlines() == ["thread False", "handler False"]


def test_a_crash_at_the_very_end_is_no_finish(job: Job) -> None:
    ended = job.run("import atexit, os\natexit.register(os.abort)")
    assert ended.code == -signal.SIGABRT
    assert ended.events == []


@pytest.mark.parametrize(
    ("crash", "ended_by"),
    [
        ("import os; os.abort()", signal.SIGABRT),
        ("import ctypes; ctypes.string_at(0)", signal.SIGSEGV),
    ],
)
def test_a_crash_of_the_interpreter_shows_where_it_was(job: Job, crash: str, ended_by: int) -> None:
    ended = job.run(f"print('begun', end='')\n{crash}")
    assert ended.code == -ended_by
    assert ended.events == []
    assert ended.text.startswith("begunFatal Python error")
    assert f'File "{job.work / "train.py"}", line 2 in <module>' in ended.text


def test_a_kill_is_seen_as_one_and_loses_nothing_of_the_log(job: Job) -> None:
    ended = job.run(
        """
        import os, signal, sys, warnings
        warnings.warn("mind")
        sys.stdout.buffer.write(b"\\xff\\x00raw")
        print("no end of line", end="")
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    assert ended.code == -signal.SIGKILL
    assert ended.events == []
    assert b"UserWarning: mind" in ended.log
    assert ended.log.endswith(b"\xff\x00rawno end of line")


def test_bytes_and_text_keep_their_order(job: Job) -> None:
    ended = job.run(
        """
        import sys
        print("one")
        sys.stdout.buffer.write(bytes(range(256)))
        print("two", file=sys.stderr)
        """
    )
    ended.assert_finished()
    assert ended.log == b"one\n" + bytes(range(256)) + b"two\n"


def test_a_second_trainer_is_refused_and_the_first_goes_on(job: Job) -> None:
    os.mkfifo(job.work / "go")
    with job.start("print('begun')\nprint(open('go').read())") as first:
        assert first.log.line() == "begun"
        with job.start() as second:
            refused = second.end()
        assert refused.code == REFUSED
        pid = job.spool.trainer_lock.read_text().strip()
        assert f"another training process (pid {pid}) is at work there" in refused.text
        assert refused.events == []
        (job.work / "go").write_text("go on")
        ended = first.end()
    ended.assert_finished()
    assert ended.text == "go on\n"


def test_a_request_that_cannot_be_read_is_refused(job: Job) -> None:
    with job.start("") as running:
        running.end().assert_finished()
    job.spool.request.write_text("{")
    with Running(job) as broken:
        ended = broken.end()
    assert ended.code == REFUSED
    assert "cannot read the request" in ended.text


def test_the_lock_names_the_process_that_trains(job: Job) -> None:
    ended = job.run("import os\nprint(os.getpid(), os.getppid())")
    trainer, guardian = map(int, ended.text.split())
    assert int(job.spool.trainer_lock.read_text()) == trainer
    assert guardian != os.getpid()


def test_progress_is_unknown_until_something_is_trained(job: Job) -> None:
    job.run("")
    assert ProgressBoard(job.spool.progress).read().step == -1
