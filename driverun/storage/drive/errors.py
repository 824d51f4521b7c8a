"""What every answer of Drive, and every way to get none, means.

Two steps: `foreign_errors` turns whatever googleapiclient, urllib3, ssl and google-auth raise into a DriveRefusal,
by the table in `verdict`; `store_errors` turns that into the store's errors, with the words for a person.
Reasons: developers.google.com/drive/api/guides/handle-errors, and `shouldRetry` of rclone's Drive backend.
"""

from __future__ import annotations

import contextlib
import enum
import json
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import google.auth.exceptions
import googleapiclient.errors
import httplib2
import urllib3.exceptions

from driverun.errors import (
    ObjectExists,
    ObjectNotFound,
    StoreAccessDenied,
    StoreError,
    StoreQuotaExceeded,
    TransientStoreError,
)

TOMORROW_S = 3600.0  #: a daily limit: longer than any operation is repeated, so that the caller hears of it
_SHOWN = 200  # of a foreign message, in characters


class Kind(enum.Enum):
    """What is to be done about a refusal."""

    LOST = "lost"  #: no answer that can be read; the request may have been carried out
    BUSY = "busy"  #: too much is asked in too short a time; all threads should wait
    FAILING = "failing"  #: Drive itself has trouble
    LATER = "later"  #: a limit that ends in hours
    FULL = "full"  #: no storage is left
    DENIED = "denied"  #: permissions
    LOGGED_OUT = "logged out"  #: the credentials are not valid any more
    ABSENT = "absent"  #: there is nothing of that id
    EXISTS = "exists"  #: there is something of that id
    CHANGED = "changed"  #: a precondition does not hold
    FAULTY = "faulty"  #: Drive does not accept the request as such


_TRANSIENT = {Kind.LOST, Kind.BUSY, Kind.FAILING, Kind.LATER}


