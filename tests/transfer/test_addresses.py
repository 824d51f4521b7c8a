"""Data at addresses that fsspec opens."""

import base64
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from driverun.errors import IntegrityError, JobError, ObjectNotFound, StoreAccessDenied, UsageError
from driverun.spec.model import DataSource
from driverun.storage.memory import MemoryStore
from driverun.testing.clock import FakeClock
from driverun.transfer.addresses import WAITS_S
from driverun.transfer.cache import DataCache
from driverun.transfer.sync import SyncedData, sync_data

fsspec = pytest.importorskip("fsspec", reason="pip install 'driverun[https]'")


@pytest.fixture
def memory() -> Iterator[Any]:
    """fsspec's own filesystem in memory, of which a process has one."""
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]
    yield filesystem
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


class Machine:
    def __init__(self, folder: Path, clock: FakeClock) -> None:
        self.folder = folder
        self.clock = clock
        self.store = MemoryStore(clock)
        self.cache = DataCache(folder / "cache", 10**9, clock=clock)

    def sync(self, address: str, **fields: object) -> SyncedData:
        source = DataSource.model_validate({"source": address, **fields})
        return sync_data(self.store, source, self.folder / "work", self.cache)

    @property
    def files(self) -> dict[str, bytes]:
        top = self.folder / "work/data"
        return {str(each.relative_to(top)): each.read_bytes() for each in top.rglob("*") if each.is_file()}


@pytest.fixture
def machine(tmp_path: Path, clock: FakeClock) -> Machine:
    return Machine(tmp_path, clock)


def test_a_file_lands_under_its_name(memory: Any, machine: Machine) -> None:
    memory.pipe("/bucket/set/x.csv", b"a,b")
    synced = machine.sync("memory://bucket/set/x.csv")
    assert machine.files == {"x.csv": b"a,b"}
    assert synced.files == {"x.csv": hashlib.sha256(b"a,b").hexdigest()}


def test_a_folder_lands_whole(memory: Any, machine: Machine) -> None:
    memory.pipe({"/bucket/set/x.csv": b"x", "/bucket/set/deep/y.csv": b"y"})
    machine.sync("memory://bucket/set", target="tables")
    assert machine.files == {"tables/x.csv": b"x", "tables/deep/y.csv": b"y"}


