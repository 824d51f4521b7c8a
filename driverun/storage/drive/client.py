"""The calls of Drive's API v2 that a root needs, each with its fields, as one request or a few.

Every method raises DriveRefusal, and nothing else of what lies beneath.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from googleapiclient.errors import HttpError
from googleapiclient.http import MediaInMemoryUpload, MediaUpload

from driverun.storage.drive.errors import DriveRefusal, Kind, foreign_errors
from driverun.storage.drive.ids import IdPool
from driverun.storage.drive.pacing import TokenBucket
from driverun.storage.drive.remote import FIELDS, FOLDER, ROOT_FIELDS, RemoteFile, mime_type_for
from driverun.storage.drive.servertime import ServerTime
from driverun.storage.drive.transport import DriveTransport

T = TypeVar("T")

PAGE = 1000  #: files a page, Drive's most
FOLDERS_A_QUERY = 20  #: parents that one query may name; the address of a request stays below 2048 characters
_BYTES = "application/octet-stream"
_BUSY_PAUSE_S = 1.0  # for all threads, where Drive does not say how long
_LONGEST_PAUSE_S = 30.0  # within a call; longer rests are kept between calls, where they can be ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One entry of the changes feed."""

    file_id: str
    file: RemoteFile | None  #: None: deleted, or out of this account's sight


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePage:
    changes: tuple[Change, ...]
    next_page: str | None  #: there is more
    next_start: str | None  #: where the next poll begins; given with the last page


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """What is said of a file when it is created."""

    file_id: str
    title: str
    parent_id: str
    properties: Mapping[str, str]

    def body(self) -> dict[str, Any]:
        return {
            "id": self.file_id,
            "title": self.title,
            "parents": [{"id": self.parent_id}],
            "mimeType": mime_type_for(self.title),
            **_properties(self.properties),
        }


_SMALL_MEDIA = MediaInMemoryUpload(b"", mimetype=_BYTES, resumable=False)


