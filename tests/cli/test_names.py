"""Names made to hurt, as arguments of commands and in what they print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from driverun.report.shown import shown, shown_json
from tests.cli.test_commands import Shell, job, shell  # noqa: F401 (a fixture)

NAMES = [
    "../x", "/etc/passwd", "-rf", "--help", "", ".", "*", "CON", "a/b", "x" * 300, "\N{ROCKET}",
    "\x1b]0;owned\x07", "x\u202egpj", "ledger/../../x", "a\nb", "\udcff",
]  # fmt: skip


@pytest.mark.parametrize(
    "command", ["status", "logs", "fetch", "report", "cancel", "retry", "approve", "submit"]
)
def test_a_command_refuses_names_that_are_none(
    shell: Shell,  # noqa: F811
    tmp_path: Path,
    command: str,
) -> None:
    run_id = shell.out("submit", job()).strip()
    before = sorted(tmp_path.rglob("*"))
    for name in NAMES:
        if command == "submit" and name in (".", "/etc/passwd"):
            continue  # a folder and a file of this machine
        said = shell.refused(command, "--", name)
        assert not {"\x1b", "\u202e", "\udcff"} & set(said), name
    assert sorted(tmp_path.rglob("*")) == before
    assert shell.json("status", run_id)["state"] == "QUEUED"


def test_status_shows_names_so_that_they_move_nothing(shell: Shell) -> None:  # noqa: F811
    bad = shell.root / "jobs" / "x\u202egpj"
    bad.mkdir(parents=True)
    (bad / "job.yaml").write_text("entrypoint: train.py\nname: '\x07'\n")
    (shell.root / "jobs" / "tab\there").mkdir()
    result = shell("status")
    assert result.exit_code == 0
    assert "x\\u202egpj is INVALID" in result.stderr
    assert "\u202e" not in result.output


def test_json_says_the_same_without_turning_the_line(shell: Shell) -> None:  # noqa: F811
    text = json.dumps({"name": "x\u202egpj"}, ensure_ascii=False)
    assert shown_json(text) == '{"name": "x\\u202egpj"}'
    assert json.loads(shown_json(text)) == {"name": "x\u202egpj"}


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain, \N{ROCKET}, \N{WOMAN}\u200d\N{PERSONAL COMPUTER}, \u05d0\u05d1", None),
        ("a\u202eb\u2066c", "a\\u202eb\\u2066c"),
        ("\x1b[2J\x1b[31mred", "\\x1b[2J\\x1b[31mred"),
        ("\x9b31m\x00\x7f\r", "\\x9b31m\\x00\\x7f\\x0d"),
        ("\ud800\udcff", "\\ud800\\udcff"),
        ("two\nlines\tand a tab", None),
        ("\ufeffa\u2028b\U000e0041", "\\ufeffa\\u2028b\\U000e0041"),
    ],
)
def test_text_of_others_is_shown(text: str, seen: str | None) -> None:
    assert shown(text) == (text if seen is None else seen)


def test_colours_of_a_job_stay_where_they_are_wanted() -> None:
    assert shown("\x1b[31mred\x1b[0m\x1b[2J", colours=True) == "\x1b[31mred\x1b[0m\\x1b[2J"
