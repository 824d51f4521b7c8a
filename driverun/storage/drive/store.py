"""A root in a folder of Google Drive."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from driverun.clock import Clock
from driverun.errors import IntegrityError, ObjectExists, ObjectNotFound, StoreAccessDenied
from driverun.storage.base import FolderNews, ObjectInfo, People
from driverun.storage.drive.client import DriveClient, NewFile
from driverun.storage.drive.downloads import fetch
from driverun.storage.drive.errors import DriveRefusal, Kind, answer_of, store_errors, verdict
from driverun.storage.drive.localfiles import LocalBytes, local_faults, part_of
from driverun.storage.drive.remote import RemoteFile
from driverun.storage.drive.servertime import ServerTime
from driverun.storage.drive.tree import Entry, NameTaken, RemoteTree
from driverun.storage.drive.uploads import SMALL_BYTES, SessionLost, UploadSession
from driverun.storage.names import portable_path

#: For how long a listing by folder may miss what was created. Seconds are usual; minutes have been seen, but with
#: searches by name (kopia/kopia#90, bellingcat/auto-archiver#191). Should it be longer, two workers do one run.
LISTING_LAG_S = 10.0
LOOK_AGAIN_S = 30.0  #: a creation believes what is known of its folder for so long
CLOCK_AGE_S = 600.0  #: for how long Drive's clock is carried on without hearing of it
_LOOKS_AT_A_CHANGING_FILE = 5

#: Which file of which state a session was opened for: bytes by digest, files by what the filesystem says.
_Fingerprint = tuple[object, ...]


@dataclass(slots=True)
class _Pending:
    """A creation or replacement whose outcome is not known yet, so that calling again takes it up."""

    file_id: str
    fingerprint: _Fingerprint
    session: UploadSession | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """Bytes to be sent, of which a large file is never in memory as a whole."""

    file: LocalBytes
    size_bytes: int
    fingerprint: _Fingerprint

    @property
    def is_small(self) -> bool:
        return self.size_bytes <= SMALL_BYTES

    def whole(self) -> bytes:
        self.file.seek(0)
        return self.file.read()

    def is_in(self, stored: RemoteFile) -> bool:
        """Does `stored` hold exactly these bytes, by its checksum?"""
        if stored.size_bytes != self.size_bytes:
            return False
        self.file.seek(0)
        if stored.sha256 is not None:
            return hashlib.file_digest(self.file, "sha256").hexdigest() == stored.sha256
        return _file_md5(self.file) == stored.md5


class DriveStore:
    """An ObjectStore in a folder of Google Drive, which many threads and machines may use at once.

    Two who create one path at the same instant both succeed, since Drive permits equal names; the older one is then
    the object of that path, to every reader. The `content` and the `target` on this machine fail as OSErrors.

    Properties are kept as public ones: at most 30, each with at most 124 bytes of key and value.
    """

    def __init__(
        self,
        client: DriveClient,
        root: RemoteFile,
        *,
        location: str,
        clock: Clock,
        time: ServerTime,
        listing_lag_s: float = LISTING_LAG_S,
        trusted_authors: frozenset[str] = frozenset(),
    ) -> None:
        """Open the folder `root`; nothing is asked yet.

        Args:
            trusted_authors: accounts whose code may run here beside the owner's, as `People` names them.
            location: what a person calls the root.
            time: Drive's clock, which the client's transport tells of every answer.
            listing_lag_s: what to count on; 0 for a Drive whose listings do not lag.
        """
        self._client = client
        self._location = location
        self._clock = clock
        self._time = time
        self._listing_lag_s = listing_lag_s
        self._root = root
        self._trusted_authors = trusted_authors
        self._tree = RemoteTree(client, root, clock=clock, listing_lag_s=listing_lag_s)
        self._pending: dict[str, _Pending] = {}
        self._pending_turn = threading.Lock()

    @property
    def listing_lag_s(self) -> float:
        """What Drive's lists lag, and by how much more an answer may be old that another thread has asked for."""
        return self._listing_lag_s + self._tree.shared_s

    @property
    def location(self) -> str:
        return self._location

    def people(self) -> People:
        """As the seam says; asks nothing, since Drive tells with each file who changed it, and whether that was us."""
        me, root = self._client.me, self._root
        owner = root.owner.names if root.owner is not None else frozenset()
        return People(owner=owner | me if root.is_own else owner, me=me, trusted=self._trusted_authors)

    def now(self) -> datetime:
        """Drive's clock, by the Date of its answers; carried on by the monotonic clock between them."""
        age_s = self._time.age_s
        if age_s is None or age_s > CLOCK_AGE_S:
            with store_errors("read the time of", "", self._location):
                self._client.start_of_changes()
        return self._time.now()

    def create(
        self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
    ) -> ObjectInfo:
        """As the seam says. Up to SMALL_BYTES it is one request; more goes in pieces, and is taken up after a drop."""
        portable_path(path)
        with _source(content) as source, self._errors("create", path):
            try:
                self._tree.refresh(LOOK_AGAIN_S)
                parent_id = self._tree.make_folders(path.rpartition("/")[0])
            except NameTaken as exc:
                raise self._taken(path, f"{exc.file.title}, a file,") from exc
            pending = self._pending_for(path, source)
            taken = self._tree.in_the_way(path)
            if taken is not None and (pending is None or taken.file_id != pending.file_id):
                raise self._taken(path, _described(taken))
            if pending is None:
                pending = _Pending(file_id=self._client.ids.take(), fingerprint=source.fingerprint)
                self._keep(path, pending)
            new = NewFile(
                file_id=pending.file_id,
                title=path.rpartition("/")[2],
                parent_id=parent_id,
                properties=properties or {},
            )
            created = self._created(path, new, source, pending)
            self._keep(path, None)
            if created.is_trashed:
                self._client.delete(created.file_id)
                self._tree.check_root()
                self._tree.lost(parent_id)
                raise DriveRefusal(Kind.FAILING, "its folder was put into the trash; it is made anew")
            self._tree.saw(created)
            return _info(path, Entry(file=created, content=created))

    def replace(
        self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
    ) -> ObjectInfo:
        with _source(content) as source, self._errors("replace", path):
            entry = self._entry("replace", path)
            if entry.is_shortcut:
                raise DriveRefusal(
                    Kind.DENIED,
                    "it is a shortcut, and driverun writes nothing through shortcuts. Replace it in Drive",
                )
            known = entry.file
            kept = dict(known.properties if properties is None else properties)
            try:
                replaced = self._replaced(path, known, source, kept)
            except DriveRefusal as exc:
                if exc.kind is Kind.ABSENT:
                    self._tree.check_root()
                    self._tree.lost(known.file_id)
                raise
            if replaced.is_trashed:
                self._tree.check_root()
            self._tree.saw(replaced)
            return _info(path, Entry(file=replaced, content=replaced))

    def read(self, path: str) -> bytes:
        portable_path(path)
        with self._errors("read", path):
            entry = self._entry("read", path)
            stored = entry.content
            for _ in range(_LOOKS_AT_A_CHANGING_FILE):
                content = self._content_of(stored)
                if _is_of(io.BytesIO(content), len(content), stored):
                    return content
                stored = self._client.get(stored.file_id)  # it may have been replaced since it was listed
                self._tree.saw(stored)
                if _is_of(io.BytesIO(content), len(content), stored):
                    return content
            raise DriveRefusal(Kind.LOST, "other bytes arrive than Drive holds")

    def download(self, path: str, target: Path) -> ObjectInfo:
        portable_path(path)
        with self._errors("download", path), part_of(target) as (part, file):
            entry = self._entry("download", path)
            if not self._fetched(entry.content, file):
                fresh = self._fresh(path)
                is_same = _identity(fresh.content) == _identity(entry.content)
                entry = fresh
                if not self._fetched(entry.content, file):
                    why = "other bytes arrived than Drive promises" if is_same else "it changes as it is read"
                    raise IntegrityError(
                        f"cannot download {path} from {self._location}: {why}. Nothing was kept of them; "
                        "try again, and if it stays so, upload the file anew."
                    )
            file.flush()
            part.replace(target)
            return _info(path, entry)

    def stat(self, path: str) -> ObjectInfo:
        portable_path(path)
        with self._errors("look at", path):
            return _info(path, self._fresh(path))

    def list(self, folder: str, *, recursive: bool = False, prefix: str = "") -> list[ObjectInfo]:
        """As the seam says. A folder that was listed before costs one request, which brings all others up to date.

        What lies in folders of equal names is there once, the oldest of each name. What no path can name, Google's
        documents and shortcuts that lead nowhere are left out, with a warning.
        """
        if folder:
            portable_path(folder)
        with self._errors("list", folder):
            entries = self._tree.entries(folder, recursive=recursive, prefix=prefix)
        return sorted((_info(path, entry) for path, entry in entries), key=lambda info: info.path)

    def news(self, folder: str, since: object = None) -> FolderNews:
        """As the seam says, from the feed of changes: one request, however much is in the folder."""
        if folder:
            portable_path(folder)
        with self._errors("list", folder):
            news = self._tree.news(folder, since)
        return FolderNews(
            changed=[_info(path, entry) for path, entry in news.changed],
            gone=frozenset(news.gone),
            is_whole=news.is_whole,
            mark=news.mark,
        )

    def delete(self, path: str) -> None:
        """As the seam says, with all files of that path; of a shortcut, not what it leads to."""
        portable_path(path)
        with self._errors("delete", path):
            for entry in self._tree.find_all(path):
                if entry.content.is_google_document:
                    continue
                self._client.delete(entry.file.file_id)
                self._tree.lost(entry.file.file_id, for_good=True)

    def ensure_folder(self, path: str) -> None:
        portable_path(path)
        with self._errors("make", path):
            try:
                self._tree.make_folders(path)
            except NameTaken as exc:
                raise self._taken(path, f"{exc.file.title}, a file,") from exc

    def open_link(self, file_id: str, *, resource_key: str | None = None) -> LinkedFile | LinkedFolder:
        """What has this id, in the root or not, as driverun.storage.links says; a shortcut is followed."""
        if resource_key is not None:
            self._client.transport.resource_keys[file_id] = resource_key
        with self._errors("open", file_id):
            found = self._client.get(file_id)
            if found.target_id is not None:
                found = self._client.get(found.target_id)
        location = f"gdrive://{found.file_id}"
        if found.is_google_document:
            raise _no_bytes("open", f"{found.title} ({location})", file_id)
        if not found.is_folder:
            return LinkedFile(self, found)
        folder = DriveStore(
            self._client,
            found,
            location=location,
            clock=self._clock,
            time=self._time,
            listing_lag_s=self._listing_lag_s,
        )
        return LinkedFolder(folder, found.title)

    def download_file(self, file: RemoteFile, path: str, target: Path) -> ObjectInfo:
        """Download one file that was found by its id; `path` is what it is called in errors and in the answer."""
        with self._errors("download", path), part_of(target) as (part, local):
            for _ in range(2):
                if self._fetched(file, local):
                    local.flush()
                    part.replace(target)
                    return _info(path, Entry(file=file, content=file))
                file = self._client.get(file.file_id)
            raise IntegrityError(
                f"cannot download {path} from Drive: other bytes arrived than it promises. Nothing was kept of them; "
                "try again, and if it stays so, ask whoever shares it."
            )

    @contextlib.contextmanager
    def _errors(self, action: str, path: str) -> Iterator[None]:
        with local_faults(), store_errors(action, path, self._location):
            yield

    def _taken(self, path: str, what: str) -> ObjectExists:
        return ObjectExists(
            f"cannot create {path} in {self._location}: {what} is there already; nothing was changed",
            path=path,
        )

    def _entry(self, action: str, path: str) -> Entry:
        """What lies at `path`, from memory where it is known.

        Raises:
            ObjectNotFound: nothing does, after every place was asked that could know.
            StoreAccessDenied: a Google document does.
        """
        portable_path(path)
        entry = self._tree.known(path) or self._tree.find(path)
        if entry is None:
            raise ObjectNotFound(f"cannot {action} {path} in {self._location}: nothing is there", path=path)
        if entry.content.is_google_document:
            raise _no_bytes(action, f"{path} in {self._location}", path)
        return entry

    def _fresh(self, path: str) -> Entry:
        """What lies at `path` by Drive's own word of this moment."""
        for _ in range(2):
            entry = self._entry("look at", path)
            try:
                self._tree.saw(self._client.get(entry.content.file_id))
            except DriveRefusal as exc:
                if exc.kind is not Kind.ABSENT:
                    raise
                self._tree.lost(entry.content.file_id)
                continue
            now = self._tree.known(path)
            if now is not None and now.content.file_id == entry.content.file_id:
                return now
        raise ObjectNotFound(f"cannot look at {path} in {self._location}: nothing is there", path=path)

    def _content_of(self, stored: RemoteFile) -> bytes:
        address = self._client.media_address(stored.file_id)
        answer, content = self._client.transport.request(address, headers={"accept-encoding": "identity"})
        if answer.status == 200:
            return content
        refusal = verdict(answer_of(answer, content))
        if refusal.kind is Kind.ABSENT:
            self._tree.lost(stored.file_id)
        raise refusal

    def _fetched(self, stored: RemoteFile, file: io.BufferedRandom) -> bool:
        """Fetch the bytes of `stored` into `file`; False if what arrived is not what was promised."""
        file.truncate(0)
        # Not for security: md5 is the only checksum that Drive has of what was uploaded long ago.
        digest = hashlib.sha256() if stored.sha256 is not None else hashlib.md5(usedforsecurity=False)
        try:
            address = self._client.media_address(stored.file_id)
            fetch(self._client.transport, address, stored.size_bytes or 0, file, digest)
        except DriveRefusal as exc:
            if exc.kind is Kind.ABSENT:
                self._tree.lost(stored.file_id)
            if exc.kind is not Kind.CHANGED:
                raise
            return False
        return digest.hexdigest() == (stored.sha256 or stored.md5 or digest.hexdigest())

    def _created(self, path: str, new: NewFile, source: _Source, pending: _Pending) -> RemoteFile:
        try:
            if source.is_small:
                return self._client.create(new, source.whole())
            return self._sent(pending, source, lambda: self._client.open_creation(new, source.size_bytes))
        except DriveRefusal as exc:
            if exc.kind is Kind.ABSENT:
                self._tree.check_root()
                self._tree.lost(new.parent_id)
                raise DriveRefusal(
                    Kind.FAILING, "the folder it belongs into is gone, or not to be seen yet"
                ) from exc
            if exc.kind is not Kind.EXISTS:
                raise
        # An earlier call of ours came through, and its answer was lost.
        try:
            existing = self._client.get(new.file_id)
        except DriveRefusal as missing:
            if missing.kind is Kind.ABSENT:  # deleted since, so the id is of no more use
                self._keep(path, None)
                raise DriveRefusal(Kind.FAILING, "what an earlier try created is gone again") from missing
            raise
        if not source.is_in(existing):
            self._keep(path, None)
            self._tree.saw(existing)
            raise self._taken(path, "an earlier try of other content")
        return existing

    def _replaced(
        self, path: str, known: RemoteFile, source: _Source, properties: Mapping[str, str]
    ) -> RemoteFile:
        if source.is_small:
            return self._client.replace(known, source.whole(), properties)
        pending = self._pending_for(path, source)
        if pending is None or pending.file_id != known.file_id:
            pending = _Pending(file_id=known.file_id, fingerprint=source.fingerprint)
            self._keep(path, pending)
        replaced = self._sent(
            pending, source, lambda: self._client.open_replacement(known, source.size_bytes, properties)
        )
        self._keep(path, None)
        return replaced

    def _sent(self, pending: _Pending, source: _Source, open_session: Callable[[], str]) -> RemoteFile:
        """Send a large file, on the session of an earlier call where there is one that still stands."""
        for _ in range(2):
            if pending.session is None:
                pending.session = UploadSession(self._client.transport, open_session(), source.size_bytes)
            try:
                return self._client.uploaded(pending.session.send(source.file))
            except SessionLost:
                pending.session = None
        raise DriveRefusal(Kind.FAILING, "Drive dropped the upload twice")

    def _pending_for(self, path: str, source: _Source) -> _Pending | None:
        """What an earlier call left for `path`; its session only if it was for these very bytes."""
        with self._pending_turn:
            pending = self._pending.get(path)
            if pending is not None and pending.fingerprint != source.fingerprint:
                pending.session = None
                pending.fingerprint = source.fingerprint
            return pending

    def _keep(self, path: str, pending: _Pending | None) -> None:
        with self._pending_turn:
            if pending is None:
                self._pending.pop(path, None)
            else:
                self._pending[path] = pending


