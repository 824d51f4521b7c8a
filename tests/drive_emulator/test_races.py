"""Many calls at once: of those that exclude each other, one succeeds."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from driverun.testing.drive_emulator import DriveEmulator
from tests.drive_emulator.speaking import Speaker

WORKERS = 8


def at_once(url: str, number: int, action: Any) -> list[int]:
    def one(index: int) -> int:
        speaker = Speaker(url)
        try:
            status: int = action(speaker, index).status
            return status
        finally:
            speaker.close()

    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(one, range(number)))


def test_of_many_who_insert_one_id_one_succeeds(emulator: DriveEmulator, alice: Speaker) -> None:
    for chosen in alice.ids(5):
        found = at_once(
            emulator.url,
            WORKERS,
            lambda speaker, index, chosen=chosen: speaker.multipart(
                "POST", "files", {"id": chosen, "title": str(index)}, b"x" * 1000
            ),
        )
        assert Counter(found) == {200: 1, 409: WORKERS - 1}
    assert len(emulator.files()) == 5
    assert list(emulator.state.blobs.incoming.iterdir()) == []


def test_of_many_who_change_one_version_one_succeeds(emulator: DriveEmulator, alice: Speaker) -> None:
    made = alice.insert()
    for _ in range(5):
        etag = alice.call("GET", f"files/{made['id']}").json["etag"]
        found = at_once(
            emulator.url,
            WORKERS,
            lambda speaker, index, etag=etag: speaker.multipart(
                "PUT", f"files/{made['id']}", {}, str(index).encode(), headers={"If-Match": etag}
            ),
        )
        assert Counter(found) == {200: 1, 412: WORKERS - 1}
    assert len(alice.call("GET", f"files/{made['id']}/revisions").json["items"]) == 6


def test_whatever_happens_at_once_is_there_after_a_restart(tmp_path: Path) -> None:
    def act(speaker: Speaker, index: int) -> Any:
        made = speaker.insert(str(index), b"x" * index)
        if index % 3 == 0:
            return speaker.call("DELETE", f"files/{made['id']}")
        return speaker.call("PATCH", f"files/{made['id']}", {"title": f"{index} renamed"})

    with DriveEmulator(tmp_path) as emulator:
        at_once(emulator.url, 60, act)
        before, usage = emulator.files(), dict(emulator.state.usage)
        changes = list(emulator.state.changes)
    with DriveEmulator(tmp_path) as emulator:
        assert emulator.files() == before
        assert emulator.state.usage == usage
        assert emulator.state.changes == changes
        assert emulator.state.listed.files == emulator.state.current.files
        assert len(list(emulator.state.blobs.folder.glob("??/*"))) == len(before) == 40
