"""How fast data come from Drive and go there: driverun beside PyDrive2's own ways, in one run.

    make bench BENCH=transfer     # FILES=5000 of 20 kB, LARGE_MB=2000, LATENCY_MS=150 for each request

The Drive is the emulator, as a process of its own; all are asked the same of it, each in a process of its own, whose
peak memory is told. PyDrive2's loops (`GetContentFile`, `Upload`) and its filesystem take files one by one, as their
own examples do; with small files they are timed over the first of them only.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from driverun.assembly import Surroundings, make_root
from driverun.clock import SystemClock
from driverun.spec.model import DataSource
from driverun.storage.base import ObjectStore
from driverun.storage.drive.opening import EMULATED_TOKEN, ENDPOINT_VARIABLE
from driverun.testing.drive_emulator.client import AdminClient
from driverun.transfer.cache import DataCache
from driverun.transfer.packing import Packer
from driverun.transfer.sync import SyncedData, sync_data

FIRST_AT_LEAST = 12  #: times PyDrive2's loop
NEXT_AT_LEAST = 100
LARGE_PEAK_BYTES = 300_000_000
CHUNK_BYTES = 16 << 20  #: the first piece of an upload, and so what one drop may cost again
DROPPED_BYTES = 40_000_000
FILE_BYTES = 20_000
FOLDERS = 20
ROOT = "gdrive:bench"
SOURCE = "data/images"
LARGE_OF_PYDRIVE2 = "large of PyDrive2.bin"
LOOP_FILES = 60
BLOCK_BYTES = 1 << 20


def main() -> int:
    """Measure, print, and say whether driverun is as fast as it has to be."""
    files, large_mb = int(os.environ.get("FILES", "5000")), int(os.environ.get("LARGE_MB", "2000"))
    latency_ms = float(os.environ.get("LATENCY_MS", "150"))
    met = True
    with tempfile.TemporaryDirectory(prefix="driverun-bench-") as name, _emulator(Path(name)) as url:
        folder, admin = Path(name), AdminClient(url)
        _fill(make_root(ROOT, _here(url, folder))[0], _pydrive(url), files)
        admin.change(latency_ms=latency_ms)

        def run(what: str, measurement: Callable[..., Any], files: int, size_bytes: int) -> dict[str, Any]:
            admin.clear_requests()
            os.sync()  # what the one before has left to be written to the disk
            found = _in_a_process(measurement, url, folder)
            requests = sum(admin.counts().values())
            print(
                f"{what:<34} {files / found['seconds']:>8.1f} {size_bytes / 1e6 / found['seconds']:>8.2f}"
                f" {requests:>9} {found['peak_bytes'] / 1e6:>8.0f}",
                flush=True,
            )
            return found

        def check(target: str, is_met: bool, value: str) -> None:
            nonlocal met
            met = met and is_met
            print(f"{'met   ' if is_met else 'MISSED'}  {target}: {value}", flush=True)

        print(f"{files} files of {FILE_BYTES / 1000:g} kB, {latency_ms:g} ms for each request")
        print(f"{'':<34} {'files/s':>8} {'MB/s':>8} {'requests':>9} {'peak MB':>8}", flush=True)
        some, all_bytes = min(LOOP_FILES, files), files * FILE_BYTES
        loop = run(f"PyDrive2 GetContentFile ({some})", loop_down, some, some * FILE_BYTES)
        run(f"GDriveFileSystem.get ({some})", filesystem_down, some, some * FILE_BYTES)
        first = run("driverun, first sync", first_sync, files, all_bytes)
        packed = _in_a_process(pack, url, folder)
        print(f"{'packing beside the training':<34} {packed['seconds']:.1f} s", flush=True)
        following = run("driverun, next runtime", next_sync, files, all_bytes)
        run("PyDrive2 Upload (20)", loop_up, 20, 20 * FILE_BYTES)
        run("driverun create (20)", store_up, 20, 20 * FILE_BYTES)
        pace = some / loop["seconds"]
        for what, found, at_least in (
            ("first sync", first, FIRST_AT_LEAST),
            ("next runtime", following, NEXT_AT_LEAST),
        ):
            times = files / found["seconds"] / pace
            check(f"{what} at least {at_least} times PyDrive2's loop", times >= at_least, f"{times:.0f}")

        large_bytes = large_mb * 1_000_000
        _write_random(folder / "large.bin", large_bytes)
        print(f"\none file of {large_mb} MB")
        peak_bytes = 0
        for direction, theirs, ours in (
            ("up", ("PyDrive2 Upload", large_loop_up), ("driverun create", large_up)),
            (
                "down",
                ("PyDrive2 GetContentFile", large_loop_down),
                ("driverun download, verified", large_down),
            ),
        ):
            seconds: dict[str, list[float]] = {theirs[0]: [], ours[0]: []}
            for what, measurement in (
                theirs,
                ours,
                ours,
                theirs,
            ):  # neither is always the one that goes first
                found = run(what, measurement, 1, large_bytes)
                seconds[what].append(found["seconds"])
                if what == ours[0]:
                    peak_bytes = max(peak_bytes, found["peak_bytes"])
            ratio = sum(seconds[theirs[0]]) / sum(seconds[ours[0]])
            check(f"as fast as PyDrive2, {direction}", ratio >= 1, f"{ratio:.2f} times")
        run("GDriveFileSystem.get", large_filesystem_down, 1, large_bytes)
        check("memory under 300 MB", peak_bytes < LARGE_PEAK_BYTES, f"{peak_bytes / 1e6:.0f} MB")

        _write_random(folder / "dropped.bin", DROPPED_BYTES)
        admin.clear_requests()
        _in_a_process(dropped_up, url, folder)
        sent = sum(
            record.request_bytes for record in admin.requests() if record.method_id and record.verb == "PUT"
        )
        again = sent - DROPPED_BYTES
        print(f"\n{DROPPED_BYTES / 1e6:g} MB through one dropped connection")
        check("at most one chunk is sent again", again <= CHUNK_BYTES, f"{again / 1e6:.1f} MB")
    return 0 if met else 1


# What is measured: each gives the seconds of its work alone.


def loop_down(url: str, folder: Path) -> float:
    drive = _pydrive(url)
    found = drive.ListFile({"q": "mimeType='image/png' and trashed=false", "maxResults": 1000}).GetList()
    began_s = time.monotonic()
    for file in found[:LOOP_FILES]:
        file.GetContentFile(str(folder / "fetched.png"))
    return time.monotonic() - began_s


def filesystem_down(url: str, folder: Path) -> float:
    filesystem, top = _filesystem(url)
    found = [path for path in filesystem.find(f"{top}/{SOURCE}/00") if path.endswith(".png")]
    found += [path for path in filesystem.find(f"{top}/{SOURCE}/01") if path.endswith(".png")]
    began_s = time.monotonic()
    for _ in range(LOOP_FILES):
        filesystem.get_file(found[_ % len(found)], str(folder / "fetched.png"))
    return time.monotonic() - began_s


def first_sync(url: str, folder: Path) -> float:
    return _sync(url, folder, "first")[1]


def next_sync(url: str, folder: Path) -> float:
    return _sync(url, folder, "second")[1]


def pack(url: str, folder: Path) -> float:
    synced, _ = _sync(url, folder, "packer")
    assert synced.packable is not None, "it took long, so it is worth packing"
    began_s = time.monotonic()
    store, _ = make_root(ROOT, _here(url, folder))
    Packer(store, synced.packable, worker="wbench", scratch=folder, say=lambda _: None).work()
    return time.monotonic() - began_s


def loop_up(url: str, folder: Path) -> float:
    drive = _pydrive(url)
    (folder / "small.png").write_bytes(bytes(FILE_BYTES))
    began_s = time.monotonic()
    for number in range(20):
        file = drive.CreateFile({"title": f"up-{number}.bin"})
        file.SetContentFile(str(folder / "small.png"))
        file.Upload()
    return time.monotonic() - began_s


def store_up(url: str, folder: Path) -> float:
    store, _ = make_root(ROOT, _here(url, folder))
    store.ensure_folder("data")
    began_s = time.monotonic()
    for number in range(20):
        store.create(f"data/up-{number}.bin", bytes(FILE_BYTES))
    return time.monotonic() - began_s


def large_loop_up(url: str, folder: Path) -> float:
    drive = _pydrive(url)
    began_s = time.monotonic()
    file = drive.CreateFile({"title": LARGE_OF_PYDRIVE2})
    file.SetContentFile(str(folder / "large.bin"))
    file.Upload()
    return time.monotonic() - began_s


def large_up(url: str, folder: Path) -> float:
    store, _ = make_root(ROOT, _here(url, folder))
    began_s = time.monotonic()
    store.create(f"data/large-{os.getpid()}.bin", folder / "large.bin")
    return time.monotonic() - began_s


def large_loop_down(url: str, folder: Path) -> float:
    drive = _pydrive(url)
    file, *_ = drive.ListFile({"q": f"title='{LARGE_OF_PYDRIVE2}' and trashed=false"}).GetList()
    began_s = time.monotonic()
    file.GetContentFile(str(folder / "fetched.bin"))
    return time.monotonic() - began_s


def large_filesystem_down(url: str, folder: Path) -> float:
    filesystem, top = _filesystem(url)
    large, *_ = (path for path in filesystem.find(f"{top}/data") if "/large-" in path)
    began_s = time.monotonic()
    filesystem.get_file(large, str(folder / "fetched.bin"))
    return time.monotonic() - began_s


def large_down(url: str, folder: Path) -> float:
    store, _ = make_root(ROOT, _here(url, folder))
    large, *_ = (info.path for info in store.list("data") if info.path.startswith("data/large-"))
    began_s = time.monotonic()
    store.download(large, folder / "fetched.bin")
    return time.monotonic() - began_s


def dropped_up(url: str, folder: Path) -> float:
    from driverun.testing.drive_emulator import Fault

    store, _ = make_root(ROOT, _here(url, folder))
    admin = AdminClient(url)
    admin.add_fault(Fault(kind="drop", method="upload", skip=1, after_bytes=CHUNK_BYTES // 3))
    began_s = time.monotonic()
    store.create("data/dropped.bin", folder / "dropped.bin")
    assert not admin.faults(), "the connection was dropped"
    return time.monotonic() - began_s


# How.


def _in_a_process(measurement: Callable[[str, Path], float], url: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, measurement.__name__, url, str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{measurement.__name__} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(name: str, url: str, folder: str) -> None:
    """One measurement, in this process alone."""
    seconds = globals()[name](url, Path(folder))
    peak_bytes = _peak_bytes()
    print(json.dumps({"seconds": seconds, "peak_bytes": peak_bytes}))


def _peak_bytes() -> int:
    """Of this process; not what getrusage says, where Linux counts whoever started it as well."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on a Mac