class _ResumableMedia(MediaUpload):  # type: ignore[misc]
    """Tells googleapiclient that bytes will come, so that it writes the request which opens a session."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes

    def chunksize(self) -> int:
        return self._size_bytes

    def mimetype(self) -> str:
        return _BYTES

    def size(self) -> int:
        return self._size_bytes

    def resumable(self) -> bool:
        return True


class DriveClient:
    """Thin calls over PyDrive2's service. Threads share it."""

    def __init__(
        self, service: Any, transport: DriveTransport, *, pacing: TokenBucket, time: ServerTime
    ) -> None:
        """Use `service`, the `auth.service` of PyDrive2.

        Args:
            pacing: every write takes its turn there.
            time: is told of the times in answers.
        """
        self.transport = transport
        self.ids = IdPool(self._generate_ids)
        self.me: frozenset[str] = frozenset()  #: all names of this account that Drive has called it by
        self.drive_id: str | None = None  #: the shared drive to list and watch; None: what the account sees
        self._files = service.files()
        self._changes = service.changes()
        self._pacing = pacing
        self._time = time

    def now(self) -> datetime:
        """Drive's clock, as far as it was heard of."""
        return self._time.now()

    def get(self, file_id: str) -> RemoteFile:
        """The file, folder or shortcut, as it is now; refused as ABSENT if it is in the trash."""
        request = self._files.get(fileId=file_id, supportsAllDrives=True, fields=ROOT_FIELDS)
        found = self._file(self._call(request))
        if found.is_trashed:
            raise DriveRefusal(Kind.ABSENT, "it is in the trash; restore it there if it is wanted")
        return found

    def children(
        self,
        folder_ids: Sequence[str],
        *,
        folders_only: bool = False,
        modified_since: datetime | None = None,
    ) -> Iterator[RemoteFile]:
        """What a listing shows in these folders, at most FOLDERS_A_QUERY; one request for every PAGE files."""
        query = " or ".join(f"{_quoted(folder_id)} in parents" for folder_id in folder_ids)
        query = f"({query}) and trashed = false"
        if folders_only:
            query += f" and mimeType = {_quoted(FOLDER)}"
        if modified_since is not None:
            query += f" and modifiedDate >= {_quoted(modified_since.strftime('%Y-%m-%dT%H:%M:%S'))}"
        page_token = None
        while True:
            page = self._call(
                self._files.list(
                    q=query,
                    maxResults=PAGE,
                    pageToken=page_token,
                    spaces="drive",
                    fields=f"nextPageToken,items({FIELDS})",
                    **self._everywhere(),
                    **({"corpora": "drive", "driveId": self.drive_id} if self.drive_id else {}),
                )
            )
            yield from self._parsed(page.get("items", ()))
            page_token = page.get("nextPageToken")
            if not page_token:
                return

    def start_of_changes(self) -> str:
        """Where a poll of the changes begins that is to show what happens from now on."""
        with foreign_errors():
            return str(
                self._call(
                    self._changes.getStartPageToken(
                        supportsAllDrives=True, fields="startPageToken", **self._shared_drive()
                    )
                )["startPageToken"]
            )

    def changes(self, page_token: str) -> ChangePage:
        """What happened since. A token that is too old is refused as FAULTY or ABSENT."""
        page = self._call(
            self._changes.list(
                pageToken=page_token,
                maxResults=PAGE,
                includeDeleted=True,
                includeSubscribed=True,
                spaces="drive",
                fields=f"nextPageToken,newStartPageToken,items(fileId,deleted,file({FIELDS}))",
                **self._everywhere(),
                **self._shared_drive(),
            )
        )
        with foreign_errors():
            changes = tuple(
                Change(
                    file_id=item["fileId"],
                    file=None if item.get("deleted") or "file" not in item else self._file(item["file"]),
                )
                for item in page.get("items", ())
                if "fileId" in item
            )
            return ChangePage(
                changes=changes,
                next_page=page.get("nextPageToken"),
                next_start=page.get("newStartPageToken"),
            )

    def create_folder(self, folder_id: str, title: str, parent_id: str) -> RemoteFile:
        """Refused as EXISTS if `folder_id` is taken, by an earlier call whose answer was lost."""
        body = {"id": folder_id, "title": title, "parents": [{"id": parent_id}], "mimeType": FOLDER}
        return self._written(self._files.insert(body=body, supportsAllDrives=True, fields=FIELDS))

    def create(self, new: NewFile, content: bytes) -> RemoteFile:
        """Create the file in one request; for what is small. Refused as EXISTS if the id is taken."""
        request = self._files.insert(
            body=new.body(), media_body=_SMALL_MEDIA, supportsAllDrives=True, fields=FIELDS
        )
        return self._written(_carrying(request, new.body(), content, boundary=new.file_id))

    def replace(self, known: RemoteFile, content: bytes, properties: Mapping[str, str]) -> RemoteFile:
        """Put other bytes in its place in one request; for what is small. The id stays."""
        body = {"title": known.title, **_properties(properties)}
        request = self._files.update(
            fileId=known.file_id,
            body=body,
            media_body=_SMALL_MEDIA,
            supportsAllDrives=True,
            fields=FIELDS,
        )
        body["mimeType"] = known.mime_type
        return self._written(_carrying(request, body, content, boundary=known.file_id))

    def open_creation(self, new: NewFile, size_bytes: int) -> str:
        """The address of a session that takes the bytes of a new file, however many requests it needs."""
        return self._open_session(
            self._files.insert(
                body=new.body(),
                media_body=_ResumableMedia(size_bytes),
                supportsAllDrives=True,
                fields=FIELDS,
            ),
            size_bytes,
        )

    def open_replacement(self, known: RemoteFile, size_bytes: int, properties: Mapping[str, str]) -> str:
        """The address of a session that takes other bytes for a file."""
        return self._open_session(
            self._files.update(
                fileId=known.file_id,
                body={"title": known.title, **_properties(properties)},
                media_body=_ResumableMedia(size_bytes),
                supportsAllDrives=True,
                fields=FIELDS,
            ),
            size_bytes,
        )

    def uploaded(self, fields: Mapping[str, Any]) -> RemoteFile:
        """The file that the last answer of a session describes."""
        return self._heard(self._file(fields))

    def media_address(self, file_id: str) -> str:
        """Where the bytes of the file are, for `transport.stream`."""
        request = self._files.get_media(fileId=file_id, supportsAllDrives=True)
        return str(request.uri)

    def delete(self, file_id: str) -> None:
        """Delete it for good; its absence is success. Where only a manager may, it goes to the trash."""
        try:
            request = self._files.delete(fileId=file_id, supportsAllDrives=True)
            self._pacing.take()
            self._noticed(lambda: request.execute(http=self.transport))
        except DriveRefusal as exc:
            if exc.kind is Kind.ABSENT:
                return
            if exc.kind is not Kind.DENIED or self.drive_id is None:
                raise
            self._write(self._files.trash(fileId=file_id, supportsAllDrives=True, fields="id"))

    def _generate_ids(self, count: int) -> Sequence[str]:
        with foreign_errors():
            answer = self._call(self._files.generateIds(maxResults=count, space="drive", fields="ids"))
            return [str(each) for each in answer["ids"]]

    def _open_session(self, request: Any, size_bytes: int) -> str:
        self._pacing.take()
        headers = {
            **request.headers,
            "x-upload-content-type": _BYTES,
            "x-upload-content-length": str(size_bytes),
        }
        return self._noticed(lambda: _session(self.transport, request, headers))

    def _everywhere(self) -> dict[str, bool]:
        return {"supportsAllDrives": True, "includeItemsFromAllDrives": True}

    def _shared_drive(self) -> dict[str, str]:
        return {"driveId": self.drive_id} if self.drive_id else {}

    def _write(self, request: Any) -> Mapping[str, Any]:
        self._pacing.take()
        return self._call(request)

    def _call(self, request: Any) -> Mapping[str, Any]:
        def ask() -> Mapping[str, Any]:
            answer = request.execute(http=self.transport)
            if not isinstance(answer, dict):  # an empty 200 comes as text
                raise ValueError("no object in it")
            return answer

        return self._noticed(ask)

    def _noticed(self, ask: Callable[[], T]) -> T:
        try:
            with foreign_errors():
                return ask()
        except DriveRefusal as exc:
            if exc.kind is Kind.BUSY:
                asked_s = exc.retry_after_s if exc.retry_after_s is not None else _BUSY_PAUSE_S
                self._pacing.pause(min(asked_s, _LONGEST_PAUSE_S))
            raise

    def _parsed(self, items: Iterable[Mapping[str, Any]]) -> list[RemoteFile]:
        with foreign_errors():
            files = [RemoteFile.parse(item) for item in items]
        self._learn_who_i_am(files)
        return files

    def _file(self, fields: Any) -> RemoteFile:
        return self._parsed((fields,))[0]

    def _learn_who_i_am(self, files: Iterable[RemoteFile]) -> None:
        # A thousand files of a page name few accounts, and name each by the same value.
        named = {id(each): each for file in files for each in (file.author, file.owner)}
        for account in named.values():
            if account is not None and account.is_me and not account.names <= self.me:
                self.me |= account.names

    def _written(self, request: Any) -> RemoteFile:
        return self._heard(self._file(self._write(request)))

    def _heard(self, file: RemoteFile) -> RemoteFile:
        """`file`, whose time of modification is Drive's own, since it is the answer to a write."""
        self._time.hear_stamp(file.modified_at)
        return file


def _session(transport: DriveTransport, request: Any, headers: Mapping[str, str]) -> str:
    answer, content = transport.request(
        request.uri, method=request.method, body=request.body, headers=headers
    )
    if answer.status != 200 or "location" not in answer:
        raise HttpError(answer, content, uri=request.uri)
    return str(answer["location"])


def _carrying(request: Any, body: Mapping[str, Any], content: bytes, *, boundary: str) -> Any:
    """`request`, made for an empty upload, with `content`.

    googleapiclient's own body has line ends that MIME does not allow, and holds the content three times over.
    """
    while f"--{boundary}".encode() in content:
        boundary += "-"
    head = f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{json.dumps(body)}\r\n"
    head += f"--{boundary}\r\nContent-Type: {body['mimeType']}\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    request.body = b"".join((head.encode(), content, f"\r\n--{boundary}--\r\n".encode()))
    request.body_size = len(request.body)
    request.headers["content-type"] = f'multipart/related; boundary="{boundary}"'
    return request


def _properties(properties: Mapping[str, str]) -> dict[str, Any]:
    return {
        "properties": [
            {"key": key, "value": value, "visibility": "PUBLIC"} for key, value in properties.items()
        ]
    }


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
