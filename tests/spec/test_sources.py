"""What a job's data may be, and the one way each is written."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from driverun.spec.identity import computed_part
from driverun.spec.model import DataSource, JobSpec
from driverun.spec.sources import (
    DriveLink,
    SourceKind,
    kind_of,
    name_of,
    read_drive_link,
    read_source,
    without_suffix,
)

ID = "1AbC-dEf_ghijklmnopqrstuvwxyz01234"[:33]
CANONICAL = f"https://drive.google.com/open?id={ID}"


def source(text: str, **fields: object) -> DataSource:
    return DataSource.model_validate({"source": text, **fields})


@pytest.mark.parametrize(
    "text",
    [
        ID,
        f"https://drive.google.com/file/d/{ID}/view?usp=sharing",
        f"https://drive.google.com/file/d/{ID}/view?usp=drive_link",
        f"https://drive.google.com/file/d/{ID}/edit",
        f"https://drive.google.com/file/d/{ID}",
        f"https://drive.google.com/file/u/1/d/{ID}/view",
        f"https://drive.google.com/a/example.org/file/d/{ID}/view",
        f"http://drive.google.com/open?id={ID}",
        f"https://drive.google.com/open?usp=sharing&id={ID}#top",
        f"https://drive.google.com/uc?id={ID}",
        f"https://drive.google.com/uc?export=download&id={ID}&confirm=t",
        f"https://drive.usercontent.google.com/download?id={ID}&export=download",
        f"https://docs.google.com/uc?export=download&id={ID}",
        f"https://drive.google.com/drive/folders/{ID}",
        f"https://drive.google.com/drive/folders/{ID}?usp=sharing",
        f"https://drive.google.com/drive/u/0/folders/{ID}",
        f"https://drive.google.com/drive/mobile/folders/{ID}/",
        f"https://drive.google.com/folderview?id={ID}",
    ],
)
def test_every_shape_of_a_share_link_is_one_source(text: str) -> None:
    assert read_drive_link(text) == DriveLink(file_id=ID)
    assert read_source(text) == CANONICAL
    assert read_source(CANONICAL) == CANONICAL
    assert kind_of(CANONICAL) is SourceKind.DRIVE
    assert source(text) == source(CANONICAL)


def test_a_link_keeps_its_resource_key() -> None:
    link = read_drive_link(f"https://drive.google.com/file/d/{ID}/view?usp=sharing&resourcekey=0-aB_c")
    assert link == DriveLink(file_id=ID, resource_key="0-aB_c")
    assert read_drive_link(str(link)) == link


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("https://drive.google.com/drive/my-drive", "Copy link"),
        (f"https://docs.google.com/spreadsheets/d/{ID}/edit", "Google document"),
        ("gdrive:experiments", "address of a root"),
        (f"gdrive://{ID}", "address of a root"),
        ("file:///etc/passwd", "driverun upload"),
        ("local://x", "driverun upload"),
        ("https://me:secret@example.org/x.csv", "holds a password"),
        ("https://", "neither a path nor an address"),
        ("https:x", "neither a path nor an address"),
        ("../x", "leads out"),
    ],
)
def test_what_cannot_be_a_source_is_told(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        read_source(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("data/2024/x.csv", SourceKind.PATH, "x.csv"),
        ("https://example.org/a/x%20y.csv?raw=1#z", SourceKind.ADDRESS, "x y.csv"),
        ("https://example.org/", SourceKind.ADDRESS, ""),
        ("https://example.org/a/..", SourceKind.ADDRESS, ""),
        ("gs://bucket/set/", SourceKind.ADDRESS, "set"),
        ("s3://bucket", SourceKind.ADDRESS, "bucket"),
        ("hf://datasets/user/repo@main/x.parquet", SourceKind.ADDRESS, "x.parquet"),
        (CANONICAL, SourceKind.DRIVE, ""),
    ],
)
def test_a_source_tells_what_it_is_and_its_name(text: str, kind: SourceKind, name: str) -> None:
    assert read_source(text) == text
    assert (kind_of(text), name_of(text)) == (kind, name)


@pytest.mark.parametrize(
    ("written", "target"),
    [
        ({"source": "data/images.zip"}, "images"),
        ({"source": "data/images.TAR.GZ"}, "images"),
        ({"source": "data/images.zip", "unpack": True}, "images"),
        ({"source": "data/images.zip", "unpack": False}, "images.zip"),
        ({"source": "data/images.zip", "target": "x.zip"}, "x.zip"),
        ({"source": "data/x.npz"}, "x.npz"),
        ({"source": "https://example.org/x.tgz?download=1"}, "x"),
        ({"source": CANONICAL}, ""),
        ({"source": CANONICAL, "target": "x"}, "x"),
    ],
)
def test_an_archive_lands_in_a_folder_of_its_name(written: dict[str, object], target: str) -> None:
    read = DataSource.model_validate(written)
    assert read.target == target
    assert DataSource.model_validate(read.model_dump(mode="json")) == read


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"source": "data/x.npz", "unpack": True}, "no archive that driverun unpacks: .zip, .tar"),
        ({"source": "https://example.org/?x=1"}, "does not tell a name"),
    ],
)
def test_what_cannot_land_is_told(written: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        DataSource.model_validate(written)


def test_links_without_a_target_do_not_stand_in_each_others_way() -> None:
    both = [{"source": CANONICAL}, {"source": f"{CANONICAL}x"}]
    spec = JobSpec.model_validate({"name": "x", "entrypoint": "train.py", "data": both})
    assert [each.target for each in spec.data] == ["", ""]


def test_whether_an_archive_is_unpacked_is_in_the_id_only_where_it_was_written() -> None:
    def data(**fields: object) -> object:
        spec = {
            "name": "x",
            "entrypoint": "train.py",
            "data": [{"source": "a.zip", "target": "a", **fields}],
        }
        return computed_part(JobSpec.model_validate(spec), code_sha256="", repeat=0)["data"]

    assert data() == [{"source": "a.zip", "target": "a", "optional": False}]
    assert data(unpack=False) == [{"source": "a.zip", "target": "a", "optional": False, "unpack": False}]


@pytest.mark.parametrize(
    ("name", "bare"), [("x.tar.gz", "x"), ("x.tar", "x"), (".zip", ".zip"), ("x.csv", "x.csv"), ("", "")]
)
def test_the_suffix_of_an_archive_goes(name: str, bare: str) -> None:
    assert without_suffix(name) == bare
