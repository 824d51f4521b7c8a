"""A notebook as a job runs its cells in order, and leaves itself behind with their outputs."""

from __future__ import annotations

import base64
import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from driverun.errors import JobError
from driverun.training.notebook import start_shell
from tests.training.notebooks import notebook_job, outputs, run_cells, text, write_cells
from tests.training.processes import Job

PNG = b"\x89PNG"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return notebook_job(tmp_path / "job")


def test_cells_run_in_order_in_one_main_module(job: Job) -> None:
    ended = run_cells(
        job,
        """
        import os, sys
        x = 20
        print("first", __name__, os.getcwd(), sys.argv)
        """,
        "",
        """
        print("to stderr", file=sys.stderr)
        x += 1
        x * 2
        """,
        "assert vars(sys.modules['__main__'])['x'] == 21 and '__file__' not in globals()",
        argv=("--rate", "0.1"),
    )
    ended.assert_finished()
    first, empty, second, third = outputs(job)
    assert text(first) == f"first __main__ {job.work} ['train.ipynb', '--rate', '0.1']\n"
    assert empty == third == []
    assert text(second, "stderr") == "to stderr\n"
    assert second[-1]["output_type"] == "execute_result"
    assert second[-1]["data"] == {"text/plain": "42"}
    assert second[-1]["execution_count"] == 2
    assert ended.text.splitlines() == [text(first).rstrip(), "to stderr", "42"]


def test_a_failing_cell_ends_the_run_and_is_named(job: Job) -> None:
    ended = run_cells(
        job,
        "def broken():\n    raise ValueError('too deep')",
        "print('before')\nbroken()",
        "print('never')",
    )
    assert ended.code == 1
    assert ended.failure["kind"] == "ValueError"
    assert ended.failure["message"] == "cell 2: too deep"
    lines = [line for line in ended.failure["traceback"].splitlines() if line.strip(" ~^")]
    lines[1] = lines[1].replace("<cell line: 0>", "<module>")  # so says IPython 7
    assert lines[1:5] == [
        '  File "<train.ipynb cell 2>", line 2, in <module>',
        "    broken()",
        '  File "<train.ipynb cell 1>", line 2, in broken',
        "    raise ValueError('too deep')",
    ]
    assert ended.text == f"before\n{ended.failure['traceback']}"
    _, second, third = outputs(job)
    assert second[-1]["ename"] == "ValueError"
    assert "too deep" in "\n".join(second[-1]["traceback"])
    assert third == []


def test_commands_of_the_system_print_into_the_cell(job: Job) -> None:
    (job.work / "sub").mkdir()
    ended = run_cells(
        job,
        """
        name = "world"
        !echo hello {name} $name
        !echo wrong >&2; exit 3
        print(_exit_code)
        """,
        """
        lines = !printf 'a\\nb\\n'
        print(lines, lines.n)
        !cat
        """,
        "%%bash\necho from bash\npwd",
        "%env RATE=0.5\n!echo $RATE",
        "%cd sub\n!pwd",
        "%%shell\necho from colab",
        "!sleep 1000 &\nprint('at once')",
    )
    ended.assert_finished()
    first, second, third, fourth, fifth, sixth, seventh = outputs(job)
    assert text(first) == "hello world world\nwrong\n3\n"
    assert text(second) == "['a', 'b'] a\nb\n"
    assert text(third) == f"from bash\n{job.work}\n"
    assert text(fourth) == "env: RATE=0.5\n0.5\n"
    assert text(fifth).splitlines()[-1] == str(job.work / "sub")
    assert text(sixth) == "from colab\n"
    assert text(seventh) == "at once\n"


def test_rich_outputs_are_in_the_notebook_and_as_text_in_the_log(job: Job) -> None:
    ended = run_cells(
        job,
        """
        from IPython.display import HTML, clear_output
        display(HTML("<b>bold</b>"))
        handle = display({"step": 1}, display_id=True)
        print("between")
        handle.update({"step": 2})
        """,
        "%%html\n<i>slanted</i>",
        "%%javascript\nalert(1)",
        "print('old')\nclear_output()\nprint('new')",
        "print('old')\nclear_output(wait=True)\nprint('new')",
        "%%time\nprint('timed')",
        "print?",
    )
    ended.assert_finished()
    first, html, script, cleared, replaced, timed, asked = outputs(job)
    assert [output["output_type"] for output in first] == ["display_data", "display_data", "stream"]
    assert first[0]["data"]["text/html"] == "<b>bold</b>"
    assert first[1]["data"]["text/plain"] == "{'step': 2}"
    assert html[0]["data"]["text/html"] == "<i>slanted</i>\n"
    assert script[0]["data"]["application/javascript"] == "alert(1)\n"
    assert text(cleared) == text(replaced) == "new\n"
    assert text(timed).startswith("timed\nCPU times:")
    assert "text/plain" in asked[0]["data"]
    assert "<IPython.core.display.HTML object>" in ended.text.splitlines()


@pytest.mark.parametrize("first", ["%matplotlib inline", "", "%matplotlib notebook", "%pylab inline"])
def test_a_plot_is_an_image_without_a_display(job: Job, first: str) -> None:
    ended = run_cells(
        job,
        first or "pass",
        "import matplotlib.pyplot as plt\nplt.plot([1, 2, 4]);",
        "plt.figure(figsize=(1, 1))\nplt.plot([1])\nplt.show()\nprint('shown')",
    )
    ended.assert_finished()
    for cell in outputs(job)[1:]:
        (plot,) = [output for output in cell if output["output_type"] == "display_data"]
        assert base64.b64decode(plot["data"]["image/png"]).startswith(PNG)
    assert "<Figure size 100x100 with 1 Axes>" in ended.text


