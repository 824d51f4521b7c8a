"""What every ObjectStore does, as one suite of tests that each implementation inherits.

    class TestMyStore(ObjectStoreConformance):
        @pytest.fixture
        def store(self) -> ObjectStore:
            return MyStore(...)

It needs pytest, and is imported by tests alone. The listing of the store must not lag.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import pytest

from driverun.errors import ObjectExists, ObjectNotFound, UnsafePath
from driverun.storage.base import ObjectInfo, ObjectStore

REFUSED_PATHS = ["", "/", "/etc/passwd", "a//b", "a/", "./a", "a/../b", "..", "a\\b", "a\nb", "a\0b", "a\x7f"]
REFUSED_PATHS += ["lone-\ud800-surrogate", "n" * 256, "é" * 128, "fine/" + "n" * 256 + "/fine"]

NAMES = {
    "composed": "caf\u00e9.txt",
    "decomposed": "cafe\u0301.txt",
    "quotes": 'it\'s "so" `here`.txt',
    "blanks": " two  words .txt",
    "percent": "100%20 + #1 & $x=?.txt",
    "emoji": "🚀-запуск-実行.json",
    "longest": "n" * 255,
    "longest in bytes": "é" * 127,
    "dots": "...and more",
    "hidden": ".keep",
}

CALLS: dict[str, Callable[[ObjectStore, str, Path], object]] = {
    "create": lambda store, path, _: store.create(path, b""),
    "replace": lambda store, path, _: store.replace(path, b""),
    "read": lambda store, path, _: store.read(path),
    "download": lambda store, path, folder: store.download(path, folder / "target"),
    "stat": lambda store, path, _: store.stat(path),
    "delete": lambda store, path, _: store.delete(path),
    "ensure_folder": lambda store, path, _: store.ensure_folder(path),
    "list": lambda store, path, _: store.list(path),
    "news": lambda store, path, _: store.news(path),
}


def paths_of(found: list[ObjectInfo]) -> list[str]:
    return [each.path for each in found]


class ObjectStoreConformance:
    """Subclass, provide a `store` fixture, inherit every test."""

    #: Whether one of two creators of the same path is refused even at the same instant; on Drive none is.
    creates_exclusively: ClassVar[bool] = True
    #: How many creations the tests with threads make in each; fewer for a store behind a network.
    creations_per_thread: ClassVar[int] = 25

    # One object.

    def test_what_was_created_is_read_back(self, store: ObjectStore) -> None:
        store.create("ledger/one.json", b"\x00\xffcontent")
        assert store.read("ledger/one.json") == b"\x00\xffcontent"

    def test_creating_tells_what_is_there(self, store: ObjectStore) -> None:
        before = store.now()
        created = store.create("ledger/one.json", b"content")
        assert created.path == "ledger/one.json"
        assert created.size_bytes == 7
        assert created.sha256 == hashlib.sha256(b"content").hexdigest()
        assert before <= created.created_at <= store.now()
        assert created.modified_at >= created.created_at

    def test_looking_tells_the_same_as_creating(self, store: ObjectStore) -> None:
        created = store.create("ledger/one.json", b"content", properties={"kind": "claim"})
        for found in (store.stat("ledger/one.json"), *store.list("ledger")):
            assert found.sha256 in (None, created.sha256)
            assert (found.path, found.object_id, found.size_bytes) == (
                created.path,
                created.object_id,
                created.size_bytes,
            )
            assert (found.created_at, found.modified_at) == (created.created_at, created.modified_at)
            assert found.properties == created.properties

    def test_properties_are_kept_or_said_to_be_none(self, store: ObjectStore) -> None:
        created = store.create("one", b"1", properties={"kind": "claim", "number": "1"})
        assert created.properties in (None, {"kind": "claim", "number": "1"})

    def test_properties_left_out_of_a_replacement_stay(self, store: ObjectStore) -> None:
        keeps = store.create("one", b"1", properties={"beat": "1"}).properties is not None
        store.replace("one", b"2")
        assert store.stat("one").properties == ({"beat": "1"} if keeps else None)
        store.replace("one", b"3", properties={"beat": "3"})
        assert store.stat("one").properties == ({"beat": "3"} if keeps else None)

    def test_an_object_may_be_empty(self, store: ObjectStore) -> None:
        created = store.create("empty", b"")
        assert (created.size_bytes, created.sha256) == (0, hashlib.sha256().hexdigest())
        assert store.read("empty") == b""
        assert paths_of(store.list("")) == ["empty"]

    def test_the_bytes_of_a_file_become_an_object(self, store: ObjectStore, tmp_path: Path) -> None:
        content = bytes(range(256)) * 20_001
        source = tmp_path / "source.bin"
        source.write_bytes(content)
        created = store.create("runs/a/pack", source)
        assert (created.size_bytes, created.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert store.read("runs/a/pack") == content
        assert source.read_bytes() == content

    def test_a_missing_source_is_not_taken_for_a_missing_object(
        self, store: ObjectStore, tmp_path: Path
    ) -> None:
        with pytest.raises(FileNotFoundError):
            store.create("one", tmp_path / "none.bin")
        assert store.list("", recursive=True) == []

    def test_a_taken_path_is_refused_and_left_alone(self, store: ObjectStore) -> None:
        first = store.create("ledger/one.json", b"first")
        with pytest.raises(ObjectExists) as caught:
            store.create("ledger/one.json", b"second")
        assert caught.value.path == "ledger/one.json"
        assert store.read("ledger/one.json") == b"first"
        assert store.stat("ledger/one.json").modified_at == first.modified_at

    def test_a_folder_and_an_object_do_not_share_a_name(self, store: ObjectStore) -> None:
        store.create("a/b", b"1")
        with pytest.raises(ObjectExists):
            store.create("a", b"2")
        with pytest.raises(ObjectExists):
            store.create("a/b/c", b"3")
        assert paths_of(store.list("", recursive=True)) == ["a/b"]

    def test_two_objects_have_two_ids(self, store: ObjectStore) -> None:
        created = [store.create(f"ledger/{number}", b"same") for number in range(5)]
        assert len({each.object_id for each in created}) == 5

    @pytest.mark.parametrize("call", ["read", "stat", "download", "replace"])
    @pytest.mark.parametrize("path", ["runs/none.json", "none", "folder", "object/beneath"])
    def test_what_was_never_written_is_not_found(
        self, store: ObjectStore, tmp_path: Path, call: str, path: str
    ) -> None:
        store.create("folder/object", b"1")
        store.create("object", b"2")
        with pytest.raises(ObjectNotFound) as caught:
            CALLS[call](store, path, tmp_path)
        assert caught.value.path == path
        assert paths_of(store.list("", recursive=True)) == ["folder/object", "object"]
        assert list(tmp_path.glob("target*")) == []

    # Replacing.

    def test_a_replacement_changes_content_and_nothing_else(self, store: ObjectStore) -> None:
        created = store.create("ledger/one.record.json", b"old")
        store.create("ledger/other.json", b"other")
        for content in (b"newer", b"newest!"):
            before = store.now()
            replaced = store.replace("ledger/one.record.json", content)
            assert store.read("ledger/one.record.json") == content
            assert replaced.sha256 == hashlib.sha256(content).hexdigest()
            for found in (replaced, store.stat("ledger/one.record.json"), store.list("ledger")[0]):
                assert (found.path, found.object_id) == (created.path, created.object_id)
                assert found.size_bytes == len(content)
                assert found.created_at == created.created_at
                assert found.modified_at == replaced.modified_at
            assert before <= replaced.modified_at <= store.now()
            assert replaced.modified_at > created.modified_at

    def test_the_bytes_of_a_file_replace_an_object(self, store: ObjectStore, tmp_path: Path) -> None:
        content = bytes(range(256)) * 20_001
        source = tmp_path / "source.bin"
        source.write_bytes(content)
        created = store.create("data/one.bin", b"old", properties={"kind": "data"})
        replaced = store.replace("data/one.bin", source)
        assert (replaced.size_bytes, replaced.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert (replaced.object_id, replaced.properties) == (created.object_id, created.properties)
        assert store.read("data/one.bin") == content
        with pytest.raises(FileNotFoundError):
            store.replace("data/one.bin", tmp_path / "none.bin")
        assert store.read("data/one.bin") == content

    # Downloading.

    def test_a_download_arrives_whole_and_checked(self, store: ObjectStore, tmp_path: Path) -> None:
        content = b"0123456789" * 300_000
        created = store.create("runs/a/pack", content)
        target = tmp_path / "target"
        target.write_bytes(b"an older file")
        with target.open("rb") as older:
            found = store.download("runs/a/pack", target)
            assert (
                older.read() == b"an older file"
            )  # a new file took its name; its bytes were not written over
        assert target.read_bytes() == content
        assert found.sha256 == created.sha256
        assert (found.path, found.size_bytes) == ("runs/a/pack", len(content))
        assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["target"]

    def test_a_failed_download_leaves_the_target_alone(self, store: ObjectStore, tmp_path: Path) -> None:
        target = tmp_path / "target"
        target.write_bytes(b"an older file")
        before = sorted(tmp_path.iterdir())
        with pytest.raises(ObjectNotFound):
            store.download("none", target)
        assert target.read_bytes() == b"an older file"
        assert sorted(tmp_path.iterdir()) == before

    def test_a_download_into_no_folder_is_refused(self, store: ObjectStore, tmp_path: Path) -> None:
        store.create("one", b"1")
        with pytest.raises(FileNotFoundError):
            store.download("one", tmp_path / "no folder" / "target")

    # Listing.

    def test_a_listing_holds_the_objects_of_one_folder_by_path(self, store: ObjectStore) -> None:
        for path in ("b", "a/2", "a/1", "a/deep/er/3", "a.txt", "ab/1", ".driverun/root.json", "a/B"):
            store.create(path, b"")
        assert paths_of(store.list("a")) == ["a/1", "a/2", "a/B"]
        assert paths_of(store.list("")) == ["a.txt", "b"]
        assert paths_of(store.list(".driverun")) == [".driverun/root.json"]

    def test_a_recursive_listing_holds_everything_beneath_by_path(self, store: ObjectStore) -> None:
        for path in ("b", "a/2", "a/deep/er/3", "a/deep-1", "a.txt", "ab/1", ".driverun/root.json"):
            store.create(path, b"")
        store.replace("a/2", b"more")
        assert paths_of(store.list("a", recursive=True)) == ["a/2", "a/deep-1", "a/deep/er/3"]
        assert paths_of(store.list("", recursive=True)) == [
            ".driverun/root.json",
            "a.txt",
            "a/2",
            "a/deep-1",
            "a/deep/er/3",
            "ab/1",
            "b",
        ]

    @pytest.mark.parametrize("recursive", [False, True])
    def test_what_is_no_folder_lists_as_empty(self, store: ObjectStore, recursive: bool) -> None:
        assert store.list("", recursive=recursive) == []
        store.create("object", b"1")
        for folder in ("none", "none/deeper", "object"):
            assert store.list(folder, recursive=recursive) == []

    def test_a_made_folder_is_no_object(self, store: ObjectStore) -> None:
        store.ensure_folder("runs/a/results")
        store.ensure_folder("runs/a/results")
        store.ensure_folder("runs")
        assert store.list("", recursive=True) == []
        store.create("runs/a/results/one", b"1")
        store.ensure_folder("runs/a/results")
        assert paths_of(store.list("runs", recursive=True)) == ["runs/a/results/one"]

    def test_a_listing_by_prefix_holds_what_begins_so(self, store: ObjectStore) -> None:
        for path in (
            "a/one.1.claim",
            "a/one.2.claim",
            "a/one.10",
            "a/oneness",
            "a/two",
            "a/one.d/deep",
            "b/one.1",
        ):
            store.create(path, b"")
        assert paths_of(store.list("a", prefix="one.")) == ["a/one.1.claim", "a/one.10", "a/one.2.claim"]
        assert paths_of(store.list("a", prefix="none")) == []
        assert paths_of(store.list("none", prefix="one")) == []
        assert paths_of(store.list("", prefix="a")) == []
        deep = paths_of(store.list("", prefix="a/one.d", recursive=True))
        assert deep == ["a/one.d/deep"]
        store.create("a/one.3", b"")
        store.delete("a/one.2.claim")
        assert paths_of(store.list("a", prefix="one.")) == ["a/one.1.claim", "a/one.10", "a/one.3"]

    # News.

    def test_the_first_news_of_a_folder_are_all_that_is_there(self, store: ObjectStore) -> None:
        assert list(store.news("a").changed) == []
        for path in ("a/2", "a/1", "a/deep/3", "b"):
            store.create(path, b"")
        news = store.news("a")
        assert news.is_whole
        assert sorted(paths_of(list(news.changed))) == ["a/1", "a/2"]
        assert news.gone == frozenset()
        assert sorted(news.changed, key=lambda info: info.path) == store.list("a")

    def test_later_news_are_what_happened_since(self, store: ObjectStore) -> None:
        for number in range(5):
            store.create(f"a/{number}", b"")
        first = store.news("a")
        again = store.news("a", first.mark)
        assert (list(again.changed), again.gone, again.is_whole) == ([], frozenset(), False)
        replaced = store.replace("a/3", b"other", properties={"beat": "1"})
        store.delete("a/1")
        store.create("a/new", b"")
        store.create("b/new", b"")
        second = store.news("a", again.mark)
        assert not second.is_whole
        assert sorted(paths_of(list(second.changed))) == ["a/3", "a/new"]
        assert second.gone == {"a/1"}
        (seen,) = (info for info in second.changed if info.path == "a/3")
        assert (seen.modified_at, seen.properties) == (replaced.modified_at, replaced.properties)
        missed = store.news("a", first.mark)  # one that looks more seldom hears of everything all the same
        assert sorted(paths_of(list(missed.changed))) == ["a/3", "a/new"]
        assert list(store.news("a", second.mark).changed) == []

    def test_the_news_of_a_folder_that_comes_later_are_whole(self, store: ObjectStore) -> None:
        store.create("b", b"")
        mark = store.news("a").mark
        store.create("a/1", b"")
        news = store.news("a", mark)
        assert paths_of(list(news.changed)) == ["a/1"]
        mark = store.news("a", object()).mark  # a mark of something else
        assert list(store.news("a", mark).changed) == []

    # Deleting.

    def test_a_deleted_object_is_gone(self, store: ObjectStore, tmp_path: Path) -> None:
        store.create("a/one", b"1")
        store.create("a/two", b"2")
        store.replace("a/one", b"3")
        store.delete("a/one")
        for call in ("read", "stat", "download", "replace"):
            with pytest.raises(ObjectNotFound):
                CALLS[call](store, "a/one", tmp_path)
        assert paths_of(store.list("a")) == ["a/two"]

    @pytest.mark.parametrize("path", ["none", "none/deeper", "a/one/deeper", "a"])
    def test_deleting_what_is_no_object_changes_nothing(self, store: ObjectStore, path: str) -> None:
        store.create("a/one", b"1")
        store.delete(path)
        assert paths_of(store.list("", recursive=True)) == ["a/one"]

    # Names.

    @pytest.mark.parametrize(
        ("call", "path"),
        [(call, path) for call in CALLS for path in REFUSED_PATHS if path or call not in ("list", "news")],
    )
    def test_a_path_that_cannot_be_is_refused(
        self, store: ObjectStore, tmp_path: Path, call: str, path: str
    ) -> None:
        with pytest.raises(UnsafePath):
            CALLS[call](store, path, tmp_path)

    @pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
    def test_a_name_stays_as_it_was_given(self, store: ObjectStore, name: str) -> None:
        path = f"data/{name}/{name}"
        assert store.create(path, b"old").path == path
        store.replace(path, b"content")
        assert store.read(path) == b"content"
        assert store.stat(path).path == path
        assert paths_of(store.list(f"data/{name}")) == [path]
        assert paths_of(store.list("", recursive=True)) == [path]
        store.delete(path)
        assert store.list("", recursive=True) == []

    # Time.

    def test_times_are_utc(self, store: ObjectStore) -> None:
        created = store.create("one", b"1")
        assert {created.created_at.tzinfo, created.modified_at.tzinfo, store.now().tzinfo} == {UTC}

    def test_later_creations_have_later_times(self, store: ObjectStore) -> None:
        times: list[datetime] = []
        for number in range(20):
            times.append(store.create(f"ledger/{number}", b"").created_at)
            times.append(store.now())
            if number % 5 == 0:
                times.append(store.replace("ledger/0", b"more").modified_at)
        assert times == sorted(times)

    # Many at once.

    def test_of_many_creators_of_one_path_one_wins(self, store: ObjectStore) -> None:
        if not self.creates_exclusively:
            pytest.skip("this store cannot tell two creators at the same instant apart")
        start = threading.Barrier(4)

        def create(number: int) -> list[str]:
            won = []
            for path in (f"ledger/{each}" for each in range(self.creations_per_thread)):
                start.wait()
                try:
                    store.create(path, f"creator {number}".encode())
                except ObjectExists:
                    continue
                won.append(path)
            return won

        with ThreadPoolExecutor(4) as threads:
            won = list(threads.map(create, range(4)))
        assert sorted(path for paths in won for path in paths) == paths_of(store.list("ledger"))
        assert len(store.list("ledger")) == self.creations_per_thread
        for number, paths in enumerate(won):
            assert {store.read(path) for path in paths} <= {f"creator {number}".encode()}

    def test_creations_become_visible_in_the_order_of_their_times(self, store: ObjectStore) -> None:
        watched: list[set[str]] = []
        start = threading.Barrier(5)

        def create(thread: int) -> None:
            start.wait()
            for number in range(self.creations_per_thread):
                store.create(f"ledger/{thread}-{number}", b"")

        with ThreadPoolExecutor(4) as threads:
            creators = [threads.submit(create, thread) for thread in range(4)]
            start.wait()
            while not all(creator.done() for creator in creators):
                watched.append(set(paths_of(store.list("ledger"))))
        for creator in creators:
            creator.result()
        assert_visible_in_order({each.path: each.created_at for each in store.list("ledger")}, watched)

    def test_readers_see_an_object_whole_or_not_at_all(self, store: ObjectStore) -> None:
        contents = {bytes([number]) * (300_000 + number) for number in range(8)}
        is_over = threading.Event()

        def read() -> set[bytes]:
            seen = set()
            while not is_over.is_set():
                try:
                    seen.add(store.read("ledger/record"))
                except ObjectNotFound:
                    continue
            return seen | {store.read("ledger/record")}

        with ThreadPoolExecutor(2) as threads:
            readers = [threads.submit(read) for _ in range(2)]
            try:
                first, *later = sorted(contents)
                store.create("ledger/record", first)
                for content in later:
                    store.replace("ledger/record", content)
            finally:
                is_over.set()
            seen = [reader.result() for reader in readers]
        assert seen[0] | seen[1] <= contents
        assert max(contents) in seen[0] & seen[1]


def assert_visible_in_order(created_at: dict[str, datetime], listings: list[set[str]]) -> None:
    """Assert that nobody who saw an object can be shown an older one later.

    Args:
        created_at: of every object, by path.
        listings: each begun after the one before had ended.
    """
    latest = datetime.min.replace(tzinfo=UTC)
    for listing in listings:
        due = {path for path, at in created_at.items() if at < latest}
        assert due <= listing, f"seen only after a younger one: {sorted(due - listing)}"
        latest = max([latest, *(created_at[path] for path in listing)])
