"""How fast many small files come from Drive: PyDrive2's loop, the first sync, and the next runtime's.

    make bench BENCH=data_in                # FILES=5000 of 20 kB, LATENCY_MS=150 for each request

The Drive is the emulator, as a process of its own; PyDrive2 and driverun are asked the same of it. The loop lists the
folder and fetches file by file, which is what its own examples do; it is timed over the first files only.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
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

FIRST_AT_LEAST = 12  #: times the loop
NEXT_AT_LEAST = 100
FILE_BYTES = 20_000
FOLDERS = 20
SOURCE = "data/images"
LOOP_FILES = 60


def main() -> int:
    """Measure, print, and say whether driverun is as fast as it has to be."""
    files, latency_ms = int(os.environ.get("FILES", "5000")), float(os.environ.get("LATENCY_MS", "150"))
    clock = SystemClock()
    with tempfile.TemporaryDirectory(prefix="driverun-bench-") as name, _emulator(Path(name)) as url:
        folder, admin = Path(name), AdminClient(url)
        here = Surroundings(environment={ENDPOINT_VARIABLE: url}, cwd=folder, home=folder, clock=clock)
        print(f"{files} files of {FILE_BYTES / 1000:g} kB, {latency_ms:g} ms for each request", flush=True)
        drive = _pydrive(url)
        _fill(make_root("gdrive:bench", here)[0], drive, files)
        admin.change(latency_ms=latency_ms)
        loop = _loop_files_per_s(drive, folder)
        print(f"PyDrive2, one by one   {loop:8.1f} files/s", flush=True)
        first, first_s = _sync(here, folder / "first", clock)
        _tell("driverun, first sync", files / first_s, loop)
        assert first.packable is not None, "it took long, so it is worth packing"
        began_s = time.monotonic()
        store, _ = make_root("gdrive:bench", here)
        Packer(store, first.packable, worker="wbench", scratch=folder, say=lambda _: None).work()
        print(f"packing beside the training: {time.monotonic() - began_s:.1f} s", flush=True)
        second, second_s = _sync(here, folder / "second", clock)
        _tell("driverun, next runtime", files / second_s, loop)
        assert second == first, "packed or not, the data are the same"
    is_fast = files / first_s >= FIRST_AT_LEAST * loop and files / second_s >= NEXT_AT_LEAST * loop
    print(f"{'as fast as' if is_fast else 'SLOWER than'} {FIRST_AT_LEAST} and {NEXT_AT_LEAST} times the loop")
    return 0 if is_fast else 1


@contextmanager
def _emulator(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "driverun", "dev-drive", "--state", str(folder / "drive")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


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


def _sync(here: Surroundings, folder: Path, clock: SystemClock) -> tuple[SyncedData, float]:
    """Bring the data to a machine that has nothing; the opening of the root is not counted."""
    store, _ = make_root("gdrive:bench", here)
    cache = DataCache(folder / "cache", 10**10, clock=clock)
    began_s = time.monotonic()
    synced = sync_data(store, DataSource(source=SOURCE), folder / "work", cache)
    return synced, time.monotonic() - began_s


def _tell(what: str, files_per_s: float, loop: float) -> None:
    print(f"{what:<22} {files_per_s:8.1f} files/s, {files_per_s / loop:.0f} times", flush=True)


def _loop_files_per_s(drive: Any, folder: Path) -> float:
    found = drive.ListFile({"q": "mimeType='image/png' and trashed=false", "maxResults": 1000}).GetList()
    began_s = time.monotonic()
    for file in found[:LOOP_FILES]:
        file.GetContentFile(str(folder / "fetched.png"))
    return min(LOOP_FILES, len(found)) / (time.monotonic() - began_s)


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
    sys.exit(main())