class DriveRefusal(Exception):
    """Drive did not do what it was asked to, or nobody knows whether it did."""

    def __init__(
        self, kind: Kind, text: str, *, retry_after_s: float | None = None, made_progress: bool = False
    ) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text  #: what happened, for a person, without a full stop
        self.retry_after_s = retry_after_s
        self.made_progress = made_progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer that is not a success."""

    status: int
    content: bytes
    headers: Mapping[str, str]  #: names in lower case

    @property
    def reason(self) -> str:
        """Drive's own word for what is wrong; "" where the body is not Drive's."""
        errors = self._error.get("errors")
        if isinstance(errors, list) and errors and isinstance(errors[0], dict):
            return str(errors[0].get("reason", ""))
        return str(self._error.get("status", ""))

    @property
    def message(self) -> str:
        return " ".join(str(self._error.get("message", "")).split())[:_SHOWN]

    @property
    def is_drives(self) -> bool:
        """Is the body an error as Drive writes them? What a proxy says of an id says nothing of the id."""
        return bool(self._error)

    @property
    def retry_after_s(self) -> float | None:
        """For how long the sender wants to be left alone; reads both forms that HTTP knows."""
        text = self.headers.get("retry-after", "").strip()
        if not text:
            return None
        try:
            return max(0.0, float(text))
        except ValueError:
            pass
        try:
            until, now = parsedate_to_datetime(text), parsedate_to_datetime(self.headers["date"])
            return max(0.0, (until - now).total_seconds())
        except (KeyError, TypeError, ValueError):
            return None

    @property
    def _error(self) -> Mapping[str, object]:
        try:
            body = json.loads(self.content)
        except ValueError:
            return {}
        error = body.get("error") if isinstance(body, dict) else None
        return error if isinstance(error, dict) else {}


_BY_REASON: Mapping[str, tuple[Kind, str]] = {
    "userRateLimitExceeded": (Kind.BUSY, "Drive wants this account to ask more slowly"),
    "rateLimitExceeded": (Kind.BUSY, "Drive wants to be asked more slowly"),
    "sharingRateLimitExceeded": (Kind.BUSY, "Drive wants to be asked more slowly"),
    "RESOURCE_EXHAUSTED": (Kind.BUSY, "Drive wants to be asked more slowly"),
    "backendError": (Kind.FAILING, "Drive has trouble of its own"),
    "internalError": (Kind.FAILING, "Drive has trouble of its own"),
    "dailyLimitExceeded": (
        Kind.LATER,
        "the Google Cloud project has used up its requests of the day; they are given anew at midnight, Pacific time",
    ),
    "dailyLimitExceededUnreg": (
        Kind.LATER,
        "requests without a Google Cloud project are used up; log in with a client file of your own",
    ),
    "downloadQuotaExceeded": (
        Kind.LATER,
        "this file was downloaded too often; Drive allows it again within 24 hours, or copy the file in Drive",
    ),
    "storageQuotaExceeded": (
        Kind.FULL,
        "Drive is full. Free space (the trash counts too), then go on: nothing that was committed is lost",
    ),
    "quotaExceeded": (
        Kind.FULL,
        "Drive is full. Free space (the trash counts too), then go on: nothing that was committed is lost",
    ),
    "teamDriveFileLimitExceeded": (Kind.FULL, "the shared drive holds as many files as it may; delete some"),
    "numChildrenInNonRootLimitExceeded": (Kind.FULL, "the folder holds as many files as it may; delete some"),
    "activeItemCreationLimitExceeded": (Kind.FULL, "this account owns as many files as it may; delete some"),
    "insufficientFilePermissions": (
        Kind.DENIED,
        "this account may not do that there; have its owner share it with you as an editor",
    ),
    "insufficientPermissions": (
        Kind.LOGGED_OUT,
        "the login does not cover Drive; log in again and allow access to Drive",
    ),
    "appNotAuthorizedToFile": (
        Kind.DENIED,
        "this login sees only files that it made itself; log in anew with `driverun login`",
    ),
    "domainPolicy": (Kind.DENIED, "the rules of your organisation forbid it; ask its administrator"),
    "accessNotConfigured": (
        Kind.DENIED,
        "the Drive API is not switched on in the Google Cloud project of your client file; "
        "switch it on at console.cloud.google.com, under APIs & Services",
    ),
    "SERVICE_DISABLED": (
        Kind.DENIED,
        "the Drive API is not switched on in the Google Cloud project of your client file; "
        "switch it on at console.cloud.google.com, under APIs & Services",
    ),
    "cannotDownloadAbusiveFile": (
        Kind.DENIED,
        "Drive takes the file for malware and does not hand it out; its owner can download it in the browser",
    ),
    "fileNotDownloadable": (
        Kind.DENIED,
        "it is a Google document, which has no bytes of its own; export it in Drive and upload the result",
    ),
    "fileIdInUse": (Kind.EXISTS, "there is a file of that id already"),
    "authError": (Kind.LOGGED_OUT, "the login is not valid any more"),
}

_BY_STATUS: Mapping[int, tuple[Kind, str]] = {
    401: (Kind.LOGGED_OUT, "the login is not valid any more"),
    403: (Kind.DENIED, "this account may not do that there"),
    404: (Kind.ABSENT, "nothing is there"),
    408: (Kind.FAILING, "Drive gave up waiting for the request"),
    409: (Kind.EXISTS, "there is a file of that id already"),
    410: (Kind.ABSENT, "it is gone"),
    412: (Kind.CHANGED, "somebody else changed it in between; nothing was written"),
    429: (Kind.BUSY, "Drive wants to be asked more slowly"),
}


def verdict(answer: Answer) -> DriveRefusal:
    """What `answer` means. Reasons go before statuses: a 403 may be an order to wait, or a full Drive."""
    known = _BY_REASON.get(answer.reason) or _BY_STATUS.get(answer.status)
    if answer.status >= 500:
        known = (Kind.FAILING, "Drive has trouble of its own")
    elif not answer.is_drives and answer.status not in (401, 408, 409, 412, 429):
        # Google's front ends and proxies answer with pages; an empty or HTML 404 says nothing about a file.
        known = (Kind.FAILING, "the answer did not come from Drive itself")
    kind, text = known or (Kind.FAULTY, "Drive does not accept the request")
    told = " ".join(part for part in (answer.reason, answer.message) if part)
    text = f"{text} ({answer.status}{f' {told}' if told else ''})"
    retry_after_s = TOMORROW_S if kind is Kind.LATER else answer.retry_after_s
    return DriveRefusal(kind, text, retry_after_s=retry_after_s)


@contextlib.contextmanager
def foreign_errors() -> Iterator[None]:
    """Turn what the libraries beneath raise in the block into a DriveRefusal.

    No code that touches local files may run in it: their OSErrors would pass for the network's.
    """
    try:
        yield
    except DriveRefusal:
        raise
    except googleapiclient.errors.HttpError as exc:
        raise verdict(answer_of(exc.resp, exc.content)) from exc
    except urllib3.exceptions.SSLError as exc:
        raise _tls_refusal(exc.args[0] if exc.args else exc, exc) from exc
    except ssl.SSLError as exc:
        raise _tls_refusal(exc, exc) from exc
    except urllib3.exceptions.LocationParseError as exc:
        raise DriveRefusal(Kind.FAULTY, f"the address makes no sense: {_short(exc)}") from exc
    except urllib3.exceptions.HTTPError as exc:
        cause = exc.args[1] if isinstance(exc, urllib3.exceptions.ProxyError) and len(exc.args) > 1 else exc
        raise DriveRefusal(Kind.LOST, _lost_text(cause)) from exc
    except google.auth.exceptions.TransportError as exc:
        raise DriveRefusal(Kind.LOST, f"cannot reach Google's login service: {_short(exc)}") from exc
    except google.auth.exceptions.RefreshError as exc:
        if exc.retryable or not _is_final(exc):
            raise DriveRefusal(Kind.LOST, f"Google's login service has trouble: {_short(exc)}") from exc
        raise DriveRefusal(Kind.LOGGED_OUT, f"the login was not renewed: {_short(exc)}") from exc
    except google.auth.exceptions.GoogleAuthError as exc:
        raise DriveRefusal(Kind.LOGGED_OUT, f"the login does not work: {_short(exc)}") from exc
    except (httplib2.HttpLib2Error, googleapiclient.errors.Error, ValueError, KeyError, TypeError) as exc:
        # Broken JSON, or JSON of another shape: cut off on its way, or a page of somebody else's.
        raise DriveRefusal(Kind.LOST, f"the answer cannot be read ({_short(exc)})") from exc
    except OSError as exc:
        raise DriveRefusal(Kind.LOST, _lost_text(exc)) from exc


def answer_of(headers: Mapping[str, str], content: bytes) -> Answer:
    """The answer whose httplib2 headers, `status` among them, are `headers`."""
    return Answer(
        status=int(headers["status"]),
        content=content,
        headers={name.lower(): value for name, value in headers.items()},
    )


_ADVICE: Mapping[Kind, str] = {
    Kind.LOGGED_OUT: ". Log in again: `driverun login`; in Colab, run the cell again",
    Kind.LOST: ". Trying again is safe",
    Kind.FAULTY: ". Trying again is no use: this is a fault of driverun, please report it",
}


@contextlib.contextmanager
def store_errors(action: str, path: str, location: str) -> Iterator[None]:
    """Raise every DriveRefusal of the block as the store's own error, which says what was being done."""
    try:
        yield
    except DriveRefusal as exc:
        text = f"cannot {action} {path or 'the root'} in {location}: {exc.text}{_ADVICE.get(exc.kind, '')}"
        if exc.kind in _TRANSIENT:
            raise TransientStoreError(
                text, path=path, retry_after_s=exc.retry_after_s, made_progress=exc.made_progress
            ) from exc
        raise _ERRORS[exc.kind](text, path=path) from exc


