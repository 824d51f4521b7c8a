"""Which file a path means: what is known of the folders beneath a root, kept fresh by the feed of changes.

Drive has no paths, and its listings and searches lag behind. So a folder is listed once and remembered by ids;
from then on one request, the feed of changes, tells what happened in all of them; and now and then a listing is
repeated, in case it had missed something that is older than the feed. What this process did itself it knows at once.
"""

from __future__ import annotations

import bisect
import itertools
import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from driverun.clock import Clock
from driverun.errors import UnsafePath
from driverun.storage.drive.client import FOLDERS_A_QUERY, PAGE, DriveClient
from driverun.storage.drive.errors import DriveRefusal, Kind
from driverun.storage.drive.remote import FOLDER, RemoteFile, name_key
from driverun.storage.names import portable_path
from driverun.values import frozen_value

RELIST_S = 600.0  #: after this, a folder is listed anew in place of a poll
RELIST_SHARED_S = 60.0  #: in what others own, whose changes the feed may leave out
TRUSTED_S = 5.0  #: for how long after a poll a folder that was not seen is taken to be missing
LATE_AT_MOST = timedelta(hours=1)  #: a listing shows what was created so long before it
_PAGES_A_POLL = 5  # of changes; beyond that a busy account is cheaper to list anew
_VERIFIED_A_LISTING = 20  # files that a listing leaves out, looked up by id

_ROOT_IS_LOST = (
    "the root's folder is in the trash, or not shared with this account any more. Take it out of the trash in Drive, or"
    " have it shared again; all goes on then, and nothing that was committed is lost"
)

_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}")  #: names about which there is no question

_log = logging.getLogger(__name__)


@frozen_value(frozen=True, slots=True, kw_only=True)
class Entry:
    """What lies under a name."""

    file: RemoteFile  #: what lies in the folder
    content: RemoteFile  #: what is read: the file itself, or what the shortcut leads to

    @property
    def is_shortcut(self) -> bool:
        return self.file.is_shortcut


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderRef:
    """One folder that a path leads to."""

    folder_id: str
    is_elsewhere: bool  #: it was reached through a shortcut, so it is only read


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeNews:
    """What became of the files of a folder, as FolderNews has it."""

    changed: list[tuple[str, Entry]]
    gone: list[str]
    is_whole: bool
    mark: object


@dataclass(frozen=True, slots=True)
class _Mark:
    """How far somebody has heard of a folder: of each listing that it is made of, up to which event."""

    heard: tuple[tuple[_Listing, int], ...]


@dataclass(slots=True, eq=False)
class _Listing:
    """What is known to lie in a folder, all of it."""

    relist_s: float  #: monotonic; when it is due to be listed anew
    ids: set[str] = field(default_factory=set)
    by_name: dict[str, tuple[str, ...]] = field(default_factory=dict)  #: nearly always one
    shortcuts: set[str] = field(default_factory=set)
    pages: int = 1  #: requests that it takes to list it; the more there are, the more seldom that is done
    #: When it was listed first, by Drive's clock, if it is large, and what is older than the feed may have been
    #: invisible then. None once that was seen to.
    unsettled_at: datetime | None = None
    events: int = 0
    #: The titles to which something happened, with the number of the newest event; the newest come last.
    touched: dict[str, int] = field(default_factory=dict)
    _in_order: list[str] | None = None  # the keys of `by_name`, once somebody has asked for a prefix

    def add(self, file: RemoteFile) -> None:
        self._touch(file)
        self.ids.add(file.file_id)
        if file.is_shortcut:
            self.shortcuts.add(file.file_id)
        key = name_key(file.title)
        alike = self.by_name.get(key, ())
        if not alike and self._in_order is not None:
            bisect.insort(self._in_order, key)
        if file.file_id not in alike:
            self.by_name[key] = (*alike, file.file_id)

    def remove(self, file: RemoteFile) -> None:
        self._touch(file)
        self.ids.discard(file.file_id)
        self.shortcuts.discard(file.file_id)
        key = name_key(file.title)
        left = tuple(each for each in self.by_name.get(key, ()) if each != file.file_id)
        if left:
            self.by_name[key] = left
        elif self.by_name.pop(key, None) is not None and self._in_order is not None:
            del self._in_order[bisect.bisect_left(self._in_order, key)]

    def ids_beginning(self, prefix: str) -> list[str]:
        """Of the files whose names begin so."""
        if self._in_order is None:
            self._in_order = sorted(self.by_name)
        begin = name_key(prefix)
        found: list[str] = []
        for key in itertools.islice(self._in_order, bisect.bisect_left(self._in_order, begin), None):
            if not key.startswith(begin):
                break
            found += self.by_name[key]
        return found

    def titles_since(self, event: int) -> list[str]:
        """To which something happened after that event."""
        found = []
        for title in reversed(self.touched):
            if self.touched[title] <= event:
                break
            found.append(title)
        return found

    def _touch(self, file: RemoteFile) -> None:
        self.events += 1
        self.touched.pop(file.title, None)
        self.touched[file.title] = self.events