class LinkedFile:
    """One file, by its id; its path is its name."""

    is_folder = False

    def __init__(self, store: DriveStore, file: RemoteFile) -> None:
        self._store = store
        self._file = file

    @property
    def location(self) -> str:
        return f"gdrive://{self._file.file_id}"

    @property
    def name(self) -> str:
        return self._file.title

    def list(self) -> list[ObjectInfo]:
        return [_info(self._file.title, Entry(file=self._file, content=self._file))]

    def download(self, path: str, target: Path) -> ObjectInfo:
        if path != self.name:
            raise ObjectNotFound(f"cannot download {path} from {self.location}: it is {self.name}", path=path)
        return self._store.download_file(self._file, path, target)


class LinkedFolder:
    """A folder, by its id, with all that is beneath; only read."""

    is_folder = True

    def __init__(self, store: DriveStore, name: str) -> None:
        self._store = store
        self.name = name

    @property
    def location(self) -> str:
        return self._store.location

    def list(self) -> list[ObjectInfo]:
        return self._store.list("", recursive=True)

    def download(self, path: str, target: Path) -> ObjectInfo:
        return self._store.download(path, target)


@contextlib.contextmanager
def _source(content: bytes | Path) -> Iterator[_Source]:
    """`content`, open. Raises OSError if it is a file that cannot be read."""
    if isinstance(content, bytes):
        digest = hashlib.sha256(content).digest() if len(content) > SMALL_BYTES else b""
        yield _Source(file=io.BytesIO(content), size_bytes=len(content), fingerprint=(len(content), digest))
        return
    with content.open("rb") as file:
        status = os.fstat(file.fileno())
        fingerprint = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        yield _Source(file=file, size_bytes=status.st_size, fingerprint=fingerprint)


