"""Every answer that is known, and every way to get none."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

import google.auth.exceptions
import googleapiclient.errors
import httplib2
import pytest
import urllib3.exceptions

from driverun.errors import (
    ObjectExists,
    ObjectNotFound,
    StoreAccessDenied,
    StoreError,
    StoreQuotaExceeded,
    TransientStoreError,
)
from driverun.storage.drive.errors import (
    TOMORROW_S,
    Answer,
    DriveRefusal,
    Kind,
    answer_of,
    foreign_errors,
    store_errors,
    verdict,
)


def drives(reason: str, message: str = "words of Drive") -> bytes:
    """An error as API v2 writes it."""
    error = {"errors": [{"domain": "global", "reason": reason, "message": message}], "message": message}
    return json.dumps({"error": {**error, "code": 400}}).encode()


def new_style(status: str) -> bytes:
    """An error as Google's newer front ends write it."""
    return json.dumps({"error": {"code": 403, "message": "words", "status": status}}).encode()


PAGE = b"<!DOCTYPE html><html><title>Error</title><p>That's all we know."


@dataclass(frozen=True)
class Case:
    status: int
    content: bytes
    kind: Kind
    error: type[StoreError]
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_after_s: float | None = None


CASES = {
    "rate of a user": Case(403, drives("userRateLimitExceeded"), Kind.BUSY, TransientStoreError),
    "rate of a project": Case(403, drives("rateLimitExceeded"), Kind.BUSY, TransientStoreError),
    "rate of sharing": Case(403, drives("sharingRateLimitExceeded"), Kind.BUSY, TransientStoreError),
    "rate in the new style": Case(429, new_style("RESOURCE_EXHAUSTED"), Kind.BUSY, TransientStoreError),
    "429 with a rest": Case(
        429, drives("rateLimitExceeded"), Kind.BUSY, TransientStoreError, {"retry-after": "17"}, 17.0
    ),
    "429 from a front end": Case(429, PAGE, Kind.BUSY, TransientStoreError),
    "429 without a body": Case(429, b"", Kind.BUSY, TransientStoreError),
    "requests of the day": Case(
        403, drives("dailyLimitExceeded"), Kind.LATER, TransientStoreError, {}, TOMORROW_S
    ),
    "downloads of a file": Case(
        403, drives("downloadQuotaExceeded"), Kind.LATER, TransientStoreError, {}, TOMORROW_S
    ),
    "full": Case(403, drives("storageQuotaExceeded"), Kind.FULL, StoreQuotaExceeded),
    "full in other words": Case(403, drives("quotaExceeded"), Kind.FULL, StoreQuotaExceeded),
    "a full shared drive": Case(403, drives("teamDriveFileLimitExceeded"), Kind.FULL, StoreQuotaExceeded),
    "a full folder": Case(403, drives("numChildrenInNonRootLimitExceeded"), Kind.FULL, StoreQuotaExceeded),
    "no permission": Case(403, drives("insufficientFilePermissions"), Kind.DENIED, StoreAccessDenied),
    "a file of another app": Case(403, drives("appNotAuthorizedToFile"), Kind.DENIED, StoreAccessDenied),
    "rules of a domain": Case(403, drives("domainPolicy"), Kind.DENIED, StoreAccessDenied),
    "the API is off": Case(403, drives("accessNotConfigured"), Kind.DENIED, StoreAccessDenied),
    "malware": Case(403, drives("cannotDownloadAbusiveFile"), Kind.DENIED, StoreAccessDenied),
    "a Google document": Case(403, drives("fileNotDownloadable"), Kind.DENIED, StoreAccessDenied),
    "an unknown 403": Case(403, drives("somethingNew"), Kind.DENIED, StoreAccessDenied),
    "a narrow login": Case(403, drives("insufficientPermissions"), Kind.LOGGED_OUT, StoreAccessDenied),
    "a 403 of a proxy": Case(403, PAGE, Kind.FAILING, TransientStoreError),
    "a 403 without a body": Case(403, b"", Kind.FAILING, TransientStoreError),
    "a revoked token": Case(401, drives("authError"), Kind.LOGGED_OUT, StoreAccessDenied),
    "a 401 without a body": Case(401, b"", Kind.LOGGED_OUT, StoreAccessDenied),
    "not there": Case(404, drives("notFound"), Kind.ABSENT, ObjectNotFound),
    "a 404 of a front end": Case(404, PAGE, Kind.FAILING, TransientStoreError),
    "a 404 without a body": Case(404, b"", Kind.FAILING, TransientStoreError),
    "a slow request": Case(408, drives("requestTimeout"), Kind.FAILING, TransientStoreError),
    "a slow request, by a front end": Case(408, b"", Kind.FAILING, TransientStoreError),
    "an id in use": Case(409, drives("fileIdInUse"), Kind.EXISTS, ObjectExists),
    "an id in use, in other words": Case(409, drives("conflict"), Kind.EXISTS, ObjectExists),
    "gone": Case(410, drives("deleted"), Kind.ABSENT, ObjectNotFound),
    "a precondition": Case(412, drives("conditionNotMet"), Kind.CHANGED, StoreError),
    "a bad request": Case(400, drives("badRequest"), Kind.FAULTY, StoreError),
    "a range beyond the end": Case(416, drives("requestedRangeNotSatisfiable"), Kind.FAULTY, StoreError),
    "a 400 of a proxy": Case(400, PAGE, Kind.FAILING, TransientStoreError),
    "500": Case(500, drives("internalError"), Kind.FAILING, TransientStoreError),
    "500 that speaks of backends": Case(500, drives("backendError"), Kind.FAILING, TransientStoreError),
    "502 with a page": Case(502, PAGE, Kind.FAILING, TransientStoreError),
    "503 without a body": Case(503, b"", Kind.FAILING, TransientStoreError),
    "503 with a rest": Case(503, b"", Kind.FAILING, TransientStoreError, {"retry-after": "3"}, 3.0),
    "504": Case(504, drives("gatewayTimeout"), Kind.FAILING, TransientStoreError),
    "half a body": Case(403, drives("rateLimitExceeded")[:30], Kind.FAILING, TransientStoreError),
    "another shape": Case(403, b'{"error": "access_denied"}', Kind.FAILING, TransientStoreError),
    "no object": Case(403, b"[1, 2]", Kind.FAILING, TransientStoreError),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_every_known_answer_has_a_meaning(case: Case) -> None:
    refusal = verdict(Answer(status=case.status, content=case.content, headers=case.headers))
    assert refusal.kind is case.kind
    assert str(case.status) in refusal.text
    with pytest.raises(StoreError) as caught, store_errors("create", "ledger/one.json", "gdrive:exp"):
        raise refusal
    assert type(caught.value) is case.error
    assert caught.value.path == "ledger/one.json"
    assert str(caught.value).startswith("cannot create ledger/one.json in gdrive:exp: ")
    if isinstance(caught.value, TransientStoreError):
        assert caught.value.retry_after_s == case.retry_after_s


def test_the_same_goes_for_what_googleapiclient_raises() -> None:
    response = httplib2.Response({"status": "403", "Retry-After": "5"})
    with pytest.raises(DriveRefusal) as caught, foreign_errors():
        raise googleapiclient.errors.HttpError(response, drives("rateLimitExceeded"))
    assert (caught.value.kind, caught.value.retry_after_s) == (Kind.BUSY, 5.0)


@pytest.mark.parametrize(
    ("header", "expected_s"),
    [
        ("120", 120.0),
        ("Wed, 21 Oct 2026 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2026 07:27:00 GMT", 0.0),
        ("soon", None),
        ("-5", 0.0),
        ("", None),
    ],
)
def test_a_rest_may_be_asked_for_in_seconds_or_until_a_time(header: str, expected_s: float | None) -> None:
    headers = {"status": "503", "Retry-After": header, "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}
    assert verdict(answer_of(headers, b"")).retry_after_s == expected_s


def certificate_fault() -> ssl.SSLCertVerificationError:
    fault = ssl.SSLCertVerificationError(1, "certificate verify failed")
    fault.verify_message = "certificate has expired"
    return fault


POOL = urllib3.HTTPSConnectionPool("www.googleapis.com")
RAISED: dict[str, tuple[Exception, Kind, str]] = {
    "reset": (urllib3.exceptions.ProtocolError("aborted", ConnectionResetError(104)), Kind.LOST, "broke"),
    "a bare reset": (ConnectionResetError(104, "Connection reset by peer"), Kind.LOST, "broke"),
    "a broken pipe": (BrokenPipeError(32, "Broken pipe"), Kind.LOST, "broke"),
    "cut short": (urllib3.exceptions.IncompleteRead(3, 10), Kind.LOST, "broke"),
    "slow to answer": (
        urllib3.exceptions.ReadTimeoutError(POOL, "/", "timed out"),
        Kind.LOST,
        "no answer came",
    ),
    "a bare timeout": (TimeoutError("timed out"), Kind.LOST, "no answer came"),
    "slow to connect": (
        urllib3.exceptions.ConnectTimeoutError(POOL, "timed out"),
        Kind.LOST,
        "no connection",
    ),
    "refused": (urllib3.exceptions.NewConnectionError(POOL, "refused"), Kind.LOST, "no connection"),  # type: ignore[arg-type]
    "no name service": (
        urllib3.exceptions.NameResolutionError("host", POOL, socket.gaierror(-3, "Try again")),  # type: ignore[arg-type]
        Kind.LOST,
        "network is down",
    ),
    "a proxy that is down": (
        urllib3.exceptions.ProxyError("no proxy", TimeoutError("timed out")),
        Kind.LOST,
        "no answer came",
    ),
    "a wrong certificate": (
        urllib3.exceptions.SSLError(certificate_fault()),
        Kind.DENIED,
        "certificate has expired",
    ),
    "a bare wrong certificate": (certificate_fault(), Kind.DENIED, "clock"),
    "broken encryption": (
        urllib3.exceptions.SSLError(ssl.SSLEOFError(8, "EOF occurred in violation of protocol")),
        Kind.LOST,
        "encrypted",
    ),
    "a page for JSON": (json.JSONDecodeError("Expecting value", "<html>", 0), Kind.LOST, "cannot be read"),
    "a field too few": (KeyError("id"), Kind.LOST, "cannot be read"),
    "a withdrawn login": (
        google.auth.exceptions.RefreshError("invalid_grant: Token has been expired or revoked."),
        Kind.LOGGED_OUT,
        "invalid_grant",
    ),
    "a withdrawn login, as it comes": (
        google.auth.exceptions.RefreshError("invalid_grant: Bad Request", {"error": "invalid_grant"}),
        Kind.LOGGED_OUT,
        "invalid_grant",
    ),
    "a login service behind a limit": (
        google.auth.exceptions.RefreshError(
            "rate", {"error": {"code": 403, "errors": [{"reason": "rateLimitExceeded"}]}}
        ),
        Kind.LOST,
        "login service has trouble",
    ),
    "a login service that says it will pass": (
        google.auth.exceptions.RefreshError("x", {"error": "temporarily_unavailable"}),
        Kind.LOST,
        "login service has trouble",
    ),
    "a page of a login service": (
        google.auth.exceptions.RefreshError("<html><title>502</title>"),
        Kind.LOST,
        "login service has trouble",
    ),
    "an empty answer of a login service": (
        google.auth.exceptions.RefreshError(""),
        Kind.LOST,
        "login service has trouble",
    ),
    "a metadata server out of reach": (
        google.auth.exceptions.RefreshError(google.auth.exceptions.TransportError("timed out")),
        Kind.LOST,
        "login service has trouble",
    ),
    "a busy login service": (
        google.auth.exceptions.RefreshError("internal_failure", retryable=True),
        Kind.LOST,
        "login service has trouble",
    ),
    "a login service out of reach": (
        google.auth.exceptions.TransportError(TimeoutError("timed out")),
        Kind.LOST,
        "cannot reach",
    ),
    "no login": (google.auth.exceptions.DefaultCredentialsError("none"), Kind.LOGGED_OUT, "does not work"),
    "an unparsable address": (urllib3.exceptions.LocationParseError("http://["), Kind.FAULTY, "address"),
}


@pytest.mark.parametrize(("raised", "kind", "words"), RAISED.values(), ids=RAISED.keys())
def test_every_way_to_get_no_answer_has_a_meaning(raised: Exception, kind: Kind, words: str) -> None:
    with pytest.raises(DriveRefusal) as caught, foreign_errors():
        raise raised
    assert caught.value.kind is kind
    assert words in caught.value.text
    assert caught.value.__cause__ is raised


def test_a_refusal_is_not_turned_twice() -> None:
    first = DriveRefusal(Kind.FULL, "full")
    with pytest.raises(DriveRefusal) as caught, foreign_errors():
        raise first
    assert caught.value is first


def test_what_is_nobodys_fault_passes_through() -> None:
    with pytest.raises(KeyboardInterrupt), foreign_errors():
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        (Kind.LOGGED_OUT, "driverun login"),
        (Kind.LOST, "Trying again is safe"),
        (Kind.FAULTY, "please report it"),
    ],
)
def test_messages_say_what_to_do_next(kind: Kind, advice: str) -> None:
    with pytest.raises(StoreError, match=advice), store_errors("read", "", "gdrive:exp"):
        raise DriveRefusal(kind, "it failed")


def test_a_long_message_of_a_stranger_is_cut() -> None:
    refusal = verdict(Answer(status=400, content=drives("badRequest", "word " * 1000), headers={}))
    assert len(refusal.text) < 400
