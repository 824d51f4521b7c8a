"""Names made to hurt, wherever a person can put one: each is told where the person looks, and the queue goes on."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from pathlib import Path

import pytest

from driverun.execution.trainer import Exit
from driverun.runs.state import RunState
from driverun.storage.base import ObjectStore
from driverun.storage.local import LocalStore
from tests.execution.world import Plan, ScriptedTrainer, World

E_ACUTE, E_AND_ACUTE = "\u00e9", "e\u0301"
OVERRIDE = "\u202e"  #: what comes after it is read from right to left: gpj.py becomes yp.jpg

#: Names of a job's folder that no job can have, and words of what is said about them.
JOBS = {
    "-rf": "write `name: rf`",
    "--help": "write `name: help`",
    "a b": "cannot be the name of a job",
    "\N{ROCKET}": "cannot be the name of a job",
    f"x{OVERRIDE}gpj.py": "cannot be the name of a job",
    "n" * 255: "write `name: nnn",
    "\N{LATIN SMALL LETTER E WITH ACUTE}" * 127: "write `name: eee",
    "$(touch x)": "cannot be the name of a job",
    "%s{0}": "cannot be the name of a job",
    "...": "cannot be the name of a job",
    "~": "cannot be the name of a job",
    "x:": "cannot be the name of a job",
    "a.": "cannot be the name of a job",
    "CON": "device",
    "nul": "device",
    "Lpt1": "device",
}

#: Files of a job's code, and what is said about them; "": nothing, they are as good as others.
FILES = {
    "\N{ROCKET}.py": "",
    "\N{WOMAN}\u200d\N{PERSONAL COMPUTER}.py": "",
    "-rf.py": "",
    "n" * 252 + ".py": "",
    "$HOME.py": "",
    f"x{OVERRIDE}yp.exe": "U+202E",
    "in\u200bvisible.py": "U+200B",
    "aux.py": "device",
    "deep/com1": "device",
    "a.": "ends with a dot",
    "a ": "ends with a blank",
    "x:y": "has a : in it",
    "what?.md": "has a ? in it",
    "Train.py": "are one file on macOS and on Windows",
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "machines").mkdir()
    return World(folder=tmp_path / "machines", plan=Plan(steps=2))


def drop(store: ObjectStore, name: str, files: dict[str, bytes]) -> None:
    for path, content in files.items():
        store.create(f"jobs/{name}/{path}", content)


def good(number: int) -> dict[str, bytes]:
    return {"train.py": b"print(%d)\n" % number, "job.yaml": b"entrypoint: train.py\n"}


@pytest.mark.parametrize("kind", ["memory", "local"])
def test_jobs_of_all_names_are_told_and_the_others_run(world: World, tmp_path: Path, kind: str) -> None:
    if kind == "local":
        (tmp_path / "root").mkdir()
        world.store = LocalStore(tmp_path / "root", clock=world.clock)
    for number, name in enumerate(JOBS):
        drop(world.store, name, good(number))
    for number, name in enumerate(FILES):
        drop(world.store, f"file-{number}", {**good(100 + number), name: b"x = 1\n"})
    forms = {f"{E_ACUTE}.py": b"1", f"{E_AND_ACUTE}.py": b"2"}
    drop(world.store, "forms", {**good(300), **forms})
    drop(world.store, "last", {**good(301), "job.yaml": b"entrypoint: train.py\npriority: -9\n"})
    before = {path for path in tmp_path.rglob("*") if "root" not in path.parts}
    world.clock.advance(seconds=60)
    world.work()

    invalid = {job.name: "; ".join(map(str, job.faults)) for job in world.client.invalid_jobs()}
    runs = {run.name: run.state for run in world.client.runs()}
    for name, words in JOBS.items():
        assert words in invalid[name]
    for number, (name, words) in enumerate(FILES.items()):
        if words:
            assert words in invalid[f"file-{number}"], name
        else:
            assert runs[f"file-{number}"] is RunState.SUCCEEDED, name
    assert "are one file on macOS" in invalid["forms"]
    assert runs["last"] is RunState.SUCCEEDED
    assert len(invalid) + len(runs) == len(JOBS) + len(FILES) + 2
    outside = {path for path in tmp_path.rglob("*") if not {"root", "machines"} & set(path.parts)}
    assert outside <= before


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("name: ../x", "cannot be the name of a job"),
        ("name: -rf", "cannot be the name of a job"),
        (f"name: x{OVERRIDE}y", "cannot be the name of a job"),
        ("entrypoint: ../../etc/passwd.py", "leads out of its folder"),
        ("entrypoint: /etc/passwd.py", "absolute path"),
        ("data: [{source: ../secrets}]", "leads out of its folder"),
        ("data: [{source: x.npz, target: ../../x}]", "leads out of its folder"),
        ("data: [{source: x.npz, target: /etc/x}]", "absolute path"),
        ("data: [{source: x.npz, target: NUL}]", "device"),
        ("data: [{source: x.npz, target: a.}]", "ends with a dot"),
        (f"data: [{{source: x.npz, target: 'a{OVERRIDE}b'}}]", "U+202E"),
        (f"data: [{{source: x.npz, target: {'n' * 256}}}]", "longer than 255 bytes"),
        ("data: [{source: a/x.npz}, {source: b/X.npz}]", "lands already"),
        (f"data: [{{source: a/{E_ACUTE}}}, {{source: b/{E_AND_ACUTE}}}]", "lands already"),
        ('outputs: {include: ["../**"]}', "leads out of its folder"),
    ],
)
def test_a_job_file_that_names_such_a_place_is_faulty(world: World, written: str, words: str) -> None:
    text = written if "entrypoint" in written else f"entrypoint: train.py\n{written}"
    drop(world.store, "bad", {"train.py": b"1", "job.yaml": text.encode()})
    drop(world.store, "good", good(1))
    world.clock.advance(seconds=60)
    world.work()
    [invalid] = world.client.invalid_jobs()
    assert words in str(invalid.faults[0])
    assert {run.name: run.state for run in world.client.runs()} == {"good": RunState.SUCCEEDED}


def test_what_a_script_calls_its_files_costs_it_no_result(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {
        "back\\slash": "back%5Cslash",
        "tab\t, line\n": "tab%09, line%0A",
        os.fsdecode(b"bad\xff"): "bad%FF",
        "n" * 255: "n" * 255,
        "\\" * 100 + "x" * 100: "%5C" * 80
        + "%5-"
        + hashlib.sha256(b"\\" * 100 + b"x" * 100).hexdigest()[:12],
        "a%5Cb": "a%5Cb",
        "a\\b": "a%5Cb-" + hashlib.sha256(b"a\\b").hexdigest()[:12],
        "-rf": "-rf",
        f"x{OVERRIDE}": f"x{OVERRIDE}",
        "\N{ROCKET}": "\N{ROCKET}",
    }
    end = ScriptedTrainer._end

    def writing(trainer: ScriptedTrainer) -> Exit:
        for number, name in enumerate(names):
            (trainer._work / name).write_text(str(number))
        return end(trainer)

    monkeypatch.setattr(ScriptedTrainer, "_end", writing)
    run_id = world.job()
    world.work()
    results = world.results(run_id)
    for number, name in enumerate(names.values()):
        assert results[f"outputs/{name}"] == str(number).encode()


def test_params_may_be_called_anything(world: World) -> None:
    params = {"../x": 1, f"x{OVERRIDE}": "--rm", "\N{ROCKET}": "\x00\x1b[2J", "n" * 300: "$(id)"}
    run_id = world.job("named", params=params)
    world.work()
    assert world.client.run(run_id).state is RunState.SUCCEEDED


def test_what_is_equal_is_told_in_the_form_it_was_written() -> None:
    assert unicodedata.normalize("NFC", E_AND_ACUTE) == E_ACUTE, "else these tests show nothing"