def _no_bytes(action: str, what: str, path: str) -> StoreAccessDenied:
    return StoreAccessDenied(
        f"cannot {action} {what}: it is a Google document, which has no bytes of its own. Open it in Drive, choose "
        "File > Download, and upload what you get.",
        path=path,
    )


def _info(path: str, entry: Entry) -> ObjectInfo:
    content = entry.content
    return ObjectInfo(
        path=path,
        object_id=entry.file.file_id,
        size_bytes=content.size_bytes or 0,
        created_at=content.created_at,
        modified_at=content.modified_at,
        sha256=content.sha256,
        properties=content.properties,
        author=_author(entry),
    )


def _author(entry: Entry) -> str | None:
    """Who answers for what is read there: of a shortcut, whoever made it too."""
    if entry.file is entry.content:
        return entry.file.author.name if entry.file.author is not None else None
    names = {each.author.name if each.author is not None else None for each in (entry.file, entry.content)}
    if None in names:
        return None
    return " and ".join(sorted(name for name in names if name is not None))


def _is_of(file: LocalBytes, size_bytes: int, stored: RemoteFile) -> bool:
    """Are the bytes of `file`, from where it stands, those that Drive promises?"""
    if stored.size_bytes is not None and size_bytes != stored.size_bytes:
        return False
    if stored.sha256 is not None:
        return hashlib.file_digest(file, "sha256").hexdigest() == stored.sha256
    return stored.md5 is None or _file_md5(file) == stored.md5


def _file_md5(file: LocalBytes) -> str:
    # Not for security: it is the only checksum that Drive has of what was uploaded long ago.
    return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _identity(stored: RemoteFile) -> tuple[object, ...]:
    return stored.file_id, stored.size_bytes, stored.sha256, stored.md5


def _described(file: RemoteFile) -> str:
    if file.is_folder:
        return "a folder"
    if file.is_google_document:
        return "a Google document"
    return "a shortcut" if file.is_shortcut else "a file"
