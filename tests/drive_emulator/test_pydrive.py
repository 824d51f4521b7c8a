"""Unmodified PyDrive2, its files and its filesystem, works against the emulator for everyday use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from driverun.testing.drive_emulator import DriveEmulator, Fault
from tests.drive_emulator.speaking import ALICE, Speaker

pydriving = pytest.importorskip("tests.drive_emulator.pydriving", reason="PyDrive2 is not installed")

FOLDER = "application/vnd.google-apps.folder"


@pytest.fixture
def drive(emulator: DriveEmulator) -> Iterator[Any]:
    drive = pydriving.drive_of(emulator.url, ALICE)
    yield drive
    drive.auth.close()


@pytest.fixture
def filesystem(emulator: DriveEmulator, drive: Any) -> Any:
    from pydrive2.fs import GDriveFileSystem

    GDriveFileSystem.clear_instance_cache()
    return GDriveFileSystem("root", google_auth=drive.auth)


def created(drive: Any, title: str, content: str | None = None, **metadata: Any) -> Any:
    item = drive.CreateFile({"title": title, **metadata})
    if content is not None:
        item.SetContentString(content)
    item.Upload()
    return item


def test_a_file_is_uploaded_found_and_read(drive: Any, tmp_path: Path) -> None:
    made = created(drive, "notes.txt", "one two")
    assert made["fileSize"] == "7"
    found = drive.ListFile({"q": "title = 'notes.txt' and trashed = false"}).GetList()
    assert [one["id"] for one in found] == [made["id"]]
    other = drive.CreateFile({"id": made["id"]})
    assert other.GetContentString() == "one two"
    other.GetContentFile(str(tmp_path / "notes.txt"))
    assert (tmp_path / "notes.txt").read_text() == "one two"
    assert b"".join(other.GetContentIOBuffer(chunksize=3)) == b"one two"


def test_content_and_metadata_are_changed(drive: Any) -> None:
    made = created(drive, "notes.txt", "one")
    made.SetContentString("two")
    made.Upload()
    made["title"] = "renamed.txt"
    made["labels"]["starred"] = True
    made.Upload()
    again = drive.CreateFile({"id": made["id"]})
    again.FetchMetadata(fetch_all=True)
    assert (again["title"], again.GetContentString()) == ("renamed.txt", "two")
    assert len(again.GetRevisions()) == 2
    again.FetchMetadata(fields="title,labels(trashed)")
    assert again.metadata["title"] == "renamed.txt"


def test_an_empty_file_comes_back_empty(drive: Any, tmp_path: Path) -> None:
    made = created(drive, "empty.txt", "")
    drive.CreateFile({"id": made["id"]}).GetContentFile(str(tmp_path / "empty.txt"))
    assert (tmp_path / "empty.txt").read_bytes() == b""


def test_a_big_file_goes_up_in_chunks(drive: Any, tmp_path: Path, emulator: DriveEmulator) -> None:
    content = bytes(range(251)) * 40_000
    (tmp_path / "big.bin").write_bytes(content)
    item = drive.CreateFile({"title": "big.bin"})
    item.SetContentFile(str(tmp_path / "big.bin"))
    item.Upload()
    item.content.close()
    assert emulator.content(item["id"]) == content
    assert emulator.requests.count("upload") == 1  # a chunk of PyDrive2's has 100 MiB


def test_trash_untrash_and_delete(drive: Any) -> None:
    made = created(drive, "old.txt", "x")
    listed = "trashed = false"
    made.Trash()
    assert drive.ListFile({"q": listed}).GetList() == []
    made.UnTrash()
    assert len(drive.ListFile({"q": listed}).GetList()) == 1
    made.Delete()
    with pytest.raises(pydriving_error()) as caught:
        drive.CreateFile({"id": made["id"]}).FetchMetadata()
    assert caught.value.error["code"] == 404
    assert caught.value.GetField("reason") == "notFound"


def pydriving_error() -> Any:
    from pydrive2.files import ApiRequestError

    return ApiRequestError


def test_copies_and_folders(drive: Any) -> None:
    folder = created(drive, "folder", mimeType=FOLDER)
    made = created(drive, "a.txt", "a", parents=[{"id": folder["id"]}])
    copy = made.Copy(target_folder=folder, new_title="b.txt")
    assert copy.GetContentString() == "a"
    query = {"q": f"'{folder['id']}' in parents", "orderBy": "title", "maxResults": 1}
    assert [[one["title"] for one in page] for page in drive.ListFile(query)] == [["a.txt"], ["b.txt"]]


def test_permissions_are_given_and_taken(drive: Any, emulator: DriveEmulator, bob: Speaker) -> None:
    made = created(drive, "shared.txt", "x")
    permission = made.InsertPermission({"type": "user", "value": "bob@example.com", "role": "reader"})
    assert {one["role"] for one in made.GetPermissions()} == {"owner", "reader"}
    assert bob.call("GET", f"files/{made['id']}").status == 200
    made.DeletePermission(permission["id"])
    assert bob.call("GET", f"files/{made['id']}").status == 404
    made.InsertPermission({"type": "anyone", "value": "anyone", "role": "reader"})
    assert bob.call("GET", f"files/{made['id']}").status == 200


def test_a_document_is_exported(drive: Any) -> None:
    item = drive.CreateFile({"title": "doc", "mimeType": "text/plain"})
    item.SetContentString("über\nmorgen")
    item.Upload(param={"convert": True})
    assert item["mimeType"] == "application/vnd.google-apps.document"
    assert item.GetContentString(mimetype="text/plain", remove_bom=True) == "über\r\nmorgen"
    assert item.GetContentString(mimetype="text/plain").startswith("\ufeff")
    with pytest.raises(Exception, match="No downloadLink"):
        drive.CreateFile({"id": item["id"]}).FetchContent(mimetype="video/mp4")


def test_about_tells_the_quota(drive: Any) -> None:
    created(drive, "a", "12345")
    about = drive.GetAbout()
    assert about["quotaBytesUsed"] == "5"
    assert about["user"]["emailAddress"] == "alice@example.com"


def test_an_error_is_pydrives_error(drive: Any, emulator: DriveEmulator) -> None:
    emulator.faults.add(Fault(kind="status:403:storageQuotaExceeded", method="drive.files.insert"))
    with pytest.raises(pydriving_error()) as caught:
        created(drive, "a", "x")
    assert caught.value.GetField("reason") == "storageQuotaExceeded"


def test_the_filesystem_writes_lists_and_reads(filesystem: Any, drive: Any, tmp_path: Path) -> None:
    with filesystem.open("root/data/sub/a.txt", "wb") as stream:
        stream.write(b"alpha")
    (tmp_path / "b.txt").write_bytes(b"beta")
    filesystem.put_file(str(tmp_path / "b.txt"), "root/data/b.txt")
    assert sorted(filesystem.ls("root/data")) == ["root/data/b.txt", "root/data/sub/"]
    assert sorted(filesystem.find("root/data")) == ["root/data/b.txt", "root/data/sub/a.txt"]
    assert filesystem.exists("root/data/b.txt")
    assert not filesystem.exists("root/data/c.txt")
    info = filesystem.info("root/data/sub/a.txt")
    assert (info["type"], info["size"]) == ("file", 5)
    with filesystem.open("root/data/sub/a.txt", "rb") as stream:
        assert stream.read() == b"alpha"
    filesystem.get_file("root/data/b.txt", str(tmp_path / "back.txt"))
    assert (tmp_path / "back.txt").read_bytes() == b"beta"


def test_the_filesystem_moves_copies_and_removes(filesystem: Any) -> None:
    for path in ("root/one/it's.txt", "root/two/first.txt"):
        with filesystem.open(path, "wb") as stream:
            stream.write(b"x")
    filesystem.cp_file("root/one/it's.txt", "root/one/copy.txt")
    filesystem.mv("root/one/copy.txt", "root/two/moved.txt")
    assert sorted(filesystem.ls("root/two")) == ["root/two/first.txt", "root/two/moved.txt"]
    filesystem.rm_file("root/two/moved.txt")
    assert filesystem.ls("root/two") == ["root/two/first.txt"]


def test_the_filesystem_of_a_folder_and_of_a_shared_drive(
    emulator: DriveEmulator, drive: Any, alice: Speaker
) -> None:
    from pydrive2.fs import GDriveFileSystem

    shared = alice.call("POST", "drives", {"name": "Team"}, requestId="1").json["id"]
    for root in (alice.folder()["id"], shared):
        filesystem = GDriveFileSystem(root, google_auth=drive.auth, trash_only=False)
        with filesystem.open(f"{root}/sub/a.txt", "wb") as stream:
            stream.write(b"x")
        assert filesystem.find(root) == [f"{root}/sub/a.txt"]
        filesystem.rm_file(f"{root}/sub/a.txt")
        assert filesystem.find(root) == []


def test_a_query_too_long_for_an_address_is_sent_as_a_post(drive: Any, emulator: DriveEmulator) -> None:
    made = created(drive, "a.txt", "x")
    query = " or ".join(["title = 'a.txt'"] * 200)
    assert [one["id"] for one in drive.ListFile({"q": query}).GetList()] == [made["id"]]
    assert (emulator.requests[-1].method_id, emulator.requests[-1].verb) == ("drive.files.list", "GET")
