from __future__ import annotations

from pathlib import Path

import pytest

from driverun.errors import RootNotFound, UsageError
from driverun.storage.locate import (
    DriveFolderAddress,
    DrivePathAddress,
    LocalAddress,
    RootAddress,
    choose_root,
    find_root,
    parse_root,
)

CWD, HOME = Path("/work/project"), Path("/home/ada")
FOLDER_ID = "1AbCdEfGhIjKlMnOpQ_-9"


def local(path: str) -> LocalAddress:
    return LocalAddress(path=Path(path))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("experiments", local("/work/project/experiments")),
        ("./experiments/", local("/work/project/experiments")),
        ("../other", local("/work/other")),
        (".", local("/work/project")),
        ("/srv/root", local("/srv/root")),
        ("~/root", local("/home/ada/root")),
        ("~", local("/home/ada")),
        ("~backup", local("/work/project/~backup")),
        ("with blank", local("/work/project/with blank")),
        ("gdrive", local("/work/project/gdrive")),
        ("gdrive:experiments", DrivePathAddress(path="experiments")),
        ("gdrive:Colab Notebooks/a/", DrivePathAddress(path="Colab Notebooks/a")),
        ("gdrive:/experiments", DrivePathAddress(path="experiments")),
        ("GDrive:experiments", DrivePathAddress(path="experiments")),
        (f"gdrive://{FOLDER_ID}", DriveFolderAddress(folder_id=FOLDER_ID)),
        (f"gdrive://{FOLDER_ID}/", DriveFolderAddress(folder_id=FOLDER_ID)),
        (f"https://drive.google.com/drive/folders/{FOLDER_ID}", DriveFolderAddress(folder_id=FOLDER_ID)),
        (
            f"https://drive.google.com/drive/u/1/folders/{FOLDER_ID}?usp=sharing",
            DriveFolderAddress(folder_id=FOLDER_ID),
        ),
    ],
)
def test_a_root_is_what_a_person_means_by_it(text: str, address: RootAddress) -> None:
    assert parse_root(text, cwd=CWD, home=HOME) == address


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "name a folder"),
        (" experiments", "name a folder"),
        ("gdrive:", "name a folder beneath My Drive"),
        ("gdrive:a/../b", "name a folder beneath My Drive"),
        ("gdrive://experiments/a", "write gdrive:path"),
        ("gdrive://short", "write gdrive:path"),
        ("s3://bucket/a", "knows no s3:// roots"),
        ("https://example.org/drive/folders/1AbCdEfGhIj", "knows no https:// roots"),
    ],
)
def test_what_is_no_root_is_refused_with_advice(text: str, advice: str) -> None:
    with pytest.raises(UsageError, match=r"^cannot use .* as a root: ") as caught:
        parse_root(text, cwd=CWD, home=HOME)
    assert advice in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [local("/srv/root"), DrivePathAddress(path="a/b"), DriveFolderAddress(folder_id=FOLDER_ID)],
)
def test_an_address_prints_as_a_person_would_type_it(address: RootAddress) -> None:
    assert parse_root(str(address), cwd=CWD, home=HOME) == address


def test_the_nearest_root_upwards_is_found() -> None:
    roots = {Path("/work"), Path("/work/project"), Path("/")}
    assert find_root(CWD / "jobs" / "mnist", is_root=roots.__contains__) == CWD
    assert find_root(CWD, is_root=roots.__contains__) == CWD
    assert find_root(Path("/srv/a"), is_root=roots.__contains__) == Path("/")
    assert find_root(CWD, is_root={CWD / "jobs"}.__contains__) is None


@pytest.mark.parametrize(
    ("option", "environment", "address"),
    [
        ("named", {"DRIVERUN_ROOT": "/by/variable"}, local("/work/project/named")),
        (None, {"DRIVERUN_ROOT": "/by/variable"}, local("/by/variable")),
        (None, {"DRIVERUN_ROOT": "gdrive:a"}, DrivePathAddress(path="a")),
        (None, {"DRIVERUN_ROOT": ""}, local("/work")),
        (None, {}, local("/work")),
    ],
)
def test_the_option_comes_before_the_variable_and_that_before_the_folder(
    option: str | None, environment: dict[str, str], address: RootAddress
) -> None:
    chosen = choose_root(option, environment, cwd=CWD, home=HOME, is_root={Path("/work")}.__contains__)
    assert chosen == address


def test_an_empty_option_is_a_mistake_and_not_a_wish_for_the_default() -> None:
    with pytest.raises(UsageError):
        choose_root("", {"DRIVERUN_ROOT": "/by/variable"}, cwd=CWD, home=HOME, is_root=lambda _: True)


def test_where_no_root_is_found_the_way_to_one_is_named() -> None:
    with pytest.raises(RootNotFound, match=r"/work/project.*driverun init.*--root.*DRIVERUN_ROOT"):
        choose_root(None, {}, cwd=CWD, home=HOME, is_root=lambda _: False)