def test_what_did_not_change_comes_from_the_cache(
    memory: Any, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe("/bucket/x.csv", b"1")
    machine.sync("memory://bucket/x.csv")
    fetched: list[str] = []
    get_file = type(memory).get_file

    def counted(self: Any, path: str, *rest: Any, **options: Any) -> None:
        fetched.append(path)
        get_file(self, path, *rest, **options)

    monkeypatch.setattr(type(memory), "get_file", counted)
    machine.sync("memory://bucket/x.csv")
    assert fetched == []
    memory.pipe("/bucket/x.csv", b"2")
    machine.sync("memory://bucket/x.csv")
    assert fetched == ["/bucket/x.csv"]
    assert machine.files == {"x.csv": b"2"}


def test_what_is_not_there_is_waited_for(memory: Any, machine: Machine) -> None:
    with pytest.raises(ObjectNotFound, match="whether the address is right"):
        machine.sync("memory://bucket/none")
    assert machine.sync("memory://bucket/none", optional=True).files == {}
    assert machine.clock.sleeps == []


def failing(error: BaseException, times: int) -> Any:
    """A method that raises the error so often and then does its work."""
    left = [error] * times

    def make(whole: Any) -> Any:
        def method(self: Any, *args: Any, **options: Any) -> Any:
            if left:
                raise left.pop()
            return whole(self, *args, **options)

        return method

    return make


class Refused(Exception):
    status = 403


class Lasting(Exception):
    status = 410


@pytest.mark.parametrize(
    ("error", "times", "expected", "waits"),
    [
        (TimeoutError("slow"), 3, None, list(WAITS_S)),
        (RuntimeError("of some library"), 4, ObjectNotFound, list(WAITS_S)),
        (Refused("no"), 1, StoreAccessDenied, []),
        (PermissionError("no"), 1, StoreAccessDenied, []),
        (Lasting("gone"), 1, ObjectNotFound, []),
        (OSError(28, "No space left on device"), 1, JobError, []),
    ],
)
def test_what_may_pass_is_tried_again_and_what_will_not_is_told(
    error: BaseException,
    times: int,
    expected: Any,
    waits: list[float],
    memory: Any,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory.pipe("/bucket/x", b"1")
    monkeypatch.setattr(type(memory), "get_file", failing(error, times)(type(memory).get_file))
    if expected is None:
        machine.sync("memory://bucket/x")
        assert machine.files == {"x": b"1"}
    else:
        with pytest.raises(expected, match=r"cannot (download|bring) memory://bucket/x"):
            machine.sync("memory://bucket/x")
        assert machine.files == {}
    assert machine.clock.sleeps == waits


@pytest.mark.parametrize(
    "told",
    [
        {"size": 3},
        {"md5Hash": base64.b64encode(hashlib.md5(b"other").digest()).decode()},
        {"lfs": {"sha256": hashlib.sha256(b"other").hexdigest()}},
    ],
)
def test_what_arrives_is_held_against_what_was_promised(
    told: dict[str, Any], memory: Any, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe("/bucket/x", b"1")
    info = type(memory).info
    monkeypatch.setattr(type(memory), "info", lambda self, path, **options: {**info(self, path), **told})
    with pytest.raises(IntegrityError, match="promised"):
        machine.sync("memory://bucket/x")
    assert machine.files == {}


def test_a_missing_library_is_named_with_how_to_get_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", refuse)
    locked = rf"driverun\[s3\]' s3fs=={fsspec.__version__}"
    with pytest.raises(UsageError, match=rf"library for s3:// is not installed .*{locked}"):
        machine.sync("s3://bucket/x")
    with pytest.raises(UsageError, match=r"pip install 'driverun\[https\]'"):
        machine.sync("https://example.org/x")
    with pytest.raises(UsageError, match="Install s3fs"):
        machine.sync("abfs://bucket/x")


def test_an_unknown_scheme_is_told(machine: Machine) -> None:
    with pytest.raises(UsageError, match="cannot open nosuch://x/y"):
        machine.sync("nosuch://x/y")


class Site:
    """A web site on loopback."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.has_etags = True
        self.requests: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                site.requests.append(f"{self.command} {self.path}")
                content = site.pages.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                if site.has_etags:
                    self.send_header("ETag", hashlib.sha256(content).hexdigest())
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content)

            do_GET = do_HEAD = answer

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def site() -> Iterator[Site]:
    pytest.importorskip("aiohttp", reason="pip install 'driverun[https]'")
    site = Site()
    thread = threading.Thread(target=site.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield site
    site.server.shutdown()
    thread.join()
    site.server.server_close()


@pytest.mark.parametrize("has_etags", [True, False])
def test_a_file_of_a_web_site_is_fetched_again_only_where_it_changed(
    has_etags: bool, site: Site, machine: Machine
) -> None:
    site.has_etags = has_etags
    site.pages["/x%20y.csv?raw=1"] = b"1"
    for content, expected_gets in ((b"1", 1), (b"1", 0 if has_etags else 1), (b"2", 1)):
        site.pages["/x%20y.csv?raw=1"] = content
        site.requests.clear()
        machine.sync(f"{site.address}/x%20y.csv?raw=1")
        assert machine.files == {"x y.csv": content}
        assert len([each for each in site.requests if each.startswith("GET")]) == expected_gets


def test_a_page_that_is_not_there_is_waited_for(site: Site, machine: Machine) -> None:
    with pytest.raises(ObjectNotFound, match="whether the address is right"):
        machine.sync(f"{site.address}/none.csv")


def test_a_site_that_is_not_there_is_told(machine: Machine) -> None:
    pytest.importorskip("aiohttp", reason="pip install 'driverun[https]'")
    with pytest.raises(ObjectNotFound, match="The run waits for its data"):
        machine.sync("http://127.0.0.1:9/x.csv", optional=True)
    assert machine.clock.sleeps == list(WAITS_S)
