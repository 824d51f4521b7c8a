"""What a person sees of every command that needs no training, on a local root."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from driverun.assembly import Surroundings, interpreter
from driverun.cli.main import EXIT_NO, EXIT_USAGE, main

# What scripts may rely on.
PROMISED = (
    "run_id", "name", "state", "waiting_for", "exactness", "exactness_reasons", "epoch", "step", "total_steps",
    "state_sha256", "outputs_sha256", "metrics", "attempts", "checkpoints", "results",
)  # fmt: skip


class Shell:
    """Runs commands on one root."""

    def __init__(self, root: Path, home: Path) -> None:
        self.root = root
        self._environment = {"HOME": str(home), "DRIVERUN_ROOT": "", "DRIVERUN_WORKDIR": str(home / "work")}

    def bare(self, *arguments: str) -> Result:
        """A command as it is, without a root."""
        return CliRunner().invoke(main, arguments, env=self._environment)

    def __call__(self, *arguments: str) -> Result:
        return self.bare("--root", str(self.root), *arguments)

    def out(self, *arguments: str) -> str:
        """What a command that succeeds prints to stdout."""
        result = self(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.out(*arguments, "--json"))

    def refused(self, *arguments: str) -> str:
        """What a command that is refused for the way it was called says."""
        result = self(*arguments)
        assert result.exit_code == EXIT_USAGE, result.output
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        return result.stderr


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    (tmp_path / "here").mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("DRIVERUN_ROOT", raising=False)
    shell = Shell(tmp_path / "root", tmp_path / "home")
    shell.out("init")
    return shell


def job(text: str = "entrypoint: train.py\n", name: str = "mine") -> str:
    """A job folder in the current folder."""
    folder = Path(name)
    folder.mkdir(exist_ok=True)
    (folder / "train.py").write_text("print('hello')\n")
    (folder / "job.yaml").write_text(text)
    return name


# The root.


def test_init_makes_a_root_and_says_so_again(shell: Shell) -> None:
    assert (shell.root / ".driverun/root.json").is_file()
    for folder in ("jobs", "data", "ledger", "runs"):
        assert (shell.root / folder).is_dir()
    assert "is a driverun root\n" in shell.out("init")
    result = shell.bare("init", str(shell.root.parent / "other"))
    assert result.exit_code == 0
    assert "is a driverun root now" in result.stdout
    assert "yaml-language-server: $schema=" in result.stderr


def test_init_without_a_place_makes_one_of_the_current_folder(shell: Shell) -> None:
    assert shell.bare("init").exit_code == 0
    assert Path(".driverun/root.json").is_file()
    assert shell.bare("status").exit_code == 0, "the nearest folder above is found"


@pytest.mark.parametrize("command", ["status", "work", "doctor"])
def test_without_a_root_the_command_that_makes_one_is_named(shell: Shell, command: str) -> None:
    result = shell.bare(command)
    assert result.exit_code == (EXIT_NO if command == "doctor" else EXIT_USAGE)
    assert "driverun init" in result.output


def test_a_folder_that_is_no_root_is_told_apart(shell: Shell, tmp_path: Path) -> None:
    result = shell.bare("--root", str(tmp_path / "home"), "status")
    assert result.exit_code == EXIT_USAGE
    assert "is no driverun root" in result.stderr
    assert f"driverun init {tmp_path / 'home'}" in result.stderr


def test_the_root_stands_before_or_after_the_command(shell: Shell) -> None:
    before = shell.bare("--root", str(shell.root), "status")
    after = shell.bare("status", "--root", str(shell.root))
    assert (before.exit_code, before.stdout) == (after.exit_code, after.stdout) == (0, after.stdout)


def test_a_root_of_a_newer_format_is_refused(shell: Shell) -> None:
    (shell.root / ".driverun/root.json").write_text('{"format_version": 99}')
    assert "format 99" in shell.refused("status")


def test_a_root_whose_file_is_damaged_says_the_command_that_mends_it(shell: Shell) -> None:
    (shell.root / ".driverun/root.json").write_text("{")
    said = shell.refused("status")
    command = said.partition("Mend it: driverun ")[2].split()
    assert command == ["init", str(shell.root)]
    assert shell.bare(*command).exit_code == 0
    shell.out("status")


# Uploads.


def test_an_upload_arrives_and_is_not_sent_twice(shell: Shell) -> None:
    Path("set.npz").write_bytes(b"1" * 1000)
    assert "1 sent" in shell.out("upload", "set.npz", "data/set.npz")
    assert (shell.root / "data/set.npz").read_bytes() == b"1" * 1000
    assert "0 sent" in shell.out("upload", "set.npz", "data/set.npz")


@pytest.mark.parametrize("target", ["../outside", "/etc/passwd", "ledger/x.json", ".driverun/root.json"])
def test_an_upload_stays_where_people_may_write(shell: Shell, target: str) -> None:
    Path("set.npz").write_bytes(b"1")
    shell.refused("upload", "set.npz", target)
    assert not (shell.root.parent / "outside").exists()


# Submitting.


def test_a_submission_prints_the_id_of_the_run(shell: Shell) -> None:
    run_id = shell.out("submit", job()).strip()
    assert run_id.startswith("mine-")
    assert shell.json("status", run_id)["state"] == "QUEUED"
    assert (shell.root / "jobs/mine/job.yaml").is_file()
    assert (shell.root / "jobs/mine/train.py").is_file()


def test_a_job_named_by_its_file_is_that_of_the_folder(shell: Shell) -> None:
    run_id = shell.json("submit", job())["run_id"]
    assert shell.json("submit", "mine/job.yaml") == {"run_id": run_id, "state": "QUEUED", "is_new": False}
    assert [folder.name for folder in (shell.root / "jobs").iterdir()] == ["mine"]


def test_a_submission_as_json_has_the_promised_key(shell: Shell) -> None:
    answer = shell.json("submit", job())
    assert answer["run_id"] == shell.json("status")[0]["run_id"]
    assert answer["is_new"] is True


def test_the_same_job_is_the_same_run_unless_it_is_wanted_again(shell: Shell) -> None:
    first = shell.json("submit", job())
    result = shell("submit", "mine", "--json")
    again = json.loads(result.stdout)
    assert (again["run_id"], again["is_new"]) == (first["run_id"], False)
    assert "--again" in result.stderr
    other = shell.json("submit", "mine", "--again")
    assert other["run_id"] != first["run_id"]
    assert other["is_new"] is True
    assert len(shell.json("status")) == 2


def test_a_parameter_makes_another_run(shell: Shell) -> None:
    text = "entrypoint: train.py\nparams: {rate: 0.1}\n"
    plain = shell.json("submit", job(text))["run_id"]
    same = shell.json("submit", "mine", "-p", "rate=0.1")["run_id"]
    other = shell.json("submit", "mine", "-p", "rate=0.2")["run_id"]
    assert plain == same
    assert other != plain


def test_a_job_on_the_root_is_submitted_by_its_name(shell: Shell) -> None:
    run_id = shell.json("submit", job())["run_id"]
    Path("mine/job.yaml").unlink()
    Path("mine/train.py").unlink()
    Path("mine").rmdir()
    assert shell.json("submit", "mine")["run_id"] == run_id
    assert shell.json("submit", "jobs/mine")["run_id"] == run_id
    assert "Did you mean mine?" in shell.refused("submit", "mien")


@pytest.mark.parametrize("parameter", ["rate", "=3", "a..b=1", "rate=[1"])
def test_a_parameter_that_cannot_be_read_is_refused(shell: Shell, parameter: str) -> None:
    assert "-p" in shell.refused("submit", job(), "-p", parameter)
    assert shell.json("status") == []


BAD_JOBS = {
    "a misspelt field": ("entrypoint: train.py\nsede: 7\n", ("mine/job.yaml:2: sede", "`seed`")),
    "a bad duration": ("entrypoint: train.py\ncheckpoint: {every: 5 parsecs}\n", ("job.yaml:2", "every")),
    "no entrypoint": ("seed: 7\n", ("entrypoint",)),
    "a missing script": ("entrypoint: trian.py\n", ("job.yaml:1: entrypoint", "did you mean `train.py`")),
    "a path that escapes": ("entrypoint: train.py\ndata: [{source: ../../etc}]\n", ("job.yaml:2: data",)),
    "a list": ("- entrypoint: train.py\n", ("job.yaml:1", "holds a list")),
    "a text": ("train.py\n", ("job.yaml:1", "holds only 'train.py'")),
    "nothing": ("", ("is empty",)),
    "no YAML": ("entrypoint: [train.py\n", ("job.yaml:",)),
}


@pytest.mark.parametrize("bad", BAD_JOBS)
def test_a_faulty_job_is_refused_with_its_place_and_what_to_do(shell: Shell, bad: str) -> None:
    text, expected = BAD_JOBS[bad]
    message = shell.refused("submit", job(text))
    for part in expected:
        assert part in message
    assert list((shell.root / "ledger").iterdir()) == []


def test_all_faults_of_a_job_are_told_at_once(shell: Shell) -> None:
    message = shell.refused("submit", job("entrypoint: no.py\nsede: 7\ncheckpoint: {every: often}\n"))
    for part in ("job.yaml:2: sede", "job.yaml:3: checkpoint.every"):
        assert part in message


def test_a_bomb_of_yaml_is_refused(shell: Shell) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [" + ", ".join([f"*a{level - 1}"] * 10) + "]" for level in range(1, 10)]
    assert "job.yaml" in shell.refused("submit", job("entrypoint: train.py\n" + "\n".join(lines)))
    message = shell.refused("submit", job("entrypoint: train.py\nparams:\n" + "  a: 1 #\n" * 1_000_000))
    assert "job.yaml" in message
    assert len(message) < 2000


def test_a_folder_without_a_job_file_is_told_what_to_write(shell: Shell) -> None:
    Path("empty").mkdir()
    assert "entrypoint: train.py" in shell.refused("submit", "empty")


def test_a_job_file_by_another_name_is_to_be_renamed(shell: Shell) -> None:
    folder = job()
    Path(folder, "job.yaml").rename(Path(folder, "job.yml"))
    assert "there is no job.yaml in it. Rename job.yml" in shell.refused("submit", folder)
    assert "a job file is called job.yaml" in shell.refused("submit", f"{folder}/job.yml")
    assert "or a file NAME.yaml" in shell.refused("submit", f"{folder}/train.py")


def test_a_folder_has_no_place_beside_a_file_of_its_name(shell: Shell) -> None:
    alone = shell.root / "jobs/mine.yaml"
    alone.write_text("entrypoint: train.py\nseed: 3\n")
    alone.with_name("train.py").write_text("print()\n")
    assert "is called mine, and so is jobs/mine.yaml" in shell.refused("submit", job())
    shell.out("submit", str(alone))
    assert "INVALID" not in shell("status").stderr
    assert len(shell.json("status")) == 1


def test_data_that_are_missing_are_told_at_submission(shell: Shell) -> None:
    result = shell("submit", job("entrypoint: train.py\ndata: [{source: data/set.npz}]\n"))
    assert result.exit_code == 0
    assert "driverun upload FILE data/set.npz" in result.stderr
    run = shell.json("status", result.stdout.strip())
    assert (run["state"], run["waiting_for"]) == ("QUEUED", "data")


def test_a_script_that_does_not_compile_is_told_at_submission(shell: Shell) -> None:
    name = job()
    Path("mine/train.py").write_text("print('hello'\n")
    result = shell("submit", name)
    assert result.exit_code == 0
    assert "train.py does not compile" in result.stderr


# Looking.


def test_the_status_of_a_run_holds_what_scripts_rely_on(shell: Shell) -> None:
    run_id = shell.json("submit", job())["run_id"]
    run = shell.json("status", run_id)
    assert set(PROMISED) <= set(run)
    assert run["run_id"] == run_id
    assert (run["name"], run["state"], run["waiting_for"]) == ("mine", "QUEUED", None)
    assert (run["exactness"], run["exactness_reasons"]) == ("exact", [])
    assert (run["state_sha256"], run["outputs_sha256"], run["results"]) == (None, None, None)
    assert (run["attempts"], run["checkpoints"], run["metrics"]) == ([], [], {})


def test_the_status_of_all_runs_is_a_list_without_details(shell: Shell) -> None:
    assert shell.json("status") == []
    shell.out("submit", job())
    (run,) = shell.json("status")
    assert set(PROMISED) - {"attempts", "checkpoints"} <= set(run)
    assert not {"attempts", "checkpoints"} & set(run)


def test_the_status_for_people_names_runs_and_faulty_jobs(shell: Shell) -> None:
    run_id = shell.out("submit", job()).strip()
    bad = shell.root / "jobs/bad"
    bad.mkdir()
    (bad / "job.yaml").write_text("entrypiont: train.py\n")
    result = shell("status")
    assert run_id in result.stdout
    assert "QUEUED" in result.stdout
    assert "the job bad is INVALID" in result.stderr
    assert "jobs/bad/job.yaml:1: entrypiont" in result.stderr
    assert run_id in shell.out("status", run_id)


def test_a_look_changes_nothing(shell: Shell) -> None:
    shell.out("submit", job())
    before = sorted(shell.root.rglob("*"))
    shell.out("status")
    assert [path for path in sorted(shell.root.rglob("*")) if path not in before] == []


def test_a_run_is_found_by_the_beginning_of_its_id(shell: Shell) -> None:
    run_id = shell.json("submit", job())["run_id"]
    assert shell.json("status", run_id[:-6])["run_id"] == run_id
    shell.out("submit", "mine", "--again")
    assert "one of 2 runs" in shell.refused("status", "mine")


@pytest.mark.parametrize("command", ["status", "logs", "fetch", "report", "cancel", "retry"])
def test_an_unknown_run_is_told_with_the_nearest(shell: Shell, command: str) -> None:
    run_id = shell.json("submit", job())["run_id"]
    wrong = f"x{run_id}"
    assert f"Did you mean {run_id}?" in shell.refused(command, wrong)


def test_a_run_without_results_has_nothing_to_fetch(shell: Shell) -> None:
    run_id = shell.json("submit", job())["run_id"]
    message = shell.refused("fetch", run_id)
    assert "QUEUED" in message
    assert f"driverun status {run_id}" in message
    assert not Path(run_id).exists()


def test_a_run_that_has_not_begun_has_an_empty_log(shell: Shell) -> None:
    run_id = shell.json("submit", job())["run_id"]
    assert shell.out("logs", run_id) == ""


def test_runs_that_have_not_trained_cannot_be_compared(shell: Shell) -> None:
    first = shell.json("submit", job())["run_id"]
    second = shell.json("submit", "mine", "--again")["run_id"]
    assert "neither has trained" in shell.refused("diff", first, second)


def test_of_two_runs_the_one_that_has_nothing_to_compare_is_named(shell: Shell) -> None:
    done = shell.json("submit", job())["run_id"]
    assert shell("work").exit_code == 0
    fresh = shell.json("submit", "mine", "--again")["run_id"]
    for pair in ((done, fresh), (fresh, done)):
        assert f": {fresh} has neither a checkpoint nor results" in shell.refused("diff", *pair)


def test_a_report_can_be_made_of_a_run_that_has_not_begun(shell: Shell) -> None:
    run_id = shell.json("submit", job())["run_id"]
    assert shell.out("report", run_id, "-o", "page.html").strip() == "page.html"
    assert run_id in Path("page.html").read_text()


# Wishes.


def test_a_cancelled_run_may_be_retried_and_not_cancelled_twice(shell: Shell) -> None:
    run_id = shell.json("submit", job())["run_id"]
    assert "QUEUED" in shell.refused("retry", run_id)
    assert shell.out("cancel", run_id).strip() == run_id
    assert shell.json("status", run_id)["state"] == "CANCELLED"
    assert "CANCELLED" in shell.refused("cancel", run_id)
    assert shell.out("retry", run_id, "--fresh").strip() == run_id
    assert shell.json("status", run_id)["state"] == "QUEUED"


# Working without anything to do.


def test_a_worker_on_an_empty_root_is_done(shell: Shell) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert shell("work").exit_code == 0
    # A handler left behind would be inherited by every process that is forked later, which then survives a SIGTERM.
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_worker_that_leaves_a_run_waiting_says_so_with_its_exit_code(shell: Shell) -> None:
    run_id = shell.json("submit", job("entrypoint: train.py\ndata: [{source: data/set.npz}]\n"))["run_id"]
    result = shell("work")
    assert result.exit_code == 3
    assert f"left: {run_id}" in result.stderr


@pytest.mark.parametrize("wanted", ["python9", "./bin/python", "~/bin/python"])
def test_an_interpreter_that_is_not_there_is_told_before_a_run_is_spent(
    shell: Shell, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = shell.out("submit", job()).strip()
    monkeypatch.setenv("DRIVERUN_PYTHON", wanted)
    said = shell.refused("work")
    assert wanted.lstrip("./~") in said
    assert "DRIVERUN_PYTHON" in said
    assert shell.json("status", run_id)["attempts"] == []


def test_an_interpreter_may_be_named_from_where_one_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "python").symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRIVERUN_PYTHON", "./python")
    assert interpreter(Surroundings.here()) == str(tmp_path / "python"), "jobs begin in a folder of their own"


def test_a_runtime_that_makes_no_sense_is_refused(shell: Shell) -> None:
    assert "--max-runtime" in shell.refused("work", "--max-runtime", "soon")


# How it is called.


@pytest.mark.parametrize(
    "arguments",
    [("nonsense",), ("status", "--nonsense"), ("submit",), ("upload", "no-such-file", "data/x")],
)
def test_a_call_that_makes_no_sense_ends_with_2(shell: Shell, arguments: tuple[str, ...]) -> None:
    shell.refused(*arguments)


def test_an_error_is_one_line_and_a_trace_only_on_demand(shell: Shell) -> None:
    plain = shell("status", "none")
    assert plain.stderr.startswith("driverun: there is no run none")
    assert "Traceback" not in plain.stderr
    verbose = shell("-v", "status", "none")
    assert verbose.exit_code == EXIT_USAGE
    assert "Traceback" in verbose.stderr
    assert "RunNotFound" in verbose.stderr


@pytest.mark.parametrize(
    ("arguments", "command", "place"),
    [
        (("report", "mine", "-o", "nowhere/page.html"), "report", "nowhere/page.html"),
        (("dev-drive", "--state", "file/state"), "dev-drive", "file/state"),
    ],
)
def test_what_this_machine_refuses_is_one_line_with_the_place(
    shell: Shell, arguments: tuple[str, ...], command: str, place: str
) -> None:
    shell("submit", job())
    Path("file").touch()
    result = shell(*arguments)
    assert result.exit_code == EXIT_NO
    assert result.stderr.startswith(f"driverun: cannot finish {command}: {place}: ")
    assert len(result.stderr.splitlines()) == 1
    assert "NotADirectoryError" in shell("-v", "dev-drive", "--state", "file/state").stderr


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_has_help(shell: Shell, command: str) -> None:
    result = shell.bare(command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_a_drill_has_latency_and_faults_on_a_drive_alone(shell: Shell, tmp_path: Path) -> None:
    said = shell.refused("drill", str(tmp_path), "--fault-rate", "0.1")
    assert "--on drive" in said


# Sweeps.


def test_a_matrix_prints_a_run_for_each_point_and_compare_shows_them(shell: Shell) -> None:
    name = job("entrypoint: train.py\nparams: {epochs: 2}\nmatrix: {lr: [0.1, 0.01]}\n")
    result = shell("submit", name)
    assert result.exit_code == 0
    run_ids = result.stdout.split()
    assert len(run_ids) == 2
    told = shell.json("submit", name)
    assert (told["run_id"], told["state"], told["is_new"]) == (run_ids[0], "QUEUED", False)
    assert told["runs"] == [
        {"run_id": run_ids[0], "params": {"lr": 0.1}, "state": "QUEUED", "is_new": False},
        {"run_id": run_ids[1], "params": {"lr": 0.01}, "state": "QUEUED", "is_new": False},
    ]
    assert told["sweep"] in result.stderr
    table = shell.out("compare", told["sweep"])
    head, *lines = (line.split() for line in table.splitlines())
    assert head == ["RUN", "STATE", "lr"]
    assert lines == [[run_ids[0], "QUEUED", "0.1"], [run_ids[1], "QUEUED", "0.01"]]
    assert shell.out("compare", "mine", "--csv").splitlines()[1] == f"{run_ids[0]},QUEUED,0.1"
    assert [run["run_id"] for run in shell.json("compare")["runs"]] == run_ids
    assert "lr is set by the job's matrix" in shell.refused("submit", name, "-p", "lr=5")


def test_priority_may_be_below_zero(shell: Shell) -> None:
    run_id = shell.out("submit", job()).strip()
    assert shell.out("priority", run_id, "-5").strip() == run_id
    assert shell.json("status", run_id)["priority"] == -5
