"""`driverun dev-drive` as a process of its own, which can be killed at any time."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from driverun.testing.drive_emulator import AdminClient, DriveEmulator, Fault
from tests.drive_emulator.speaking import Speaker

ROOT = Path(__file__).parent.parent.parent


class Process:
    """The command, running."""

    def __init__(self, state_dir: Path, *flags: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "driverun", "dev-drive", "--state", str(state_dir), *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://127.0.0.1:"), self.process.communicate()

    def end(self, number: int) -> tuple[int, str]:
        """Send a signal; return the exit code, and what was said."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=20)
        return self.process.returncode, said


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for one in started:
        one.process.kill()
        one.process.communicate()


def test_an_emulator_that_is_killed_goes_on_where_it_was(tmp_path: Path, processes: list[Process]) -> None:
    first = Process(tmp_path / "drive", "--seed", "5")
    processes.append(first)
    alice = Speaker(first.url)
    content = bytes(range(256)) * 2000
    made = alice.insert("weights", content, properties=[{"key": "k", "value": "v"}])
    gone = alice.insert("gone")
    alice.call("DELETE", f"files/{gone['id']}")
    (spare,) = alice.ids()
    token = alice.call("GET", "changes/startPageToken").json
    start = alice.request(
        "POST",
        "/upload/drive/v2/files?uploadType=resumable",
        b'{"title": "big"}',
        {"X-Upload-Content-Length": str(1 << 20), "Content-Type": "application/json"},
    )
    session = start.headers["location"].removeprefix(first.url)
    chunk = {"Content-Range": f"bytes 0-{(1 << 19) - 1}/{1 << 20}"}
    assert alice.request("PUT", session, bytes(1 << 19), chunk).status == 308
    page = alice.call("GET", "about").json
    first.end(signal.SIGKILL)
    alice.close()

    second = Process(tmp_path / "drive", "--seed", "5")
    processes.append(second)
    alice = Speaker(second.url)
    again = alice.call("GET", f"files/{made['id']}").json
    for name in ("etag", "version", "md5Checksum", "properties", "parents", "createdDate"):
        old, new = (str(one[name]).replace(at, "") for one, at in ((made, first.url), (again, second.url)))
        assert old == new
    assert alice.call("GET", f"files/{made['id']}", alt="media").body == content
    assert alice.call("GET", "changes/startPageToken").json == token
    assert alice.call("GET", "about").json["quotaBytesUsed"] == page["quotaBytesUsed"]
    assert alice.multipart("POST", "files", {"id": gone["id"]}, b"").status == 409
    assert alice.insert("spare", id=spare)["id"] == spare  # an id of before is good still
    assert alice.insert("new")["id"] not in {made["id"], gone["id"], spare}
    assert alice.request("PUT", session, b"", {"Content-Range": f"bytes */{1 << 20}"}).status == 308
    rest = {"Content-Range": f"bytes {1 << 19}-{(1 << 20) - 1}/{1 << 20}"}
    assert alice.request("PUT", session, bytes(1 << 19), rest).json["fileSize"] == str(1 << 20)
    alice.close()
    log = (tmp_path / "drive" / "requests.jsonl").read_text().splitlines()
    assert len(log) == 17


