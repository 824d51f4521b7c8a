"""Bytes under paths: the seam that every root implements.

Paths are relative to the root, parts separated by "/", without "." or ".." or a leading "/". Objects are
created whole and once; only an attempt's own record is ever replaced. Names are never reused after a delete.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

from driverun.errors import IntegrityError, UnsafePath
from driverun.values import frozen_value

MOST_PATIENCE_S = 30.0
TICK_S = 0.05  #: longer than a tick of any store's clock, in which two objects may get the same time


@frozen_value(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """What a store says about one object, all of it on the store's own authority."""

    path: str
    object_id: str  #: names this very object for ever; two objects never share one
    size_bytes: int
    created_at: datetime  #: when it became visible, by the store's clock; never before an earlier creation
    modified_at: datetime  #: when its content became visible, by the store's clock
    sha256: str | None  #: of the content, as the store holds it; None where this call did not learn it
    properties: Mapping[str, str] | None  #: what its writer attached; None: this store keeps none
    author: str | None = None  #: who last changed it, as `People` has names; None: the store does not tell


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderNews:
    """What one look at a folder brought that the look before had not."""

    changed: Sequence[
        ObjectInfo
    ]  #: what is new or may have changed, in any order; all there is if `is_whole`
    gone: frozenset[str]  #: paths that were there at the look before
    is_whole: bool  #: nothing is there but what is in `changed`; `gone` is empty then
    mark: object  #: for the next look, at the same store


class ObjectStore(Protocol):
    """A folder that outlives every runtime.

    Every method may raise TransientStoreError (try again: repeating the same call is safe) and
    StoreAccessDenied.
    """

    @property
    def listing_lag_s(self) -> float:
        """For how long after a creation a listing may still miss the object, in seconds."""

    @property
    def location(self) -> str:
        """The root as a person would type it, for messages."""

    def now(self) -> datetime:
        """The store's own clock, the one that `created_at` and `modified_at` are read from."""

    def create(
        self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
    ) -> ObjectInfo:
        """Create the object at `path` with `content`, or with the bytes of the file `content`.

        Readers see all of it or nothing. Parent folders are made. The answer holds `sha256` as the store
        computed it.

        Raises:
            ObjectExists: the path is taken; nothing was changed. After a lost answer, it may be this call's
                own object: compare checksums.
            StoreQuotaExceeded: the root is full; nothing was created.
        """

    def replace(
        self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
    ) -> ObjectInfo:
        """Put `content`, or the bytes of the file `content`, in the place of what `path` holds.

        Readers see the old or the new, whole.

        `object_id` and `created_at` stay. Only the creator of an object may call this.

        Raises:
            ObjectNotFound: nothing is there to be replaced; nothing was created.
            StoreQuotaExceeded: the root is full; the old content stands.
        """

    def read(self, path: str) -> bytes:
        """The whole content. Raises ObjectNotFound."""

    def download(self, path: str, target: Path) -> ObjectInfo:
        """Write the content to the local file `target`, which appears whole or not at all; its folder exists.

        Raises:
            ObjectNotFound: nothing is there; `target` was not touched.
            IntegrityError: what arrived is not what the store promised; `target` was not touched.
        """

    def stat(self, path: str) -> ObjectInfo:
        """What the store knows of the object, fresh, not from a listing. Raises ObjectNotFound."""

    def list(self, folder: str, *, recursive: bool = False, prefix: str = "") -> list[ObjectInfo]:
        """The objects in `folder` ("" is the root), sorted by path; with `recursive`, those beneath too.

        A folder that does not exist is empty. Folders themselves are not listed. `sha256` may be None.
        With `prefix`, only those whose path below `folder` begins so, at a cost that goes by their number where the
        store can do that.
        """

    def news(self, folder: str, since: object = None) -> FolderNews:
        """What became of the objects in `folder`, not beneath it, since the look that gave the mark `since`.

        It lags as `list` does. The first look, and one with a mark that is not known any more, gives all there is.
        """

    def delete(self, path: str) -> None:
        """Remove the object for good. That nothing is there is success."""

    def ensure_folder(self, path: str) -> None:
        """Make the folder and its parents, where they are missing."""


