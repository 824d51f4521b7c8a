"""Whose call it is: bearer tokens, and the OAuth endpoint that issues them.

A bearer token `user:<e-mail>` is a token of that account; `user:<e-mail>/<client>` comes from the OAuth
client of that name, to which private properties belong. The refresh token of an account is
`refresh:<e-mail>`, with or without a client. Whoever signs in by a service account's key is not asked for a
signature: every well-formed assertion is taken, as the emulator has nobody's keys.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from driverun.testing.drive_emulator.refusals import Refusal
from driverun.testing.drive_emulator.state import State

JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@dataclass(frozen=True, slots=True)
class Identity:
    """An account, and the application that acts for it."""

    account: str  #: an e-mail
    client: str = ""


class GrantRefused(Exception):
    """The token endpoint says no.

    Attributes:
        code: as in RFC 6749: `invalid_grant`, `invalid_request`, `unsupported_grant_type`.
    """

    def __init__(self, code: str, description: str) -> None:
        super().__init__(description)
        self.code = code


class Accounts:
    """The tokens that are good."""

    def __init__(self, state: State, token_lifetime_s: Callable[[], float]) -> None:
        self._state = state
        self._token_lifetime_s = token_lifetime_s
        self._seen: set[str] = set()

    def identify(self, headers: Mapping[str, str], query: Mapping[str, str]) -> Identity:
        """Return whose call it is.

        Raises:
            Refusal: 401, it carries no token, or none that is good.
        """
        given = headers.get("authorization", "")
        kind, _, token = given.partition(" ")
        if not given:
            token = query.get("access_token") or query.get("oauth_token") or ""
        elif kind.lower() != "bearer":
            token = ""
        if not token:
            raise Refusal(401, "required", "Login Required", location="Authorization", location_type="header")
        token = token.strip()
        if self._state.entry("bad_token", token) is None:
            if token.startswith("user:"):
                address, _, client = token[5:].partition("/")
                if "@" in address:
                    self._seen.add(token)
                    return Identity(address, client)
            issued = self._state.entry("token", token)
            if issued is not None and issued["expires_at"] > self._state.now_ms():
                return Identity(issued["account"], issued["client"])
        raise bad_credentials()

    def expire(self, account: str | None = None) -> None:
        """Let every access token that was used or issued so far be expired; `account`: only that one's."""
        with self._state.writing():
            for token in tuple(self._seen):
                if account is None or token[5:].partition("/")[0] == account:
                    self._state.set_entry("bad_token", token, 1)
            for token, issued in self._state.entries("token").items():
                if account is None or issued["account"] == account:
                    self._state.set_entry("token", token, None)

    def revoke(self, token: str) -> None:
        """Refuse an access token or a refresh token from now on."""
        with self._state.writing():
            self._state.set_entry("bad_token", token, 1)
            for access, issued in self._state.entries("token").items():
                if issued.get("refresh") == token:
                    self._state.set_entry("token", access, None)

    def grant(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Return what the token endpoint answers to a form.

        Raises:
            GrantRefused: the form asks for what it may not have.
        """
        match form.get("grant_type"):
            case "refresh_token":
                refresh = form.get("refresh_token", "")
                return self._issue(self._holder(refresh), form.get("client_id", ""), refresh=refresh)
            case "authorization_code":
                account = form.get("code", "").removeprefix("code:")
                refresh = f"refresh:{account}"
                issued = self._issue(self._holder(refresh), form.get("client_id", ""), refresh=refresh)
                return {**issued, "refresh_token": refresh}
            case grant if grant == JWT_GRANT:
                claims = _claims(form.get("assertion", ""))
                return self._issue(claims.get("sub") or claims["iss"], claims["iss"])
            case _:
                raise GrantRefused("unsupported_grant_type", "Invalid grant_type")

    def _holder(self, refresh: str) -> str:
        account = refresh.removeprefix("refresh:").partition("/")[0]
        is_bad = self._state.entry("bad_token", refresh) is not None
        if is_bad or not refresh.startswith("refresh:") or "@" not in account:
            raise GrantRefused("invalid_grant", "Token has been expired or revoked.")
        return account

    def _issue(self, account: str, client: str, *, refresh: str = "") -> dict[str, Any]:
        lifetime_s = self._token_lifetime_s()
        with self._state.writing():
            token = "ya29." + self._state.new_word(40)
            issued = {
                "account": account,
                "client": client,
                "refresh": refresh,
                "expires_at": self._state.now_ms() + int(lifetime_s * 1000),
            }
            self._state.set_entry("token", token, issued)
        return {
            "access_token": token,
            "expires_in": int(lifetime_s),
            "scope": "https://www.googleapis.com/auth/drive",
            "token_type": "Bearer",
        }


def bad_credentials() -> Refusal:
    """The token is expired, revoked or nobody's."""
    return Refusal(401, "authError", "Invalid Credentials", location="Authorization", location_type="header")


def _claims(assertion: str) -> dict[str, Any]:
    try:
        body = assertion.split(".")[1]
        claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        if "@" not in claims["iss"]:
            raise ValueError(claims["iss"])
    except (ValueError, IndexError, KeyError, TypeError) as exc:
        raise GrantRefused("invalid_grant", "Invalid JWT") from exc
    return claims