def test_what_was_answered_is_there_after_a_kill_in_the_middle_of_it(
    tmp_path: Path, processes: list[Process]
) -> None:
    answered: dict[str, bytes] = {}
    for kill in range(3):
        running = Process(tmp_path / "drive", "--seed", str(kill))
        processes.append(running)

        def work(worker: int, url: str = running.url, kill: int = kill) -> None:
            speaker = Speaker(url)
            with contextlib.suppress(OSError, http.client.HTTPException):
                for number in itertools.count():
                    content = f"{kill} {worker} {number} ".encode() * 500
                    made = speaker.insert("new", b"old")
                    changed = speaker.multipart("PUT", f"files/{made['id']}", {"title": "done"}, content)
                    answered[changed.json["id"]] = content
            speaker.close()

        with ThreadPoolExecutor(4) as pool:
            for worker in range(4):
                pool.submit(work, worker)
            while len(answered) < 40 * (kill + 1):
                AdminClient(running.url).settings()
            running.end(signal.SIGKILL)
    with DriveEmulator(tmp_path / "drive") as emulator:
        assert len(answered) >= 120
        for file_id, content in answered.items():
            assert emulator.content(file_id) == content
        records = emulator.files()
        assert emulator.state.usage["alice@example.com"] == sum(one.quota_bytes for one in records)
        named = sum(len(one.revisions) for one in records)
        assert len(list(emulator.state.blobs.folder.glob("??/*"))) == named


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_a_file(tmp_path: Path, processes: list[Process]) -> None:
    running = Process(tmp_path / "drive")
    processes.append(running)
    alice = Speaker(running.url)
    mib = 1 << 20
    alice.insert("small", bytes(mib))
    before = peak_bytes(running)
    made = alice.insert("big", bytes(64 * mib))
    assert len(alice.call("GET", f"files/{made['id']}", alt="media").body) == 64 * mib
    start = alice.request("POST", "/upload/drive/v2/files?uploadType=resumable", b"{}")
    session = start.headers["location"].removeprefix(running.url)
    assert alice.request("PUT", session, bytes(64 * mib)).status == 200
    alice.close()
    assert peak_bytes(running) - before < 16 * mib


def peak_bytes(running: Process) -> int:
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024


def test_a_blob_that_nobody_names_is_swept_away(tmp_path: Path) -> None:
    with DriveEmulator(tmp_path) as emulator:
        alice = Speaker(emulator.url)
        made = alice.insert("kept", b"kept")
        alice.close()
        folder = emulator.state.blobs.folder
    (folder / "zz").mkdir()
    (folder / "zz" / "never-committed-zz").write_bytes(b"x")
    (folder / "incoming" / "half").write_bytes(b"x")
    with DriveEmulator(tmp_path) as emulator:
        assert len(list(folder.glob("??/*"))) == 1
        assert list((folder / "incoming").iterdir()) == []
        assert emulator.content(made["id"]) == b"kept"


def test_flags_and_the_admin_path_set_what_happens(tmp_path: Path, processes: list[Process]) -> None:
    flags = "--latency-ms 1 --bandwidth-mbps 1000 --writes-per-second 3 --listing-lag-s 2 --quota-gb 1"
    running = Process(tmp_path / "drive", *flags.split(), "--fault-rate", "0", "--seed", "1")
    processes.append(running)
    admin = AdminClient(running.url)
    found = admin.settings()
    assert [found[name] for name in ("latency_ms", "bandwidth_mbps", "writes_per_second")] == [1, 1000, 3]
    assert [found[name] for name in ("listing_lag_s", "quota_gb", "fault_rate")] == [2, 1, 0]
    admin.add_fault(Fault(kind="status:500", method="drive.files.insert", when="after"))
    alice = Speaker(running.url)
    assert alice.multipart("POST", "files", {"title": "a"}, b"x").status == 500
    alice.close()
    assert [one.title for one in admin.files()] == ["a"]
    assert admin.counts() == {"drive.files.insert": 1}
    code, said = running.end(signal.SIGINT)
    assert code == 0
    assert "DRIVERUN_DRIVE_ENDPOINT" in said


@pytest.mark.parametrize(
    ("state", "words"), [("two", "Choose another --port"), ("one", "another emulator lives in")]
)
def test_a_port_or_a_folder_that_is_taken_is_told(tmp_path: Path, state: str, words: str) -> None:
    with DriveEmulator(tmp_path / "one") as emulator:
        port = emulator.url.rpartition(":")[2]
        done = subprocess.run(
            [sys.executable, "-m", "driverun", "dev-drive", "--port", port, "--state", str(tmp_path / state)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


def test_an_address_is_there_only_while_it_runs(tmp_path: Path) -> None:
    emulator = DriveEmulator(tmp_path)
    with pytest.raises(RuntimeError, match="does not listen"):
        _ = emulator.url
    emulator.close()
