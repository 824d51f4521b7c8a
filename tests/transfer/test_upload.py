from pathlib import Path

import pytest

from driverun.errors import DriverunError, ObjectExists, UnsafePath, UsageError
from driverun.storage.base import ObjectStore
from driverun.transfer.progress import Progress
from driverun.transfer.put import Outcome
from driverun.transfer.upload import upload
from tests.transfer.conftest import MakeStore
from tests.transfer.worlds import contents, fill, stores_after_each_crash


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return fill(tmp_path / "images", {"a.png": "a", "deep/b.png": "b", "deep/.keep": "", ".driverun/x": "x"})


@pytest.mark.parametrize("target", ["data/mnist.npz", "data/"])
def test_a_file_goes_to_its_place_or_into_a_folder(target: str, store: ObjectStore, tmp_path: Path) -> None:
    local = tmp_path / "mnist.npz"
    local.write_bytes(b"digits")
    told: list[Progress] = []
    done = upload(store, local, target, told.append)
    assert done.outcomes == {"data/mnist.npz": Outcome.CREATED}
    assert done.size_bytes == 6
    assert contents(store) == {"data/mnist.npz": b"digits"}
    assert [(each.path, each.done_bytes, each.total_bytes) for each in told] == [("data/mnist.npz", 6, 6)]


@pytest.mark.parametrize("target", ["data/images", "data/images/"])
def test_a_folder_becomes_the_folder_that_is_named(target: str, store: ObjectStore, images: Path) -> None:
    (images / "outside.txt").symlink_to(fill(images.parent, {"far": "far"}) / "far")
    upload(store, images, target)
    assert contents(store) == {
        "data/images/a.png": b"a",
        "data/images/deep/.keep": b"",
        "data/images/deep/b.png": b"b",
        "data/images/outside.txt": b"far",
    }


def test_equal_files_are_skipped_and_changed_ones_replaced(store: ObjectStore, images: Path) -> None:
    upload(store, images, "data/images")
    store.create("data/images/foreign", b"stays")
    before = store.stat("data/images/deep/b.png")
    (images / "a.png").write_text("A")
    assert upload(store, images, "data/images").outcomes == {
        "data/images/a.png": Outcome.REPLACED,
        "data/images/deep/.keep": Outcome.EQUAL,
        "data/images/deep/b.png": Outcome.EQUAL,
    }
    assert store.read("data/images/a.png") == b"A"
    assert store.read("data/images/foreign") == b"stays"
    assert store.stat("data/images/deep/b.png") == before


def test_any_crash_is_survived(make_store: MakeStore, images: Path) -> None:
    def work(store: ObjectStore) -> None:
        upload(store, images, "data/images")

    reference = make_store()
    work(reference)
    for store in stores_after_each_crash(make_store, work):
        assert contents(store) == contents(reference)


@pytest.mark.parametrize(
    ("target", "error", "words"),
    [
        ("../data/x", UnsafePath, "stay inside"),
        ("/data/x", UnsafePath, "stay inside"),
        ("data/../../x", UnsafePath, "stay inside"),
        ("data\\x", UnsafePath, "backslashes"),
        ("", UnsafePath, "stay inside"),
        ("/", UnsafePath, "stay inside"),
        ("ledger/x", UsageError, "driverun keeps its own files there"),
        ("runs/", UsageError, "driverun keeps its own files there"),
        (".driverun/root.json", UsageError, "driverun keeps its own files there"),
        ("data/.driverun/pack", UsageError, "driverun keeps its own files there"),
        ("data", UsageError, "write data/ to put it inside"),
    ],
)
def test_a_target_that_is_no_place_for_a_file_is_refused(
    target: str, error: type[DriverunError], words: str, store: ObjectStore, images: Path
) -> None:
    with pytest.raises(error, match=words):
        upload(store, images / "a.png", target)
    assert contents(store) == {}


def test_what_is_not_there_or_empty_is_refused(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no such file or folder"):
        upload(store, tmp_path / "nothing", "data/x")
    with pytest.raises(UsageError, match="holds no files"):
        upload(store, tmp_path / "empty", "data/x")
    fill(tmp_path, {".driverun": "x"})
    with pytest.raises(UnsafePath, match="driverun's own"):
        upload(store, tmp_path / ".driverun", "data/")


def test_a_file_does_not_take_the_place_of_a_folder(store: ObjectStore, images: Path) -> None:
    upload(store, images, "data/images")
    with pytest.raises(ObjectExists):
        upload(store, images / "a.png", "data/images")
