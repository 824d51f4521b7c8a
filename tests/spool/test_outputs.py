from __future__ import annotations

import json
import os
import socket
import zipfile
from pathlib import Path

import pytest

from driverun.spool.outputs import (
    OutputRule,
    executed_notebook,
    lasting_part,
    outputs_sha256,
    sha256_of,
)


def write(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)


def found(folder: Path, rule: OutputRule | None = None) -> list[str]:
    return [path for path, _ in (rule or OutputRule()).find(folder)]


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("**", ["a", "a/b/c", ".hidden"], []),
        ("*", ["a", "a/b/c"], []),
        ("*.png", ["a.png", "x/y/a.png"], ["a.pngx", "a.png/b"]),
        ("log?.txt", ["log1.txt", "a/log2.txt"], ["log.txt", "log12.txt"]),
        ("log[0-3].txt", ["log1.txt"], ["log7.txt", "log[0-3].txt"]),
        ("log[!0-3].txt", ["log7.txt"], ["log1.txt"]),
        ("log[z-a].txt", ["log[z-a].txt"], ["logz.txt"]),
        ("a[^b].txt", ["ab.txt", "a^.txt"], ["ac.txt"]),
        ("[", ["[", "a/["], ["a"]),
        ("logs", ["logs", "logs/a.txt", "x/logs/y/a.txt"], ["logs2/a.txt", "mylogs"]),
        ("logs/", ["logs/a.txt", "logs/x/y.txt"], ["x/logs/a.txt", "logs"]),
        ("logs/**", ["logs/a.txt", "logs/x/y.txt"], ["x/logs/a.txt", "logsx/a.txt"]),
        ("logs/*", ["logs/a.txt"], ["logs/x/y.txt"]),
        ("logs/*.txt", ["logs/a.txt", "logs/.txt"], ["logs/a.csv", "logs/x/a.txt", "b/logs/a.txt"]),
        ("models/tmp", ["models/tmp", "models/tmp/a"], ["tmp/a", "models/tmpx"]),
        ("**/best.keras", ["best.keras", "a/best.keras", "a/b/best.keras"], ["abest.keras"]),
        ("a/**/b.txt", ["a/b.txt", "a/x/b.txt", "a/x/y/b.txt"], ["a/xb.txt", "b.txt"]),
        ("a+b(1).txt", ["a+b(1).txt"], ["aab1.txt"]),
        ("line*", ["line\nbreak"], []),
    ],
)
def test_patterns_mean_what_a_shell_means(pattern: str, matching: list[str], others: list[str]) -> None:
    include, exclude = OutputRule(include=(pattern,)), OutputRule(exclude=(pattern,))
    assert [path for path in matching + others if include.admits(path)] == matching
    assert [path for path in matching + others if exclude.admits(path)] == others


def test_exclude_outdoes_include() -> None:
    rule = OutputRule(include=("models/**", "*.csv"), exclude=("models/tmp/**", "draft*"))
    assert rule.admits("models/a.keras")
    assert rule.admits("x/log.csv")
    assert not rule.admits("models/tmp/a.keras")
    assert not rule.admits("draft.csv")
    assert not rule.admits("other.txt")


def test_what_the_script_wrote_is_found_in_order_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, "b.txt", "a/z.txt", "a.txt", "train.py", ".hidden", "a/data/own.npz")
    write(tmp_path, "data/train.npz", "data/.driverun/x", ".driverun/y", ".ipynb_checkpoints/n.ipynb")
    write(tmp_path, "__pycache__/train.pyc", "a/__pycache__/m.pyc")
    # Code is found: whether the script has changed it is for the caller to see.
    assert found(tmp_path) == [".hidden", "a.txt", "a/data/own.npz", "a/z.txt", "b.txt", "train.py"]


def test_what_cannot_be_read_like_a_file_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "folder/b.txt")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "to_folder").symlink_to("folder")
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "to_file").symlink_to("a.txt")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(tmp_path)  # a socket's path has to be short
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
        assert found(tmp_path) == ["a.txt", "folder/b.txt", "to_file"]


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert found(tmp_path / "nowhere") == []


