"""Relative paths: one form, never out of their place."""

from __future__ import annotations

import pytest

from driverun.errors import UnsafePath
from driverun.spec.paths import relative_path


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("data/x.npz", "data/x.npz"),
        ("./train.py", "train.py"),
        ("a//b/./c/", "a/b/c"),
        ("..a/b..", "..a/b.."),
        ("my data/größe.csv", "my data/größe.csv"),
    ],
)
def test_a_path_has_one_form(text: str, path: str) -> None:
    assert relative_path(text) == path


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("../x", "leads out"),
        ("a/../../x", "leads out"),
        ("a/..", "leads out"),
        ("..", "leads out"),
        ("/etc/passwd", "absolute"),
        ("~/x", "absolute"),
        ("C:/x", "absolute"),
        ("a\\b", "backslash"),
        ("..\\x", "backslash"),
        ("a\0b", "control character"),
        ("a\nb", "control character"),
        ("", "names no file"),
        (".", "names no file"),
        ("./", "names no file"),
        (" a", "blank"),
        ("x" * 300, "255 bytes"),
        ("x/" * 600, "1024"),
    ],
)
def test_a_path_stays_in_its_place(text: str, why: str) -> None:
    with pytest.raises(UnsafePath, match=why):
        relative_path(text)
