"""Whose word counts on a root, and where a person says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from driverun.errors import UsageError
from driverun.settings import load_settings
from driverun.storage.base import People


def test_settings_name_the_trusted_in_one_way_and_refuse_what_is_no_account(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('trusted_authors = ["Kim@Example.com", "12345678901234567890"]\n')
    environment = {"DRIVERUN_CONFIG": str(tmp_path / "settings.toml")}
    found = load_settings(environment, home=tmp_path).trusted_authors
    assert found == {"kim@example.com", "12345678901234567890"}
    environment["DRIVERUN_TRUSTED_AUTHORS"] = "sam@example.com; kim@example.com"
    found = load_settings(environment, home=tmp_path).trusted_authors
    assert found == {"sam@example.com", "kim@example.com"}
    with pytest.raises(UsageError, match=r"DRIVERUN_TRUSTED_AUTHORS: .*'kim' is no account"):
        load_settings({"DRIVERUN_TRUSTED_AUTHORS": "kim"}, home=tmp_path)


@pytest.mark.parametrize(
    ("owner", "author", "trusted", "believed"),
    [
        ("o@x.de", "o@x.de", True, True),
        ("o@x.de", "t@x.de", True, True),
        ("o@x.de", "me@x.de", False, True),
        ("o@x.de", "s@x.de", False, False),
        ("o@x.de", None, False, False),
        ("", "me@x.de", True, True),  # a shared drive, which nobody owns
        ("", "s@x.de", False, False),
        ("", "", False, False),
    ],
)
def test_whom_a_worker_trusts_and_whom_it_believes(
    owner: str, author: str | None, trusted: bool, believed: bool
) -> None:
    people = People(owner=frozenset({owner} - {""}), me=frozenset({"me@x.de"}), trusted=frozenset({"t@x.de"}))
    assert (people.trusts(author), people.believes(author)) == (trusted, believed)
