"""All that the emulator remembers: files, shared drives, changes, tokens and upload sessions.

It lives in memory and is written through to a SQLite file, a transaction for each thing that happens, so
that an emulator which was killed goes on where it stood. The bytes of files are blobs beside it.

There are two views of the files: the current one, which `files.get` reads, and the listed one, which
follows it after the listing lag.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import hmac
import json
import random as random_module
import sqlite3
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from driverun.clock import Clock
from driverun.testing.drive_emulator.blobs import Blobs
from driverun.testing.drive_emulator.records import (
    FOLDER,
    ChangeRecord,
    DriveRecord,
    FileRecord,
    Permission,
    change_from_json,
    drive_from_json,
    file_from_json,
    to_json,
)

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
#: Unpinned revisions beyond this number are purged, the oldest first (developers.google.com/drive/manage-revisions).
REVISIONS_KEPT = 100

#: So many changes back a single listing can be told to be stale.
SHOWN_KEPT = 10_000


class View:
    """The files as one of the two sides sees them, with an index of what lies in a folder."""

    def __init__(self) -> None:
        self.files: dict[str, FileRecord] = {}
        self.children: dict[str, dict[str, None]] = {}

    def put(self, record: FileRecord) -> None:
        before = self.files.get(record.id)
        if before is None or before.parents != record.parents:
            if before is not None:
                self._unlink(before)
            for parent in record.parents:
                self.children.setdefault(parent, {})[record.id] = None
        self.files[record.id] = record

    def remove(self, file_id: str) -> None:
        before = self.files.pop(file_id, None)
        if before is not None:
            self._unlink(before)

    def _unlink(self, record: FileRecord) -> None:
        for parent in record.parents:
            self.children.get(parent, {}).pop(record.id, None)

    def is_trashed(self, record: FileRecord) -> bool:
        """Return whether a file, or a folder above it, is in the trash."""
        seen = 0
        current: FileRecord | None = record
        while current is not None and seen < 200:
            if current.is_trashed:
                return True
            current = self.files.get(current.parents[0]) if current.parents else None
            seen += 1
        return False

    def ancestors(self, record: FileRecord) -> Iterator[FileRecord]:
        """Yield the folders above a file, the nearest first."""
        seen = 0
        while record.parents and seen < 200:
            above = self.files.get(record.parents[0])
            if above is None:
                return
            yield above
            record = above
            seen += 1


class State:
    """What the emulator remembers. Hold `lock` around everything that must be one step.

    Attributes:
        current: the files as they are.
        listed: the files as a listing shows them; call `settle` before reading it.
        changes: every change, in order.
        usage: bytes of storage that each account uses, its trash included.
    """

    def __init__(self, folder: Path, *, clock: Clock, seed: int, listing_lag_s: Callable[[], float]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._claim = (folder / "lock").open("w")
        try:
            fcntl.flock(self._claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            self._claim.close()
            raise BlockingIOError(exc.errno, f"another emulator lives in {folder}") from exc
        self.lock = threading.RLock()
        self.current = View()
        self.listed = View()
        self.changes: list[ChangeRecord] = []
        self.drives: dict[str, DriveRecord] = {}
        self.usage: dict[str, int] = {}
        self.gone: set[str] = set()
        self._clock = clock
        self._listing_lag_s = listing_lag_s
        self._pending: deque[tuple[int, int, str, FileRecord | None]] = deque()
        self._waiting: Counter[str] = Counter()  # how many of the pending are of a file
        self._visible_change = 0
        self._shown: deque[tuple[int, int, str, FileRecord | None]] = deque(maxlen=SHOWN_KEPT)
        self._is_lagging = False
        self._entries: dict[str, dict[str, Any]] = {}
        self._db = sqlite3.connect(folder / "state.sqlite", check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        # A killed process loses nothing of what it wrote; only a machine without power would.
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS record (kind TEXT, id TEXT, body TEXT, PRIMARY KEY (kind, id)) "
            "WITHOUT ROWID"
        )
        self._depth = 0
        self._doomed: list[str] = []
        starts = int(self.entry("meta", "starts") or 0)
        with self.writing():
            self.set_entry("meta", "starts", starts + 1)
            if self.entry("meta", "secret") is None:
                secret = random_module.Random(seed).randbytes(16).hex()
                self.set_entry("meta", "secret", secret)
        self._secret = str(self.entry("meta", "secret")).encode()
        self._random = random_module.Random(f"{seed}/{starts}")
        self.blobs = Blobs(folder / "blobs", lambda: self.new_word(24))
        self._load()

    def close(self) -> None:
        with self.lock:
            self._db.close()
            self._claim.close()

    # Time and names

    def now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)

    def new_word(self, length: int) -> str:
        with self.lock:
            return "".join(self._random.choices(ALPHABET[:62], k=length))

    def new_id(self, account: str) -> str:
        """Return an id for a new file; that it was made for `account` can be read from it."""
        start = "1" + self.new_word(20)
        return start + self._proof(start, account)

    def is_generated_for(self, file_id: str, account: str) -> bool:
        return len(file_id) == 33 and hmac.compare_digest(file_id[21:], self._proof(file_id[:21], account))

    def _proof(self, start: str, account: str) -> str:
        digest = hmac.digest(self._secret, f"{start} {account}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest[:9]).decode()

    def digest(self, *parts: object, length: int = 27) -> str:
        """Return a word that stands for `parts`, the same ever after."""
        digest = hmac.digest(self._secret, repr(parts).encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode()[:length]

    # Writing

    def writing(self) -> _Transaction:
        """Everything inside is written together or not at all, and nobody comes between."""
        return _Transaction(self)

    def begin(self) -> None:
        self.lock.acquire()
        if self._depth == 0:
            self._db.execute("BEGIN")
        self._depth += 1

    def end(self, *, keep: bool) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._db.execute("COMMIT" if keep else "ROLLBACK")
            # Only now: a process that is killed before must find the bytes of what it still has on record.
            for blob in self._doomed if keep else ():
                self.blobs.delete(blob)
            self._doomed.clear()
        self.lock.release()

    def entry(self, kind: str, name: str) -> Any:
        """Return a small thing that was remembered under a name; None: there is none."""
        with self.lock:
            if kind not in self._entries:
                rows = self._db.execute("SELECT id, body FROM record WHERE kind = ?", (kind,))
                self._entries[kind] = {row[0]: json.loads(row[1]) for row in rows}
            return self._entries[kind].get(name)

    def entries(self, kind: str) -> dict[str, Any]:
        with self.lock:
            self.entry(kind, "")
            return dict(self._entries[kind])

    def set_entry(self, kind: str, name: str, value: Any) -> None:
        """Remember a small thing, or forget it where `value` is None."""
        with self.writing():
            self.entry(kind, name)
            if value is None:
                self._entries[kind].pop(name, None)
                self._db.execute("DELETE FROM record WHERE kind = ? AND id = ?", (kind, name))
            else:
                self._entries[kind][name] = value
                self._write(kind, name, value)

    def put_file(self, record: FileRecord, *, announce: bool = True) -> FileRecord:
        """Make `record` the current state of its file, with its next version; return it.

        Args:
            announce: whether listings and the change log hear of it; a mere look at a file is not told.
        """
        with self.writing():
            before = self.current.files.get(record.id)
            record = replace(
                record,
                version=before.version + 1 if before is not None else record.version,
                revisions=self._purged(record),
            )
            self._account_for(before, record)
            self.current.put(record)
            self._write("file", record.id, to_json(record))
            if record.is_root and before is None:
                self.listed.put(record)
            elif announce:
                self._announce(record.id, record, drive_id=record.drive_id)
            if before is not None:
                self._doom_blobs(before, record)
        return record

    def remove_file(self, file_id: str, *, audience: tuple[str, ...]) -> None:
        """Forget a file for good; its id is never used again."""
        with self.writing():
            before = self.current.files[file_id]
            self._account_for(before, None)
            self.current.remove(file_id)
            self.gone.add(file_id)
            self._db.execute("DELETE FROM record WHERE kind = 'file' AND id = ?", (file_id,))
            self._write("gone", file_id, 1)
            self._announce(file_id, None, drive_id=before.drive_id, audience=audience)
            self._doom_blobs(before, None)

    def put_drive(self, record: DriveRecord) -> None:
        with self.writing():
            self.drives[record.id] = record
            self._write("drive", record.id, to_json(record))
            self._announce("", None, drive_id=record.id, is_drive=True)

    def remove_drive(self, drive_id: str) -> None:
        with self.writing():
            del self.drives[drive_id]
            self._db.execute("DELETE FROM record WHERE kind = 'drive' AND id = ?", (drive_id,))

    def root_of(self, account: str) -> FileRecord:
        """Return the folder My Drive of an account, which comes into being when it is asked for."""
        return self._own_folder(account, "root", "My Drive", "drive")

    def app_data_of(self, account: str) -> FileRecord:
        return self._own_folder(account, "appdata", "Application Data", "appDataFolder")

    def _own_folder(self, account: str, kind: str, title: str, space: str) -> FileRecord:
        with self.lock:
            file_id = "0A" + self.digest(kind, account, length=17)
            found = self.current.files.get(file_id)
            if found is not None:
                return found
            now = self.now_ms()
            owner = Permission(id=self.permission_id(account), type="user", role="owner", value=account)
            return self.put_file(
                FileRecord(
                    id=file_id,
                    title=title,
                    mime_type=FOLDER,
                    owner=account,
                    created_at=now,
                    modified_at=now,
                    modified_by=account,
                    permissions=(owner,),
                    space=space,
                    is_root=True,
                )
            )

    def permission_id(self, address: str) -> str:
        """Return the id under which an account stands in permissions: twenty digits, as Google's have."""
        return f"{int.from_bytes(hashlib.sha256(address.casefold().encode()).digest()[:8]):020d}"

    # Listings

    def settle(self) -> int:
        """Bring the listed view to where it is at this moment; return the newest change that it shows."""
        with self.lock:
            horizon = self.now_ms() - self._listing_lag_s() * 1000
            shown = set()
            while self._pending and self._pending[0][0] <= horizon:
                at, change_id, file_id, record = self._pending.popleft()
                self._waiting[file_id] -= 1
                if not self._waiting[file_id]:
                    del self._waiting[file_id]
                self._shown.append((at, change_id, file_id, self.listed.files.get(file_id)))
                if record is not None:
                    self.listed.put(record)
                elif file_id:
                    self.listed.remove(file_id)
                self._visible_change = change_id
                shown.add((change_id, file_id))
            if shown and self._is_lagging:
                self._forget_lag(shown)
            return self._visible_change

    def listing(self, stale_s: float = 0.0) -> tuple[View, int]:
        """Return what listings show, and the newest change in it.

        Args:
            stale_s: as they were so many seconds ago; as far back as this process remembers.
        """
        with self.lock:
            newest = self.settle()
            horizon = self.now_ms() - stale_s * 1000
            if stale_s <= 0 or not self._shown or self._shown[-1][0] <= horizon:
                return self.listed, newest
            view = View()
            view.files = dict(self.listed.files)
            view.children = {folder: dict(inside) for folder, inside in self.listed.children.items()}
            for at, change_id, file_id, before in reversed(self._shown):
                if at <= horizon:
                    break
                newest = change_id - 1
                if before is not None:
                    view.put(before)
                else:
                    view.remove(file_id)
            return view, newest

    def _forget_lag(self, shown: set[tuple[int, str]]) -> None:
        with self.writing():
            for change_id, file_id in shown:
                self._db.execute(
                    "DELETE FROM record WHERE kind = 'pending' AND id = ?", (_change_name(change_id),)
                )
                if self._waiting[file_id]:
                    self._write("listed", file_id, to_json(self.listed.files.get(file_id)))
                else:
                    self._db.execute("DELETE FROM record WHERE kind = 'listed' AND id = ?", (file_id,))
        self._is_lagging = bool(self._pending)

    def _announce(
        self,
        file_id: str,
        record: FileRecord | None,
        *,
        drive_id: str,
        is_drive: bool = False,
        audience: tuple[str, ...] = (),
    ) -> None:
        change = ChangeRecord(
            id=len(self.changes) + 1,
            at=self.now_ms(),
            file_id=file_id,
            drive_id=drive_id,
            is_drive=is_drive,
            is_removed=record is None and not is_drive,
            audience=audience,
        )
        self.changes.append(change)
        name = _change_name(change.id)
        self._write("change", name, to_json(change))
        if self._listing_lag_s() > 0 or self._is_lagging:
            # What listings still show, so that an emulator which is killed now shows it again.
            self._is_lagging = True
            self._write("pending", name, None if record is None else to_json(record))
            if not self._waiting[file_id]:
                self._write("listed", file_id, to_json(self.listed.files.get(file_id)))
        self._pending.append((change.at, change.id, file_id, record))
        self._waiting[file_id] += 1
        self.settle()

    # Loading

    def _load(self) -> None:
        pending: dict[int, Any] = {}
        listed: dict[str, Any] = {}
        for kind, name, body in self._db.execute("SELECT kind, id, body FROM record ORDER BY kind, id"):
            if kind == "file":
                record = file_from_json(json.loads(body))
                self.current.put(record)
                self._account_for(None, record)
            elif kind == "gone":
                self.gone.add(name)
            elif kind == "drive":
                self.drives[name] = drive_from_json(json.loads(body))
            elif kind == "change":
                self.changes.append(change_from_json(json.loads(body)))
            elif kind == "pending":
                pending[int(name)] = json.loads(body)
            elif kind == "listed":
                listed[name] = json.loads(body)
        for record in self.current.files.values():
            self.listed.put(record)
        self._put_back(listed, pending)
        named = {revision.blob for record in self.current.files.values() for revision in record.revisions}
        self.blobs.sweep(named)

    def _put_back(self, listed: dict[str, Any], pending: dict[int, Any]) -> None:
        """Show what listings showed before the process ended."""
        for file_id, body in listed.items():
            if body is None:
                self.listed.remove(file_id)
            else:
                self.listed.put(file_from_json(body))
        for change in self.changes:
            if change.id in pending:
                body = pending[change.id]
                record = None if body is None else file_from_json(body)
                self._pending.append((change.at, change.id, change.file_id, record))
                self._waiting[change.file_id] += 1
            else:
                self._visible_change = change.id
        self._is_lagging = bool(pending)

    # Accounting

    def _account_for(self, before: FileRecord | None, after: FileRecord | None) -> None:
        for record, sign in ((before, -1), (after, 1)):
            if record is not None and record.owner:
                self.usage[record.owner] = self.usage.get(record.owner, 0) + sign * record.quota_bytes

    def _purged(self, record: FileRecord) -> tuple[Any, ...]:
        extra = sum(not revision.is_pinned for revision in record.revisions[:-1]) - REVISIONS_KEPT
        if extra <= 0:
            return record.revisions
        kept = []
        for revision in record.revisions:
            if extra > 0 and not revision.is_pinned:
                extra -= 1
            else:
                kept.append(revision)
        return tuple(kept)

    def _doom_blobs(self, before: FileRecord, after: FileRecord | None) -> None:
        kept = {revision.blob for revision in after.revisions} if after is not None else set()
        for revision in before.revisions:
            if revision.blob not in kept:
                self._doomed.append(revision.blob)

    def _write(self, kind: str, name: str, body: Any) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO record VALUES (?, ?, ?)",
            (kind, name, json.dumps(body, separators=(",", ":"))),
        )


class _Transaction:
    def __init__(self, state: State) -> None:
        self._state = state

    def __enter__(self) -> None:
        self._state.begin()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._state.end(keep=kind is None)


def _change_name(change_id: int) -> str:
    return f"{change_id:016d}"