_ERRORS: Mapping[Kind, type[StoreError]] = {
    Kind.FULL: StoreQuotaExceeded,
    Kind.DENIED: StoreAccessDenied,
    Kind.LOGGED_OUT: StoreAccessDenied,
    Kind.ABSENT: ObjectNotFound,
    Kind.EXISTS: ObjectExists,
    Kind.CHANGED: StoreError,
    Kind.FAULTY: StoreError,
}


_PASSING_OAUTH_ERRORS = {"internal_failure", "server_error", "temporarily_unavailable", "slow_down"}


def _is_final(exc: google.auth.exceptions.RefreshError) -> bool:
    """Has the login service itself said no? A page, or an error of another shape, comes from in front of it."""
    cause, told = exc.args[0] if exc.args else None, exc.args[1] if len(exc.args) > 1 else None
    if isinstance(told, dict):
        code = told.get("error")
        return isinstance(code, str) and code not in _PASSING_OAUTH_ERRORS
    if isinstance(cause, google.auth.exceptions.TransportError):  # of Colab's metadata server
        return False
    return isinstance(cause, str) and cause.strip() != "" and not cause.lstrip().startswith("<")


def _tls_refusal(inner: object, exc: Exception) -> DriveRefusal:
    if isinstance(inner, ssl.SSLCertVerificationError):
        return DriveRefusal(
            Kind.DENIED,
            f"whoever answers there is not Google, by the certificate ({inner.verify_message}). Look at this "
            "machine's clock; behind a proxy that opens connections, set SSL_CERT_FILE to its certificate",
        )
    return DriveRefusal(Kind.LOST, f"the encrypted connection broke ({_short(exc)})")


def _lost_text(exc: object) -> str:
    match exc:
        # The most special first: to urllib3, a name that does not resolve is a kind of timeout.
        case urllib3.exceptions.NameResolutionError():
            return "the network is down, or its name service"
        case urllib3.exceptions.NewConnectionError() | ConnectionRefusedError():
            return "no connection came about"
        case urllib3.exceptions.ConnectTimeoutError():
            return "no connection came about in time"
        case urllib3.exceptions.TimeoutError() | TimeoutError():
            return "no answer came in time"
        case _:
            return f"the connection broke ({_short(exc)})"


def _short(exc: object) -> str:
    return " ".join(f"{type(exc).__name__}: {exc}".split())[:_SHOWN]
