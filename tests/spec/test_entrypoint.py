"""What a job starts is told from how it is written."""

from __future__ import annotations

from typing import Any

import pytest

from driverun.errors import SpecError
from driverun.spec.entrypoint import read_entrypoint
from driverun.spec.model import Entrypoint, EntrypointKind, resolved_argv

SCRIPT, FUNCTION, COMMAND = EntrypointKind.SCRIPT, EntrypointKind.FUNCTION, EntrypointKind.COMMAND
NOTEBOOK = EntrypointKind.NOTEBOOK


@pytest.mark.parametrize(
    ("written", "kind", "value", "argv"),
    [
        ("train.py", SCRIPT, "train.py", ()),
        ("./src//my train.py", SCRIPT, "src/my train.py", ()),
        (["train.py"], SCRIPT, "train.py", ()),
        (["train.py", "--lr", "0.1"], SCRIPT, "train.py", ("--lr", "0.1")),
        (["python", "./train.py", "x"], SCRIPT, "train.py", ("x",)),
        (["python3", "train.py"], SCRIPT, "train.py", ()),
        ("train.ipynb", NOTEBOOK, "train.ipynb", ()),
        ("./My work//a notebook.ipynb", NOTEBOOK, "My work/a notebook.ipynb", ()),
        (["train.ipynb", "--lr", "{lr}"], NOTEBOOK, "train.ipynb", ("--lr", "{lr}")),
        ("train:main", FUNCTION, "train:main", ()),
        ("pkg.mod:Trainer.run", FUNCTION, "pkg.mod:Trainer.run", ()),
        (["python", "-m", "pkg.train"], COMMAND, "", ("python", "-m", "pkg.train")),
        (["python", "-u", "train.py"], COMMAND, "", ("python", "-u", "train.py")),
        (["python3.11", "train.py"], COMMAND, "", ("python3.11", "train.py")),
        (["bash", "run.sh", "{seed}"], COMMAND, "", ("bash", "run.sh", "{seed}")),
        (["/usr/bin/env"], COMMAND, "", ("/usr/bin/env",)),
    ],
)
def test_an_entrypoint_is_what_it_is_written_as(
    written: Any, kind: EntrypointKind, value: str, argv: tuple[str, ...]
) -> None:
    entrypoint = read_entrypoint(written)
    assert entrypoint == Entrypoint(kind=kind, value=value, argv=argv)
    assert read_entrypoint(entrypoint.written) == entrypoint


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (None, "write a script"),
        (5, "write a script"),
        ({"kind": "script", "value": "train.py"}, "write a script"),
        ("", "cannot be started"),
        ("train", "cannot be started"),
        ("python train.py", r'written as a list: \["python", "train.py"\]'),
        ("train.py --lr 0.1", r'written as a list: \["train.py", "--lr", "0.1"\]'),
        ("echo 'a", "written as a list"),
        ("run.sh", r"\[bash, run.sh\]"),
        ("train.py:main", "write train:main"),
        ("../train.ipynb", "leads out of .*the notebook belongs"),
        ("{name}.ipynb", "the notebook itself cannot hold a {placeholder}"),
        ("a/.ipynb", "names no notebook"),
        ("../train.py", "leads out"),
        ("/train.py", "absolute"),
        (["python", "../train.py"], "leads out"),
        (".py", "names no script"),
        ("{name}.py", "cannot hold a {placeholder}"),
        ([], "list is empty"),
        ([""], "first item of the list is empty"),
        (["train.py", 5], 'item 2 of the list is not text: write "5", in quotes'),
        (["train.py", True], 'write "true", in quotes'),
        (["a\0"], "zero character"),
    ],
)
def test_what_cannot_be_started_says_what_to_write(written: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_entrypoint(written)


@pytest.mark.parametrize(
    ("item", "filled"),
    [
        ("{learning_rate}", "0.001"),
        ("--lr={learning_rate}", "--lr=0.001"),
        ("{name}-{epochs}", "base line-5"),
        ("{shuffle}", "true"),
        ("{layers}", "[64, 32]"),
        ("{optimizer.momentum}", "0.9"),
        ("{none}", "null"),
        ("{{name}}", "{name}"),
        ("{}", "{}"),
        ('{"a": 1}', '{"a": 1}'),
        ("plain", "plain"),
    ],
)
def test_placeholders_are_filled_from_the_params(item: str, filled: str) -> None:
    entrypoint = read_entrypoint(["bash", item])
    params: dict[str, Any] = {
        "learning_rate": 1e-3,
        "epochs": 5,
        "name": "base line",
        "shuffle": True,
        "layers": [64, 32],
        "optimizer": {"momentum": 0.9},
        "none": None,
    }
    assert resolved_argv(entrypoint, params) == ("bash", filled)


def test_every_unknown_placeholder_is_named() -> None:
    entrypoint = read_entrypoint(["train.py", "{epoch}", "{seed.x}", "{epoch}", "${HOME}"])
    with pytest.raises(SpecError) as caught:
        resolved_argv(entrypoint, {"epochs": 5, "seed": 3})
    assert [fault.message.split(";")[0] for fault in caught.value.faults] == [
        "{epoch} names no param",
        "{seed.x} names no param",
        "{HOME} names no param",
    ]
    assert "did you mean {epochs}?" in caught.value.faults[0].message
    assert "For the plain text write {{HOME}}" in caught.value.faults[2].message


def test_an_entrypoint_cannot_be_made_that_its_writing_would_not_give() -> None:
    with pytest.raises(ValueError, match="is not how a command is written"):
        Entrypoint(kind=COMMAND, argv=("train.py",))