def test_without_matplotlib_setting_it_up_does_no_harm(job: Job) -> None:
    ended = run_cells(
        job, "import sys\nsys.modules['matplotlib'] = None", "%matplotlib inline\nprint('went on')"
    )
    ended.assert_finished()
    assert text(outputs(job)[1]) == (
        "driverun: matplotlib is not installed on this machine, so there is nothing to set up for plots\nwent on\n"
    )


def test_a_progress_bar_is_kept_as_it_looks_in_the_end(job: Job) -> None:
    run_cells(
        job,
        """
        import sys
        for at in range(3):
            sys.stdout.write("\\b" * 4 + f"\\r{at + 1}/3 " + "#" * at)
        print()
        for at in range(3):
            print(f"{at}%", end="\\r", file=sys.stderr)
        print("done", end="\\r\\n")
        """,
    ).assert_finished()
    (cell,) = outputs(job)
    assert text(cell) == "3/3 ##\ndone\n"
    assert text(cell, "stderr") == "2%\r"


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("input('name? ')", "input()"),
        ("from getpass import getpass\ngetpass()", "getpass()"),
        ("breakpoint()", "breakpoint()"),
        ("try:\n    1 / 0\nexcept ZeroDivisionError:\n    pass\n%debug", "%debug"),
    ],
)
def test_what_waits_for_a_person_fails_and_says_why(job: Job, source: str, what: str) -> None:
    ended = run_cells(job, "pass", source)
    assert ended.failure["kind"] == "EOFError"
    assert ended.failure["message"].startswith(f"cell 2: {what} waits for a person, and nobody is there")
    assert "params:" in ended.failure["message"]


@pytest.mark.parametrize(
    ("source", "code"),
    [("exit()", 0), ("quit", 0), ("import sys\nsys.exit()", 0), ("raise SystemExit(3)", 3)],
)
def test_a_cell_may_end_the_run(job: Job, source: str, code: int) -> None:
    ended = run_cells(job, "print('begun')", source, "print('never')")
    assert ended.code == code
    told = ["driverun: the script ended with exit code 3"] if code else []
    assert ended.text.splitlines() == ["begun", *told]
    assert text(outputs(job)[0]) == "begun\n"


def test_a_display_is_updated_where_it_stands(job: Job) -> None:
    run_cells(
        job, "handle = display(1, display_id=True)", "print('more')", "handle.update(2)"
    ).assert_finished()
    first, second, third = outputs(job)
    assert first[0]["data"]["text/plain"] == "2"
    assert [len(second), len(third)] == [1, 0]


def test_a_forked_process_writes_no_output_of_a_cell(job: Job) -> None:
    ended = run_cells(
        job,
        """
        import os
        child = os.fork()
        if child:
            os.waitpid(child, 0)
        print("parent" if child else "child")
        """,
        "print('went on')",
    )
    assert sorted(ended.text.splitlines()) == ["child", "parent", "went on", "went on"]
    first, second = outputs(job)
    assert text(first) == "parent\n"
    assert text(second) == "went on\n"


def test_a_syntax_error_is_told(job: Job) -> None:
    ended = run_cells(job, "x = = 1")
    assert ended.failure["kind"] == "SyntaxError"
    assert 'File "<train.ipynb cell 1>", line 1' in ended.failure["traceback"]
    assert outputs(job)[0][0]["ename"] == "SyntaxError"


def test_an_unknown_magic_is_told(job: Job) -> None:
    ended = run_cells(job, "%nosuchmagic")
    assert "nosuchmagic" in ended.failure["message"]


def test_the_generators_are_those_of_a_script_with_this_seed(job: Job) -> None:
    ended = run_cells(job, "import random\nprint(random.random())")
    assert float(ended.text) == random.Random(7).random()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot read the notebook train.ipynb: it is not JSON"),
        ("{}", "cannot run train.ipynb: it is no notebook of format 4"),
    ],
)
def test_a_file_that_is_no_notebook_is_told(job: Job, content: str, words: str) -> None:
    job.write("train.ipynb", content)
    assert job.run().failure["message"].startswith(words)


def test_without_ipython_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("IPython.")]:
        monkeypatch.delitem(sys.modules, name)  # another test may have loaded it
    monkeypatch.setitem(sys.modules, "IPython", None)
    monkeypatch.delitem(sys.modules, "driverun.training.notebook_shell", raising=False)
    unused: Any = None
    with pytest.raises(JobError, match=r"cannot run train.ipynb: IPython is not .*'driverun\[notebook\]'"):
        start_shell(ModuleType("__main__"), unused, name="train.ipynb")


def test_a_module_of_the_job_may_have_the_name_of_one_that_ipython_imports(job: Job) -> None:
    for name in ("code", "html", "page", "traitlets", "pygments"):
        job.write(f"{name}.py", "WHOSE = 'mine'")
    ended = run_cells(job, "import page\nprint(page.WHOSE)")
    ended.assert_finished()
    assert ended.text == "mine\n"


def test_a_name_that_is_taken_by_the_job_is_left_alone(job: Job) -> None:
    write_cells(job, "print(1)")
    job.write("train.executed.ipynb", "{}")
    job.run(code_files={"train.ipynb": "0" * 64, "train.executed.ipynb": "0" * 64}).assert_finished()
    assert (job.work / "train.executed.ipynb").read_text() == "{}"
    assert (job.work / "train.executed.executed.ipynb").is_file()