def unseen_for_s(listing_lag_s: float) -> float:
    """For how long to go on looking for what may have been created a moment ago, before it is said to be missing.

    Longer than the lag that is usual, because it costs little: nothing is there to be done.
    """
    return max(listing_lag_s, min(3 * listing_lag_s, MOST_PATIENCE_S))


def checked_path(path: str) -> str:
    """`path`, if it is a clean path inside a root.

    Raises:
        UnsafePath: it is empty, absolute, has an empty part, ".", "..", a backslash or a control character.
    """
    parts = path.split("/")
    if not path or any(part in ("", ".", "..") for part in parts):
        raise UnsafePath(
            f"cannot use {path!r} as a path on the root: it has to stay inside; write it like data/mnist.npz"
        )
    if "\\" in path or any(ord(char) < 32 or ord(char) == 127 for char in path):
        raise UnsafePath(
            f"cannot use {path!r} as a path on the root: backslashes and control characters are refused"
        )
    return path


class Downloads(Protocol):
    """Something that files come from; every ObjectStore is one."""

    @property
    def location(self) -> str:
        """What it is, as a person would type it."""

    def download(self, path: str, target: Path) -> ObjectInfo:
        """Write the file to `target`, which appears whole or not at all, as ObjectStore.download does."""


class LinkedItem(Downloads, Protocol):
    """A file or a folder of Drive outside of the root."""

    @property
    def name(self) -> str:
        """What its owner calls it."""

    @property
    def is_folder(self) -> bool: ...

    def list(self) -> list[ObjectInfo]:
        """All files beneath it, sorted by path, which is relative to it; of a file, itself under its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Whose word counts on a root that several accounts may write to.

    An account is its e-mail in lower case, and where the store hides that, what the store calls it.
    """

    owner: frozenset[str]  #: all names of the account that owns the root; empty: nobody owns it
    me: frozenset[str]  #: all names of the account of this process, as far as they have been heard
    trusted: frozenset[str] = frozenset()  #: whom else the person trusts who runs this process

    def trusts(self, author: str | None) -> bool:
        """May code run that this author has written? Whom the store cannot name is trusted nowhere."""
        return author is not None and (author in self.trusted or author in (self.owner or self.me))

    def believes(self, author: str | None) -> bool:
        """Is it true what this author's files say of others? One's own are, whoever owns the root."""
        return self.trusts(author) or author in self.me


@runtime_checkable
class KnowsPeople(Protocol):
    """What a store may be able to tell besides: whose the root is, and who wrote what."""

    def people(self) -> People | None:
        """Whose word counts, as far as it is known now; None: the store does not tell who wrote what."""


def people_of(store: object) -> People | None:
    """Whose word counts on this root; None: everybody's who can write to it, because the store tells nobody apart."""
    return store.people() if isinstance(store, KnowsPeople) else None


def read_believed(store: ObjectStore, path: str) -> bytes:
    """The content of `path`, if it was written by somebody whose word counts on this root.

    For what brings files beside code, or code itself. Where the store tells of authors, that is one request more:
    a listing may be older than the content.

    Raises:
        ObjectNotFound: nothing is there.
        IntegrityError: somebody else wrote it, or it changes as it is read.
    """
    people, content = people_of(store), store.read(path)
    if people is None:
        return content
    found = store.stat(path)
    if not people.believes(found.author):
        raise IntegrityError(
            f"cannot use {path}: {found.author or 'somebody whom the root does not name'} wrote it, who is not trusted"
        )
    if found.size_bytes != len(content) or found.sha256 not in (None, hashlib.sha256(content).hexdigest()):
        raise IntegrityError(f"cannot use {path}: it changed as it was read. Try again.")
    return content


@runtime_checkable
class OpensLinks(Protocol):
    """What a store may be able to do besides: read files of Drive by their id, inside the root or not."""

    def open_link(self, file_id: str, *, resource_key: str | None = None) -> LinkedItem:
        """The file or folder with this id.

        Raises:
            ObjectNotFound: it is not there, or not shared with the account of this root.
            StoreAccessDenied: it may not be downloaded, or is a Google document.
            TransientStoreError: try again.
        """
