"""The addresses of Google's OAuth: tokens, the page on which a person consents, and taking it back."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import parse_qsl, urlencode

from driverun.testing.drive_emulator.accounts import Accounts, GrantRefused
from driverun.testing.drive_emulator.calls import Answer
from driverun.testing.drive_emulator.exchange import JSON_TYPE, Request, read_all
from driverun.testing.drive_emulator.refusals import Refusal

#: Where Google's own libraries look for each, and how the request log calls it.
PATHS = {
    "/token": "token",
    "/o/oauth2/token": "token",
    "/oauth2/v4/token": "token",
    "/o/oauth2/auth": "consent",
    "/o/oauth2/v2/auth": "consent",
    "/revoke": "revoke",
    "/o/oauth2/revoke": "revoke",
}


class OAuth:
    """Answers these addresses."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._pages: dict[str, Callable[[Request], Answer]] = {
            "token": self._token,
            "consent": self._consent,
            "revoke": self._revoke,
        }

    def answer(self, request: Request) -> Answer:
        """Answer a request whose path is one of PATHS."""
        return self._pages[PATHS[request.path]](request)

    def _token(self, request: Request) -> Answer:
        form = dict(parse_qsl(read_all(request.read).decode("utf-8", errors="replace")))
        status, reply = 200, {}
        try:
            reply = self._accounts.grant(form)
        except GrantRefused as refused:
            status, reply = 400, {"error": refused.code, "error_description": str(refused)}
        return Answer(status=status, headers={"Content-Type": JSON_TYPE}, body=json.dumps(reply).encode())

    def _consent(self, request: Request) -> Answer:
        """Send a browser back with a code, as if a person had said yes; `login_hint` says who it was."""
        account = request.parameter("login_hint") or "user@example.com"
        back = {"code": f"code:{account}"}
        if (given := request.parameter("state")) is not None:
            back["state"] = given
        target = request.parameter("redirect_uri") or ""
        if not target:
            raise Refusal(400, "invalid_request", "Missing required parameter: redirect_uri")
        joint = "&" if "?" in target else "?"
        return Answer(status=302, headers={"Location": target + joint + urlencode(back)})

    def _revoke(self, request: Request) -> Answer:
        form = dict(parse_qsl(read_all(request.read).decode("utf-8", errors="replace")))
        token = request.parameter("token") or form.get("token")
        if not token:
            raise Refusal(400, "invalid_request", "Missing required parameter: token")
        self._accounts.revoke(token)
        return Answer(status=200, headers={"Content-Type": JSON_TYPE}, body=b"{}")