class NameTaken(Exception):
    """Something else lies where a folder is wanted."""

    def __init__(self, file: RemoteFile) -> None:
        super().__init__(file.title)
        self.file = file


class RemoteTree:
    """The folders beneath a root. Threads share it; requests about structure are made one after the other."""

    def __init__(self, client: DriveClient, root: RemoteFile, *, clock: Clock, listing_lag_s: float) -> None:
        self._client = client
        self._root_id = root.file_id
        self._clock = clock
        self._lag_s = listing_lag_s
        #: A caller that asks twice within this time gets one poll; what it is shown lags by that much more.
        self.shared_s = min(1.0, listing_lag_s / 10)
        self._relist_s = RELIST_S if root.is_own or root.drive_id else RELIST_SHARED_S
        self._turn = (
            threading.RLock()
        )  # held while Drive is asked about structure, so for as long as that takes
        self._state = threading.RLock()  # held while what is known is read or changed, never during a request
        self._page_token: str | None = None
        self._polled_s = float("-inf")
        self._files: dict[str, RemoteFile] = {}
        self._listings: dict[str, _Listing] = {}
        self._targets: dict[str, RemoteFile | None] = {}  # of shortcuts; None: out of reach
        self._gone: set[str] = set()  # deleted by this process
        self._new_folders: dict[tuple[str, str], str] = {}  # ids of folders whose creation may have happened
        self._told: set[str] = set()
        self._root_is_lost = False  #: it was in the trash, or out of reach, when it was last heard of
        self._makes_from_s = float(
            "-inf"
        )  #: until then a listing may miss what the root held before it was lost

    def known(self, path: str) -> Entry | None:
        """The oldest file at `path`, by what is known; unknown folders are listed, nothing else is asked.

        What is known wholly does not wait for a listing of another thread that hangs: a heartbeat must not.
        """
        if (entry := self._remembered(path)) is not None:
            return entry
        with self._turn:
            return next(iter(self._at(path)), None)

    def find(self, path: str) -> Entry | None:
        """The oldest file at `path`; None if neither what is known, nor the changes, nor a listing has it."""
        return next(iter(self.find_all(path)), None)

    def find_all(self, path: str) -> list[Entry]:
        """All files of that path, the oldest first."""
        with self._turn:
            self._begin()
            listed_before = set(self._listings)
            if found := self._at(path):
                return found
            self._poll(0.0)
            if found := self._at(path):
                return found
            folders = self._deepest(path)
            if not listed_before.issuperset(each.folder_id for each in folders):
                return []  # listed in this very call, before the poll: that is two looks
            self._list([each.folder_id for each in folders])
            return self._at(path)

    def in_the_way(self, path: str) -> RemoteFile | None:
        """What has the name of `path`, of whatever type; None if by all that is known nothing has."""
        parent, _, name = path.rpartition("/")
        with self._turn:
            self._begin()
            folders = self._folders(parent)
            self._ensure_listed(folders)
            alike = self._named(folders, name)
            return min(alike, key=lambda file: file.age_rank) if alike else None

    def entries(self, folder: str, *, recursive: bool, prefix: str = "") -> list[tuple[str, Entry]]:
        """The files in the folder, with their paths. One request where the folders are known already.

        Args:
            prefix: of what is wanted, below the folder.
        """
        with self._turn:
            self._hear(folder, recursive=recursive)
            if prefix and not recursive:
                refs = self._folders(folder)
                self._ensure_listed(refs)
                return self._gathered(folder, refs, lambda listing: listing.ids_beginning(prefix), prefix)
            found: list[tuple[str, Entry]] = []
            wanted = f"{folder}/{prefix}" if folder else prefix
            level = [(folder, self._folders(folder), frozenset[str]())]
            while level:
                self._ensure_listed([ref for _, refs, _ in level for ref in refs])
                level = [
                    below
                    for top, refs, above in level
                    for below in self._collect(top, refs, above, found, recursive=recursive)
                ]
            return [each for each in found if each[0].startswith(wanted)] if prefix else found

    def news(self, folder: str, since: object) -> TreeNews:
        """What became of the files of the folder since the look that gave the mark `since`."""
        with self._turn:
            self._hear(folder, recursive=False)
            refs = self._folders(folder)
            self._ensure_listed(refs)
            with self._state:
                listings = [self._listings[ref.folder_id] for ref in refs if ref.folder_id in self._listings]
                mark = _Mark(tuple((listing, listing.events) for listing in listings))
                heard = dict(since.heard) if isinstance(since, _Mark) else {}
                # What happens to the target of a shortcut is no event of the folder that it lies in.
                is_whole = (
                    not isinstance(since, _Mark)
                    or heard.keys() != set(listings)
                    or any(listing.shortcuts for listing in listings)
                )
                titles = set[str]()
                for listing in () if is_whole else listings:
                    titles.update(listing.titles_since(heard[listing]))
            if is_whole:
                every = self._gathered(folder, refs, lambda listing: listing.ids)
                return TreeNews(changed=every, gone=[], is_whole=True, mark=mark)
            keys = {name_key(title) for title in titles}
            changed = self._gathered(
                folder, refs, lambda listing: [i for key in keys for i in listing.by_name.get(key, ())]
            )
            start = f"{folder}/" if folder else ""
            gone = {f"{start}{title}" for title in titles} - {path for path, _ in changed}
            return TreeNews(changed=changed, gone=sorted(gone), is_whole=False, mark=mark)

    def _hear(self, folder: str, *, recursive: bool) -> None:
        """Bring what is known of the folder up to date: a poll of the changes, or a listing that is due."""
        if self._begin() or (self._relist_due(folder, recursive=recursive) and not recursive):
            return
        if not self._poll(self.shared_s):
            self._relist_due(folder, recursive=recursive)

    def refresh(self, max_age_s: float) -> None:
        """Poll the changes, unless that was done within the last `max_age_s`."""
        with self._turn:
            if not self._begin():
                self._poll(max_age_s)

    def make_folders(self, path: str) -> str:
        """The id of the folder to write into, made where it is missing, with those above it.

        Raises:
            NameTaken: a file has the name of one of the folders.
            DriveRefusal: DENIED, the path leads through a shortcut; or as the client raises.
        """
        with self._turn:
            self._begin()
            current = [FolderRef(folder_id=self._root_id, is_elsewhere=False)]
            for name in path.split("/") if path else ():
                current = self._step(current, name) or self._make(current, name)
            if current[0].is_elsewhere:
                raise DriveRefusal(
                    Kind.DENIED,
                    "a shortcut lies in the way, and driverun writes nothing through shortcuts. Put a folder there",
                )
            return current[0].folder_id

    def check_root(self) -> None:
        """See to it that the root's folder is there; one request.

        Raises:
            DriveRefusal: DENIED, it is in the trash or out of this account's sight, for now.
        """
        try:
            self._client.get(self._root_id)
        except DriveRefusal as exc:
            if exc.kind not in (Kind.ABSENT, Kind.DENIED):
                raise
            self._root_is_lost = True
            raise DriveRefusal(Kind.DENIED, _ROOT_IS_LOST) from exc
        if self._root_is_lost:
            with self._state:
                back_s = self._clock.monotonic() + self._lag_s
                self._root_is_lost = False
                self._makes_from_s = back_s
                for listing in self._listings.values():
                    listing.relist_s = min(listing.relist_s, back_s)

    def saw(self, file: RemoteFile) -> None:
        """Take note of what Drive has just said of a file."""
        self._apply(file)

    def lost(self, file_id: str, *, for_good: bool = False) -> None:
        """Take note that there is no such file or folder any more.

        Args:
            for_good: this process deleted it; listings that lag behind do not bring it back.
        """
        with self._state:
            if for_good:
                self._gone.add(file_id)
            self._drop(file_id)

    def content_of(self, file: RemoteFile) -> RemoteFile | None:
        """`file`, or what it leads to if it is a shortcut; None if that is out of reach."""
        if not file.is_shortcut or file.target_id is None:
            return None if file.is_shortcut else file
        if file.target_id not in self._targets:
            try:
                self._targets[file.target_id] = self._client.get(file.target_id)
            except DriveRefusal as exc:
                if exc.kind not in (Kind.ABSENT, Kind.DENIED):
                    raise
                self._tell(f"{file.title} is a shortcut to something that is gone or not shared with you")
                self._targets[file.target_id] = None
        return self._targets[file.target_id]

    # Finding.

    def _remembered(self, path: str) -> Entry | None:
        """The only file at `path`, if all folders on the way are known, and there is one of each."""
        *above, name = path.split("/")
        folder_id = self._root_id
        with self._state:
            for part in [*above, name]:
                if folder_id not in self._listings:
                    return None
                alike = self._named([FolderRef(folder_id=folder_id, is_elsewhere=False)], part)
                if len(alike) != 1 or alike[0].is_shortcut:
                    return None
                folder_id = alike[0].file_id
            [file] = alike
            return None if file.is_folder else Entry(file=file, content=file)

    def _at(self, path: str) -> list[Entry]:
        parent, _, name = path.rpartition("/")
        self._begin()
        folders = self._folders(parent)
        self._ensure_listed(folders)
        found = []
        for file in sorted(self._named(folders, name), key=lambda file: file.age_rank):
            content = None if file.is_folder else self.content_of(file)
            if content is not None and not content.is_folder:
                found.append(Entry(file=file, content=content))
        if len(found) > 1:
            self._tell(f"{path} is there {len(found)} times; the oldest counts")
        return found

    def _folders(self, path: str) -> list[FolderRef]:
        """All folders that the path leads to, the oldest first, those beneath shortcuts last."""
        current = [FolderRef(folder_id=self._root_id, is_elsewhere=False)]
        for name in path.split("/") if path else ():
            current = self._step(current, name)
        return current

    def _deepest(self, path: str) -> list[FolderRef]:
        """The folders that are there of those above `path`."""
        current = [FolderRef(folder_id=self._root_id, is_elsewhere=False)]
        for name in path.split("/")[:-1]:
            below = self._step(current, name)
            if not below:
                break
            current = below
        return current

    def _step(self, folders: Sequence[FolderRef], name: str) -> list[FolderRef]:
        self._ensure_listed(folders)
        elsewhere = {ref.folder_id for ref in folders if ref.is_elsewhere}
        found: dict[str, tuple[bool, RemoteFile]] = {}
        for file in self._named(folders, name):
            folder = self.content_of(file) if file.is_shortcut else file
            if folder is not None and folder.is_folder:
                is_elsewhere = file.is_shortcut or any(parent in elsewhere for parent in file.parents)
                found.setdefault(folder.file_id, (is_elsewhere, folder))
        if len(found) > 1:
            self._tell(
                f"the folder {name} is there {len(found)} times; all are read, the oldest is written to"
            )
        ranked = sorted(found.values(), key=lambda each: (each[0], each[1].age_rank))
        return [
            FolderRef(folder_id=folder.file_id, is_elsewhere=is_elsewhere) for is_elsewhere, folder in ranked
        ]

    def _named(self, folders: Iterable[FolderRef], name: str) -> list[RemoteFile]:
        """What has the name in these folders: written exactly so, else in another Unicode form."""
        key = name_key(name)
        with self._state:
            alike = [
                self._files[file_id]
                for ref in folders
                if ref.folder_id in self._listings
                for file_id in self._listings[ref.folder_id].by_name.get(key, ())
            ]
        return [file for file in alike if file.title == name] or alike

    def _collect(
        self,
        prefix: str,
        refs: Sequence[FolderRef],
        above: frozenset[str],
        found: list[tuple[str, Entry]],
        *,
        recursive: bool,
    ) -> Iterator[tuple[str, list[FolderRef], frozenset[str]]]:
        """Add the files of one folder to `found`; yields the folders beneath, where they are wanted."""
        by_name: dict[str, Entry] = {}
        beneath: dict[str, list[FolderRef]] = {}
        above = above | {ref.folder_id for ref in refs}
        for ref in refs:
            for file in self._in(ref):
                entry = self._entry_of(file, with_folders=recursive)
                if entry is None:
                    continue
                if entry.content.is_folder:
                    if entry.content.file_id not in above:  # a shortcut to a folder above it would never end
                        is_elsewhere = ref.is_elsewhere or file.is_shortcut
                        beneath.setdefault(file.title, []).append(
                            FolderRef(folder_id=entry.content.file_id, is_elsewhere=is_elsewhere)
                        )
                else:
                    _keep_oldest(by_name, entry)
        start = f"{prefix}/" if prefix else ""
        found += [(f"{start}{name}", entry) for name, entry in by_name.items()]
        if recursive:
            for name, folders in beneath.items():
                yield f"{start}{name}", folders, above

    def _gathered(
        self,
        folder: str,
        refs: Sequence[FolderRef],
        which: Callable[[_Listing], Iterable[str]],
        prefix: str = "",
    ) -> list[tuple[str, Entry]]:
        """Those files of one folder whose ids `which` takes from its listings, and whose names begin so."""
        by_name: dict[str, Entry] = {}
        for ref in refs:
            for file in self._in(ref, which):
                entry = self._entry_of(file, with_folders=False)
                if entry is not None and not entry.content.is_folder and file.title.startswith(prefix):
                    _keep_oldest(by_name, entry)
        start = f"{folder}/" if folder else ""
        return [(f"{start}{name}", entry) for name, entry in by_name.items()]

    def _entry_of(self, file: RemoteFile, *, with_folders: bool) -> Entry | None:
        """What a listing shows of the file; None for what no path can name, and what cannot be read."""
        if not self._is_usable(file):
            return None
        content = self.content_of(file) if with_folders or file.target_type != FOLDER else None
        if content is not None and content.is_google_document:
            self._tell(f"{file.title} is a Google document, which has no bytes; it is passed over")
            return None
        return Entry(file=file, content=content) if content is not None else None

    def _in(
        self, ref: FolderRef, which: Callable[[_Listing], Iterable[str]] = lambda listing: listing.ids
    ) -> list[RemoteFile]:
        """What is known to lie in the folder, of that what `which` takes."""
        with self._state:
            listing = self._listings.get(ref.folder_id)
            return [self._files[file_id] for file_id in which(listing)] if listing is not None else []

    def _is_usable(self, file: RemoteFile) -> bool:
        if _PLAIN.fullmatch(file.title):
            return True
        try:
            portable_path(file.title)
        except UnsafePath:
            self._tell(
                f"{file.title!r} has a name that no path can hold; it is passed over. Rename it in Drive"
            )
            return False
        if "/" in file.title:
            self._tell(f"{file.title!r} has a slash in its name; it is passed over. Rename it in Drive")
            return False
        return True

    # Making.

    def _make(self, folders: Sequence[FolderRef], name: str) -> list[FolderRef]:
        """Make the folder in the oldest of `folders`, after a second look. `_step` has found none."""
        asked_s = self._polled_s
        self._poll(TRUSTED_S)
        if self._polled_s != asked_s and (found := self._step(folders, name)):
            return found
        if taken := self._named(folders, name):
            raise NameTaken(taken[0])
        parent = folders[0]
        if parent.is_elsewhere:
            return [parent]  # make_folders refuses it
        if self._clock.monotonic() < self._makes_from_s:
            raise DriveRefusal(
                Kind.FAILING,
                f"the root has just come back, and may hold {name} though no listing shows it yet",
            )
        key = (parent.folder_id, name)
        folder_id = self._new_folders.get(key)
        if folder_id is None:
            folder_id = self._new_folders[key] = self._client.ids.take()
        try:
            folder = self._client.create_folder(folder_id, name, parent.folder_id)
            is_empty = True
        except DriveRefusal as exc:
            if exc.kind is Kind.ABSENT:
                self.check_root()
                self._drop(parent.folder_id)
                raise DriveRefusal(
                    Kind.FAILING, f"the folder for {name} is gone, or not to be seen yet"
                ) from exc
            if exc.kind is not Kind.EXISTS:
                raise
            folder = self._made_before(key, folder_id)
            is_empty = False
        self._new_folders.pop(key, None)
        if folder.is_trashed:
            self._client.delete(folder.file_id)
            self.check_root()
            self._drop(parent.folder_id)
            raise DriveRefusal(Kind.FAILING, f"the folder for {name} was put into the trash; it is made anew")
        if is_empty:
            with self._state:
                self._listings[folder.file_id] = _Listing(relist_s=self._clock.monotonic() + self._relist_s)
        self._apply(folder)
        return [FolderRef(folder_id=folder.file_id, is_elsewhere=False)]

    def _made_before(self, key: tuple[str, str], folder_id: str) -> RemoteFile:
        """The folder that an earlier call made without hearing of it."""
        try:
            return self._client.get(folder_id)
        except DriveRefusal as exc:
            if exc.kind is not Kind.ABSENT:
                raise
            del self._new_folders[key]  # the id is used up
            raise DriveRefusal(Kind.FAILING, "what an earlier try created is gone again") from exc

    # Keeping fresh.

    def _begin(self) -> bool:
        """See to it that the feed has a beginning before anything is listed. True if that was done just now."""
        if self._root_is_lost:
            self.check_root()
        if self._page_token is not None:
            return False
        self._page_token = self._client.start_of_changes()
        self._polled_s = self._clock.monotonic()
        return True

    def _poll(self, max_age_s: float) -> bool:
        """Take over what happened. False if the feed began anew: what came before that only listings can tell."""
        started_s = self._clock.monotonic()
        if max_age_s > 0 and started_s - self._polled_s < max_age_s:
            return True
        assert self._page_token is not None, "the feed has a beginning"
        page_token = self._page_token
        for _ in range(_PAGES_A_POLL):
            try:
                page = self._client.changes(page_token)
            except DriveRefusal as exc:
                if exc.kind not in (Kind.FAULTY, Kind.ABSENT):
                    raise
                _log.warning("the feed of changes begins anew: %s", exc.text)
                break
            for change in page.changes:
                if change.file is not None:
                    self._apply(change.file)
                else:
                    self._drop(change.file_id)
            if page.next_page is None:
                self._page_token = page.next_start or page_token
                self._polled_s = started_s
                return True
            page_token = page.next_page
        self._page_token = self._client.start_of_changes()
        with self._state:
            for listing in self._listings.values():
                listing.relist_s = started_s
        self._polled_s = started_s
        return False

    def _relist_due(self, folder: str, *, recursive: bool) -> bool:
        """List anew what is due of the folder. True if anything was, which is as good as a poll of one folder."""
        now_s = self._clock.monotonic()
        refs = self._folders(folder)
        due = []
        while refs:
            due += [
                ref.folder_id
                for ref in refs
                if ref.folder_id in self._listings and self._listings[ref.folder_id].relist_s <= now_s
            ]
            below = [file for ref in refs if recursive for file in self._in(ref)]
            refs = [FolderRef(folder_id=f.file_id, is_elsewhere=False) for f in below if f.is_folder]
        large = {each: at for each in due if (at := self._listings[each].unsettled_at) is not None}
        for folder_id, listed_at in large.items():
            self._list_what_is_late(folder_id, listed_at)
        if small := [folder_id for folder_id in due if folder_id not in large]:
            self._list(small[:FOLDERS_A_QUERY])
        return bool(due)

    def _list_what_is_late(self, folder_id: str, listed_at: datetime) -> None:
        """List what has come to a large folder since shortly before it was listed first: a page in place of many.

        What was moved there, or has a time of its own because another program synchronised it, has to wait until
        all of the folder is listed again.
        """
        listing = self._listings[folder_id]
        try:
            late = list(self._client.children([folder_id], modified_since=listed_at - LATE_AT_MOST))
        except DriveRefusal as exc:
            if exc.kind is not Kind.ABSENT:
                raise
            self._list([folder_id])  # it finds out what has become of the folder
            return
        for file in late:
            self._apply(file)
        listing.unsettled_at = None
        listing.relist_s = self._clock.monotonic() + self._relist_s * listing.pages

    def _ensure_listed(self, folders: Iterable[FolderRef]) -> None:
        missing = [ref.folder_id for ref in folders if ref.folder_id not in self._listings]
        for start in range(0, len(missing), FOLDERS_A_QUERY):
            self._list(missing[start : start + FOLDERS_A_QUERY])

    def _list(self, folder_ids: Sequence[str]) -> None:
        """List these folders, and take over what is new; what a known folder's listing leaves out is looked up."""
        folder_ids = list(dict.fromkeys(folder_ids))
        now_s, now = self._clock.monotonic(), self._client.now()
        try:
            found = list(self._client.children(folder_ids))
        except DriveRefusal as exc:
            if exc.kind is not Kind.ABSENT:
                raise
            if len(folder_ids) == 1:
                if folder_ids[0] == self._root_id:
                    self._root_is_lost = True
                    raise DriveRefusal(Kind.DENIED, _ROOT_IS_LOST) from exc
                self._drop(folder_ids[0])
                return
            found = []
        if not found and len(folder_ids) > 1:
            # Drive has been seen to answer a query about many folders with nothing at all (rclone does the same).
            for folder_id in folder_ids:
                self._list([folder_id])
            return
        missed: list[str] = []
        new = [folder_id for folder_id in folder_ids if folder_id not in self._listings]
        pages = max(1, -(-len(found) // PAGE)) if len(folder_ids) == 1 else 1
        with self._state:
            for folder_id in folder_ids:
                known = self._listings.get(folder_id)
                if known is None:
                    # Listed once more when all that is older than the feed must have become visible.
                    first_s = self._lag_s if self._lag_s > 0 else self._relist_s
                    self._listings[folder_id] = _Listing(
                        relist_s=now_s + first_s,
                        pages=pages,
                        unsettled_at=now if pages > 1 and self._lag_s > 0 else None,
                    )
                else:
                    known.pages = pages
                    known.relist_s = now_s + self._relist_s * pages
                    missed += known.ids
        try:
            for file in found:
                if len(folder_ids) == 1 and folder_ids[0] not in file.parents:
                    continue  # moved away while we asked
                self._apply(file)
        except BaseException:  # Ctrl-C: half a listing would pass for all that is there
            with self._state:
                for folder_id in new:
                    self._listings.pop(folder_id, None)
            raise
        with self._state:
            for folder_id in new:
                if folder_id in self._listings:
                    self._listings[folder_id].touched.clear()  # nobody has heard of it before
        self._verify(set(missed) - {file.file_id for file in found})

    def _verify(self, file_ids: Iterable[str]) -> None:
        """Look up what a listing left out: it may be gone, or the listing may lag."""
        for file_id in sorted(file_ids)[:_VERIFIED_A_LISTING]:
            try:
                self._apply(self._client.get(file_id))
            except DriveRefusal as exc:
                if exc.kind is not Kind.ABSENT:
                    raise
                self._drop(file_id)

    def _apply(self, file: RemoteFile) -> None:
        if file.file_id == self._root_id:
            self._root_is_lost = self._root_is_lost or file.is_trashed
            return
        with self._state:
            if file.file_id in self._targets:
                known_target = self._targets[file.file_id]
                if known_target is None or known_target.version <= file.version:
                    self._targets[file.file_id] = None if file.is_trashed else file
            known = self._files.get(file.file_id)
            if file.file_id in self._gone or (known is not None and file.version < known.version):
                return
            if file.is_trashed:
                self._drop(file.file_id)
                return
            places = [parent for parent in file.parents if parent in self._listings]
            if known == file and all(file.file_id in self._listings[place].ids for place in places):
                return
            if known is not None:
                self._unlink(known)
            if places:
                self._files[file.file_id] = file
                for parent in places:
                    self._listings[parent].add(file)

    def _unlink(self, file: RemoteFile) -> None:
        del self._files[file.file_id]
        for parent in file.parents:
            if parent in self._listings:
                self._listings[parent].remove(file)

    def _drop(self, file_id: str) -> None:
        """Forget a file; or a folder, with all that lies in it. What lies in the root is not forgotten with it."""
        if file_id == self._root_id:
            self._root_is_lost = True
            return
        with self._state:
            if file_id in self._targets:
                self._targets[file_id] = None
            known = self._files.get(file_id)
            if known is not None:
                self._unlink(known)
            listing = self._listings.pop(file_id, None)
            for below in listing.ids if listing is not None else ():
                self._drop(below)

    def _tell(self, message: str) -> None:
        """Say it once."""
        if message not in self._told:
            self._told.add(message)
            _log.warning("%s", message)


def _keep_oldest(by_name: dict[str, Entry], entry: Entry) -> None:
    known = by_name.get(entry.file.title)
    if known is None or entry.file.age_rank < known.file.age_rank:
        by_name[entry.file.title] = entry