@contextmanager
def _emulator(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "driverun", "dev-drive", "--state", str(folder / "drive")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def _here(url: str, folder: Path) -> Surroundings:
    return Surroundings(environment={ENDPOINT_VARIABLE: url}, cwd=folder, home=folder, clock=SystemClock())


def _write_random(path: Path, size_bytes: int) -> None:
    chosen = random.Random(1)
    block = chosen.randbytes(BLOCK_BYTES)
    with path.open("wb") as file:
        for number in range(0, size_bytes, BLOCK_BYTES):
            file.write((number.to_bytes(8, "big") + block[8:])[: size_bytes - number])


def _fill(store: ObjectStore, drive: Any, files: int) -> None:
    """Put the files there as somebody else did: driverun itself keeps to the three writes a second of an account."""
    from googleapiclient.http import MediaInMemoryUpload

    chosen = random.Random(0)
    for folder in range(FOLDERS):
        store.ensure_folder(f"{SOURCE}/{folder:02d}")
    query = "mimeType='application/vnd.google-apps.folder' and trashed=false"
    ids = {found["title"]: found["id"] for found in drive.ListFile({"q": query}).GetList()}
    for number in range(files):
        about = {"title": f"{number:05d}.png", "parents": [{"id": ids[f"{number % FOLDERS:02d}"]}]}
        media = MediaInMemoryUpload(chosen.randbytes(FILE_BYTES), mimetype="image/png")
        drive.auth.service.files().insert(body=about, media_body=media).execute(http=drive.auth.http)


def _sync(url: str, folder: Path, name: str) -> tuple[SyncedData, float]:
    """Bring the data to a machine that has nothing; the opening of the root is not counted."""
    store, _ = make_root(ROOT, _here(url, folder))
    cache = DataCache(folder / name / "cache", 10**10, clock=SystemClock())
    began_s = time.monotonic()
    synced = sync_data(store, DataSource(source=SOURCE), folder / name / "work", cache)
    return synced, time.monotonic() - began_s


def _filesystem(url: str) -> tuple[Any, str]:
    from pydrive2.fs import GDriveFileSystem

    drive = _pydrive(url)
    query = "title='bench' and mimeType='application/vnd.google-apps.folder' and trashed=false"
    (root,) = drive.ListFile({"q": query}).GetList()
    return GDriveFileSystem(root["id"], drive.auth), root["id"]


def _pydrive(url: str) -> Any:
    """PyDrive2 as it is, with the emulator in the place of Google."""
    import httplib2
    from googleapiclient.discovery import build_from_document
    from googleapiclient.discovery_cache import get_static_doc
    from pydrive2.auth import GoogleAuth
    from pydrive2.drive import GoogleDrive

    class Token:
        access_token_expired = False

        def authorize(self, http: Any) -> Any:
            request = http.request

            def with_token(
                uri: str, method: str = "GET", body: Any = None, headers: Any = None, **k: Any
            ) -> Any:
                return request(
                    uri, method, body, {**(headers or {}), "authorization": f"Bearer {EMULATED_TOKEN}"}, **k
                )

            http.request = with_token
            return http

    auth = GoogleAuth(settings={"client_config_backend": "file"})
    auth.credentials = Token()
    document = json.loads(get_static_doc("drive", "v2"))
    document |= {"rootUrl": f"{url}/", "baseUrl": f"{url}/drive/v2/"}
    auth.http = auth.credentials.authorize(httplib2.Http())
    auth.service = build_from_document(document, http=auth.http)
    return GoogleDrive(auth)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        measure(*sys.argv[1:])
        sys.exit(0)
    sys.exit(main())
