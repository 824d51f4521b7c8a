"""A script runs as a person who starts it by hand would expect."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from driverun.spool.events import EventKind
from tests.training.processes import PATIENCE_S, Job, environment


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path / "job")


SEEN = """
import os, sys
print(__name__, __package__, __spec__, type(__builtins__).__name__, __doc__)
print(__file__)
print(sys.argv)
print(os.getcwd())
print(sys.path[0])
print(vars(sys.modules["__main__"]) is globals())
print(__loader__.get_source("__main__") == open(__file__).read())
print(sorted(vars()))
"""


def test_a_script_sees_what_it_sees_when_python_runs_it(job: Job) -> None:
    job.write("train.py", SEEN)
    by_hand = subprocess.run(
        [sys.executable, "train.py", "--rate", "0.1"],
        cwd=job.work,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    ended = job.run(argv=("--rate", "0.1"))
    ended.assert_finished()
    # CPython puts an empty __annotations__ there before it runs a script; nobody can tell what for.
    assert ended.text == by_hand.stdout.replace("'__annotations__', ", "")


def test_a_script_in_a_folder_imports_what_lies_beside_it_and_writes_where_it_was_started(job: Job) -> None:
    job.write("src/parts/__init__.py", "from .inner import NAME")
    job.write("src/parts/inner.py", "NAME = 'inner'")
    job.write("src/model.py", "import parts\nNAME = parts.NAME")
    job.write("src/train.py", "import model\nopen('out.txt', 'w').write(model.NAME)")
    job.run(entrypoint="src/train.py").assert_finished()
    assert (job.work / "out.txt").read_text() == "inner"


def test_a_sibling_may_import_the_script_as_a_module(job: Job) -> None:
    job.write("evaluate.py", "import train\nRATE = train.RATE")
    ended = job.run(
        """
        RATE = 3
        print("runs as", __name__)
        if __name__ == "__main__":
            import evaluate
            print(evaluate.RATE)
        """
    )
    assert ended.text.splitlines() == ["runs as __main__", "runs as train", "3"]


def test_a_module_of_the_job_may_have_the_name_of_one_of_pythons(job: Job) -> None:
    job.write("random.py", "raise RuntimeError('only for who asks for it')")
    job.write("selectors.py", "WHOSE = 'mine'")
    job.run("import json").assert_finished()


def test_what_the_script_leaves_behind_is_still_main(job: Job) -> None:
    ended = job.run(
        """
        import atexit, pickle, __main__

        class Weights:
            pass

        atexit.register(lambda: print(type(pickle.loads(pickle.dumps(Weights()))).__module__, __main__.Weights))
        """
    )
    ended.assert_finished()
    assert ended.text == "__main__ <class '__main__.Weights'>\n"


def test_a_future_of_this_package_is_not_the_scripts(job: Job) -> None:
    ended = job.run("def f(x: print('evaluated')): pass")
    assert ended.text == "evaluated\n"


def test_an_encoding_of_the_scripts_own_is_understood(job: Job) -> None:
    (job.work / "train.py").write_bytes("# -*- coding: latin-1 -*-\nprint(ascii('é'))\n".encode("latin-1"))
    assert job.run().text == "'\\xe9'\n"


def test_reading_from_nobody_ends_at_once(job: Job) -> None:
    ended = job.run("import sys\nprint(repr(sys.stdin.read()))\ninput()")
    assert ended.text.startswith("''\n")
    assert ended.failure["kind"] == "EOFError"


def test_python_and_numpy_are_seeded_and_sets_have_an_order(job: Job, tmp_path: Path) -> None:
    source = """
    import random
    print(random.random())
    import numpy as np
    print(np.random.rand(), list({"a", "b", "c", "d", "e"}))
    """
    again, other = Job(tmp_path / "again"), Job(tmp_path / "other")
    first, second, third = job.run(source), again.run(source), other.run(source, seed=8)
    assert first.text == second.text
    assert not set(first.text.split()[:2]) & set(third.text.split()[:2])


def test_children_that_spawn_run_the_scripts_functions(job: Job) -> None:
    ended = job.run(
        """
        import multiprocessing, os, random
        from pathlib import Path

        def work(number):
            import driverun
            return number * int(Path("factor.txt").read_text()), driverun.current_run().params["rate"]

        if __name__ == "__main__":
            Path("factor.txt").write_text("7")
            with multiprocessing.get_context("spawn").Pool(2) as pool:
                print(pool.map(work, [1, 2, 3]))
        """,
        params={"rate": 0.5},
    )
    ended.assert_finished()
    assert ended.text == "[(7, 0.5), (14, 0.5), (21, 0.5)]\n"


def test_children_that_fork_can_be_ended_and_tell_nothing(job: Job) -> None:
    ended = job.run(
        """
        import multiprocessing, os, sys

        if __name__ == "__main__":
            with multiprocessing.get_context("fork").Pool(2) as pool:
                print(pool.map(abs, [-1, -2]))
            stuck = multiprocessing.get_context("fork").Process(target=multiprocessing.Event().wait)
            stuck.start()
            stuck.terminate()
            stuck.join()
            print(stuck.exitcode)
            for leave in (lambda: sys.exit(5), lambda: 1 / 0, lambda: None):
                child = os.fork()
                if not child:
                    leave()
                    break
                print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            else:
                print("parent")
        """
    )
    ended.assert_finished()
    lines = [line for line in ended.text.splitlines() if line[:1] in "[-0123456789p"]
    assert lines == ["[1, 2]", f"-{int(signal.SIGTERM)}", "5", "1", "0", "parent"]


def test_a_job_cannot_leave_anything_running(job: Job) -> None:
    ended = job.run(
        """
        import os, subprocess, sys
        wait = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
        subprocess.Popen([sys.executable, "-c", wait])
        if not os.fork():  # a daemon, as books have it
            os.setsid()
            if os.fork():
                os._exit(0)
            os.execl(sys.executable, sys.executable, "-c", wait)
        print("left")
        """
    )  # that the log ended says that all are gone
    ended.assert_finished()
    assert ended.text == "left\n"


def test_what_ends_by_itself_soon_after_may(job: Job) -> None:
    ended = job.run(
        """
        import os
        reading, writing = os.pipe()
        if not os.fork():
            os.close(writing)
            os.read(reading, 1)  # until the trainer is gone
            print("cleaned up")
            os._exit(0)
        """
    )
    ended.assert_finished()
    assert ended.text == "cleaned up\n"


# Functions and commands.


def test_a_function_gets_the_parameters_that_it_names(job: Job) -> None:
    job.write(
        "package/work.py",
        "def train(rate, *, epochs=2, depth=3):\n    print(__name__, rate, epochs, depth)",
    )
    ended = job.run(
        entrypoint_kind="function",
        entrypoint="package.work:train",
        params={"rate": 0.1, "epochs": 5, "other": 1},
    )
    ended.assert_finished()
    assert ended.text == "package.work 0.1 5 3\n"


def test_a_function_may_take_all_parameters(job: Job) -> None:
    job.write("work.py", "class Job:\n    @staticmethod\n    def train(**params): print(sorted(params))")
    ended = job.run(entrypoint_kind="function", entrypoint="work:Job.train", params={"b": 1, "a": 2})
    assert ended.text == "['a', 'b']\n"


@pytest.mark.parametrize(
    ("source", "entrypoint", "message"),
    [
        (
            "def train(rate, depth, width=1): pass",
            "work:train",
            "cannot call work:train: it needs rate, depth; add them to `params:` in job.yaml",
        ),
        ("def train(size, /): pass", "work:train", "it needs size; make it take them by name"),
        ("def train(): pass", "work:tran", "cannot call work:tran: work has no tran; did you mean train?"),
        ("train = 3", "work:train", "cannot call work:train: it is a int, not a function"),
        ("", "wrok:train", "there is no module wrok in the job's folder"),
        ("", "work.part:train", "there is no module work.part in the job's folder"),
    ],
)
def test_a_function_that_cannot_be_called_says_why(
    job: Job, source: str, entrypoint: str, message: str
) -> None:
    job.write("work.py", source)
    ended = job.run(entrypoint_kind="function", entrypoint=entrypoint, params={"size": 1})
    assert ended.code == 1
    assert message in ended.failure["message"]
    assert message in ended.text


def test_what_a_function_raises_begins_with_its_own_frame(job: Job) -> None:
    job.write("work.py", "def train():\n    import nosuchpackage\n")
    ended = job.run(entrypoint_kind="function", entrypoint="work:train")
    assert ended.text.splitlines()[1] == f'  File "{job.work / "work.py"}", line 2, in train'
    job.write("work.py", "import nosuchpackage\n")
    ended = Job.run(job)
    assert "requirements: [nosuchpackage]" in ended.of(EventKind.FAILED)[-1]["message"]
    assert ended.text.splitlines()[1] == f'  File "{job.work / "work.py"}", line 1, in <module>'


def test_a_command_gets_its_arguments_and_the_python_of_the_job(job: Job) -> None:
    ended = job.run(
        entrypoint_kind="command",
        argv=(
            "python",
            "-c",
            "import driverun, os, sys; print(sys.argv[1:], sys.prefix, os.getcwd(), driverun.current_run().run_id)",
            "a b",
        ),
    )
    ended.assert_finished()
    assert ended.text == f"['a b'] {sys.prefix} {job.work} job-0123456789ab\n"


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (("bash", "-c", "exit 3"), 3, "the command ended with exit code 3"),
        (
            ("bash", "-c", "kill -9 $$"),
            -9 & 0xFF,
            "the command was ended by SIGKILL, as the system does when memory runs out",
        ),
        (("nosuchprogram",), 1, "cannot start nosuchprogram: No such file or directory; is it installed"),
        (
            ("./run.sh",),
            1,
            "cannot start ./run.sh: permission denied; a script needs its interpreter in front",
        ),
    ],
)
def test_a_command_that_fails_says_how(job: Job, argv: tuple[str, ...], code: int, message: str) -> None:
    job.write("run.sh", "echo hello")
    ended = job.run(entrypoint_kind="command", argv=argv)
    assert ended.code == code
    assert ended.failure["message"].startswith(message)
    assert ended.failure["message"] in ended.text


# The run that a script is part of.


def test_a_script_may_ask_for_its_run(job: Job) -> None:
    ended = job.run(
        """
        import driverun
        run = driverun.current_run()
        print(run.params, run.seed, run.attempt, run.run_id)
        print(run.data_dir, run.output_dir, sep="\\n")
        """,
        params={"rate": 0.1},
        attempt=3,
    )
    assert ended.text.splitlines() == [
        "{'rate': 0.1} 7 3 job-0123456789ab",
        str(job.work / "data"),
        str(job.work),
    ]


# Signals.


def test_the_stop_button_of_a_notebook_does_not_reach_the_job(job: Job) -> None:
    ended = job.run(
        """
        import os, signal, subprocess, sys
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getppid(), signal.SIGINT)
        subprocess.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 2); print('child')"], check=True)
        """
    )
    ended.assert_finished()
    assert ended.text == "child\n"


def test_sigterm_asks_and_does_not_end(job: Job) -> None:
    with job.start(
        """
        import os, signal, sys
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing)
        print("begun")
        os.read(reading, 1)
        sys.exit(143)
        """
    ) as running:
        assert running.log.line() == "begun"
        running.process.terminate()  # to the guardian, which passes it on
        ended = running.end()
    # A script that ends early because it was asked to has not failed.
    assert ended.code == 0
    assert [event.kind for event in ended.events] == [EventKind.HANDED_OVER]


def test_a_command_is_asked_by_sigterm_too(job: Job) -> None:
    job.write(
        "serve.py",
        """
        import signal, sys
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        print("begun")
        signal.sigwait({signal.SIGTERM})
        print("bye")
        sys.exit(9)
        """,
    )
    job.ask(entrypoint_kind="command", argv=("python", "serve.py"))
    with job.start() as running:
        assert running.log.line() == "begun"
        running.process.terminate()
        ended = running.end()
    assert ended.text.startswith("bye\n")
    assert [event.kind for event in ended.events] == [EventKind.HANDED_OVER]
    assert ended.code == 0


def test_a_job_that_ignores_sigterm_ends_with_the_lifeline(job: Job) -> None:
    with job.start(
        """
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("begun")
        while True:
            signal.pause()
        """
    ) as running:
        assert running.log.line() == "begun"
        running.process.terminate()
        running.cut_lifeline()
        ended = running.end()
    assert ended.code == -signal.SIGKILL
    assert ended.events == []