def test_the_digest_tells_names_and_contents_apart(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1")
    (tmp_path / "two").write_bytes(b"2")
    one, two = tmp_path / "one", tmp_path / "two"
    digests = {
        outputs_sha256({}),
        outputs_sha256({"a": one}),
        outputs_sha256({"a": two}),
        outputs_sha256({"b": one}),
        outputs_sha256({"a": one, "b": two}),
        outputs_sha256({"a": two, "b": one}),
    }
    assert len(digests) == 6
    assert outputs_sha256({"b": two, "a": one}) == outputs_sha256({"a": one, "b": two})


def test_a_name_need_not_be_utf_8(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9.txt")
    (tmp_path / odd).write_bytes(b"")
    assert found(tmp_path) == [odd]
    assert outputs_sha256({odd: tmp_path / odd}) != outputs_sha256({})


def test_event_files_of_tensorboard_do_not_count(tmp_path: Path) -> None:
    write(tmp_path, "logs/train/events.out.tfevents.123.host.1", "a.txt")
    files = {path: tmp_path / path for path in found(tmp_path)}
    assert len(files) == 2
    assert outputs_sha256(files) == outputs_sha256({"a.txt": tmp_path / "a.txt"})


def keras_archive(
    path: Path,
    *,
    saved: str = "2026-01-01",
    shared: int = 1,
    date: int = 1,
    weights: bytes = b"w",
    name: str = "m",
) -> Path:
    """An archive as Keras writes one."""
    members = {
        "metadata.json": json.dumps({"keras_version": "3.13.2", "date_saved": saved}).encode(),
        "config.json": json.dumps({"name": name, "inner": [{"shared_object_id": shared}]}).encode(),
        "model.weights.h5": weights,
    }
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(zipfile.ZipInfo(member, (2026, 1, date, 0, 0, 0)), content)
    return path


def test_a_saved_model_counts_without_its_dates_and_addresses(tmp_path: Path) -> None:
    def digest(path: Path) -> str:
        return outputs_sha256({"model.keras": path})

    first = keras_archive(tmp_path / "1.keras")
    again = keras_archive(tmp_path / "2.keras", saved="2027-05-05", shared=140230, date=9)
    assert sha256_of(first) != sha256_of(again)
    assert digest(first) == digest(again)
    others = [
        keras_archive(tmp_path / "3.keras", weights=b"v"),
        keras_archive(tmp_path / "4.keras", name="n"),
    ]
    assert len({digest(path) for path in [first, *others]}) == 3


@pytest.mark.parametrize("damage", ["no zip", "cut", "flipped", "no json", "json list"])
def test_what_only_looks_like_a_saved_model_counts_by_its_bytes(tmp_path: Path, damage: str) -> None:
    path = keras_archive(tmp_path / "model.keras", weights=b"weights" * 100)
    content = path.read_bytes()
    if damage == "no zip":
        path.write_bytes(b"not a zip")
    elif damage == "cut":
        path.write_bytes(content[:-10])
    elif damage == "flipped":
        path.write_bytes(content.replace(b"weightsweights", b"weightsWeights", 1))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("metadata.json", "[]" if damage == "json list" else "{")
    assert len(outputs_sha256({"model.keras": path})) == 64


def test_a_member_is_hashed_as_a_whole_and_in_pieces_alike(tmp_path: Path) -> None:
    weights = os.urandom(3_000_000)
    path = keras_archive(tmp_path / "model.keras", weights=weights)
    assert lasting_part("model.weights.h5", weights) == weights
    assert outputs_sha256({"m.keras": path}) == outputs_sha256(
        {"m.keras": keras_archive(tmp_path / "other.keras", weights=weights, saved="later")}
    )


# Notebooks.


@pytest.mark.parametrize("path", ["train.executed.ipynb", "a b/[1] what*?.executed.ipynb"])
def test_an_executed_notebook_is_an_output_whatever_the_patterns_take(path: str) -> None:
    rule = OutputRule(include=("*.png",)).with_notebook(path)
    assert rule.admits(path)
    assert rule.admits("plot.png")
    assert not rule.admits("other.executed.ipynb")
    assert not rule.admits("train.ipynb")
    assert not OutputRule(include=("*.png",), exclude=("*.ipynb",)).with_notebook(path).admits(path)


def test_an_executed_notebook_is_named_beside_the_notebook_and_never_like_the_jobs_own_file() -> None:
    assert executed_notebook("src/train.ipynb", {}) == "src/train.executed.ipynb"
    taken = {"train.ipynb", "train.executed.ipynb"}
    assert executed_notebook("train.ipynb", taken) == "train.executed.executed.ipynb"


def test_executed_notebooks_do_not_count(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "train.executed.ipynb", "other.ipynb")
    files = {name: tmp_path / name for name in ("a.txt", "train.executed.ipynb", "other.ipynb")}
    without = {name: file for name, file in files.items() if name != "train.executed.ipynb"}
    assert outputs_sha256(files) == outputs_sha256(without)
    assert outputs_sha256(without) != outputs_sha256({"a.txt": files["a.txt"]})
