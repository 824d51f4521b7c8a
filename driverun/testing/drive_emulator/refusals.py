"""The answers with which Drive refuses a call.

The shape of the body is that of the v1 error format, which Drive v2 speaks; the reasons and statuses are
those of https://developers.google.com/drive/api/guides/handle-errors, with the wording that clients report.
"""

from __future__ import annotations

import html
import json
from typing import Any


class Refusal(Exception):
    """A call is answered with an error.

    Attributes:
        status: of HTTP.
        reason: the word by which clients tell one error of a status from another.
        location: the parameter, header or field that is at fault; None: none is.
        location_type: `parameter`, `header` or `other`.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        location: str | None = None,
        location_type: str = "parameter",
        domain: str = "global",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.location = location
        self.location_type = location_type
        self.domain = domain

    def document(self) -> dict[str, Any]:
        """Return the body of the answer, before it is made JSON."""
        entry = {"domain": self.domain, "reason": self.reason, "message": self.message}
        if self.location is not None:
            entry["locationType"] = self.location_type
            entry["location"] = self.location
        return {"error": {"errors": [entry], "code": self.status, "message": self.message}}

    def body(self) -> bytes:
        return json.dumps(self.document(), indent=1).encode()


#: What Drive says for each reason; a fault that names only a status or a reason is worded from here.
MESSAGES = {
    "badRequest": "Bad Request",
    "invalidSharingRequest": "Bad Request. User message: sharing is not possible.",
    "authError": "Invalid Credentials",
    "required": "Login Required.",
    "dailyLimitExceeded": "Daily Limit Exceeded",
    "userRateLimitExceeded": "User Rate Limit Exceeded",
    "rateLimitExceeded": "Rate Limit Exceeded",
    "sharingRateLimitExceeded": "Rate limit exceeded. User message: sharing quota exceeded.",
    "storageQuotaExceeded": "The user's Drive storage quota has been exceeded.",
    "quotaExceeded": "The limit for this folder's number of children (files and folders) has been exceeded.",
    "downloadQuotaExceeded": "The download quota for this file has been exceeded.",
    "appNotAuthorizedToFile": "The user has not granted the app access to the file.",
    "insufficientFilePermissions": "The user does not have sufficient permissions for this file.",
    "domainPolicy": "The domain administrators have disabled Drive apps.",
    "notFound": "File not found.",
    "conflict": "Conflict",
    "conditionNotMet": "Precondition Failed",
    "backendError": "Backend Error",
    "internalError": "Internal Error",
    "badGateway": "Bad Gateway",
    "transientFailure": "Transient failure.",
    "gatewayTimeout": "Gateway Timeout",
    "requestTimeout": "Request Timeout",
}

#: The reason of a status that a fault names without one.
REASONS = {
    400: "badRequest",
    401: "authError",
    403: "userRateLimitExceeded",
    404: "notFound",
    408: "requestTimeout",
    409: "conflict",
    412: "conditionNotMet",
    429: "rateLimitExceeded",
    500: "internalError",
    502: "badGateway",
    503: "backendError",
    504: "gatewayTimeout",
}

USAGE_REASONS = {
    "dailyLimitExceeded",
    "userRateLimitExceeded",
    "rateLimitExceeded",
    "sharingRateLimitExceeded",
    "downloadQuotaExceeded",
}


def refusal_of(status: int, reason: str = "", message: str = "") -> Refusal:
    """Return the refusal of `status`, with the reason and the words that Drive would use for it."""
    reason = reason or REASONS.get(status, "backendError" if status >= 500 else "badRequest")
    return Refusal(
        status,
        reason,
        message or MESSAGES.get(reason, reason),
        domain="usageLimits" if reason in USAGE_REASONS else "global",
    )


def not_found(file_id: str) -> Refusal:
    """There is no such file, or none that the account may know of; Drive makes no difference."""
    return Refusal(404, "notFound", f"File not found: {file_id}", location="file", location_type="other")


def invalid_value(location: str, message: str = "Invalid Value") -> Refusal:
    return Refusal(400, "invalid", message, location=location)


def precondition_failed() -> Refusal:
    return Refusal(412, "conditionNotMet", "Precondition Failed", location="If-Match", location_type="header")


def not_permitted(file_id: str) -> Refusal:
    return Refusal(
        403,
        "insufficientFilePermissions",
        f"The user does not have sufficient permissions for file {file_id}.",
        location="file.permissions",
        location_type="other",
    )


def html_page(status: int, title: str, detail: str) -> bytes:
    """Return a page like the one that Google's front end shows where no API answers."""
    return (
        "<!DOCTYPE html>\n<html lang=en>\n<meta charset=utf-8>\n"
        f"<title>Error {status} ({html.escape(title)})!!1</title>\n"
        f"<p><b>{status}.</b> <ins>That’s an error.</ins>\n"
        f"<p>{html.escape(detail)}  <ins>That’s all we know.</ins>\n"
    ).encode()
