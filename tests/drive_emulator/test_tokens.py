"""Bearer tokens and the endpoint that issues them."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from driverun.testing.clock import FakeClock
from driverun.testing.drive_emulator import DriveEmulator
from tests.drive_emulator.speaking import Speaker


def asked(speaker: Speaker, **form: str) -> Any:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    return speaker.request("POST", "/token", urlencode(form).encode(), kind)


def with_token(emulator: DriveEmulator, token: str | None) -> tuple[int, str]:
    speaker = Speaker(emulator.url, token)
    found = speaker.call("GET", "about")
    speaker.close()
    return found.status, found.json["user"]["emailAddress"] if found.status == 200 else found.reason


def test_a_token_names_its_account(emulator: DriveEmulator) -> None:
    assert with_token(emulator, "user:carol@example.com") == (200, "carol@example.com")
    assert with_token(emulator, "user:carol@example.com/a-client") == (200, "carol@example.com")
    assert with_token(emulator, "something else") == (401, "authError")
    assert with_token(emulator, None) == (401, "required")


def test_a_token_may_come_in_the_query(emulator: DriveEmulator) -> None:
    speaker = Speaker(emulator.url, None)
    assert speaker.call("GET", "about", access_token="user:carol@example.com").status == 200
    assert "carol" not in emulator.requests[-1].query
    speaker.close()


def test_a_refresh_token_gives_access_until_it_is_revoked(
    emulator: DriveEmulator, alice: Speaker, clock: FakeClock
) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": "refresh:alice@example.com", "client_id": "c"}
    issued = asked(alice, **form).json
    assert issued["expires_in"] == 3599
    token = issued["access_token"]
    assert with_token(emulator, token) == (200, "alice@example.com")
    clock.advance(seconds=3600)
    assert with_token(emulator, token) == (401, "authError")
    token = asked(alice, **form).json["access_token"]
    emulator.expire_tokens("bob@example.com")
    assert with_token(emulator, token)[0] == 200
    emulator.expire_tokens()
    assert with_token(emulator, token)[0] == 401
    token = asked(alice, **form).json["access_token"]
    emulator.revoke("refresh:alice@example.com")
    assert with_token(emulator, token)[0] == 401
    refused = asked(alice, **form)
    assert (refused.status, refused.json["error"]) == (400, "invalid_grant")


def test_a_plain_token_expires_on_order(emulator: DriveEmulator, alice: Speaker) -> None:
    assert alice.call("GET", "about").status == 200
    emulator.expire_tokens()
    refused = alice.call("GET", "about")
    assert (refused.status, refused.reason) == (401, "authError")
    assert "invalid_token" in refused.headers["www-authenticate"]


def test_a_service_account_signs_in_by_assertion(emulator: DriveEmulator, alice: Speaker) -> None:
    grant = "urn:ietf:params:oauth:grant-type:jwt-bearer"

    def assertion(**claims: str) -> str:
        parts = [{"alg": "RS256"}, claims, {}]
        return ".".join(base64.urlsafe_b64encode(json.dumps(one).encode()).decode() for one in parts)

    robot = "robot@p.iam.gserviceaccount.com"
    issued = asked(alice, grant_type=grant, assertion=assertion(iss=robot)).json
    assert with_token(emulator, issued["access_token"]) == (200, robot)
    for_alice = asked(alice, grant_type=grant, assertion=assertion(iss=robot, sub="alice@example.com"))
    assert with_token(emulator, for_alice.json["access_token"]) == (200, "alice@example.com")
    assert asked(alice, grant_type=grant, assertion="a.b.c").json["error"] == "invalid_grant"
    assert asked(alice, grant_type="password").json["error"] == "unsupported_grant_type"


def test_a_browser_comes_back_with_a_code(emulator: DriveEmulator, alice: Speaker) -> None:
    query = urlencode(
        {"redirect_uri": "http://localhost:1/", "state": "s", "login_hint": "carol@example.com"}
    )
    sent_back = alice.request("GET", f"/o/oauth2/v2/auth?{query}")
    assert sent_back.status == 302
    given = parse_qs(urlsplit(sent_back.headers["location"]).query)
    assert given["state"] == ["s"]
    issued = asked(alice, grant_type="authorization_code", code=given["code"][0]).json
    assert with_token(emulator, issued["access_token"]) == (200, "carol@example.com")
    assert issued["refresh_token"] == "refresh:carol@example.com"
    assert alice.request("POST", f"/revoke?token={issued['access_token']}").status == 200
    assert with_token(emulator, issued["access_token"])[0] == 401
    assert alice.request("GET", "/o/oauth2/v2/auth").status == 400
    assert alice.request("POST", "/revoke").status == 400


def test_google_auth_refreshes_its_credentials(emulator: DriveEmulator) -> None:
    credentials = pytest.importorskip("google.oauth2.credentials")
    transport = pytest.importorskip("google_auth_httplib2")
    import httplib2

    user = credentials.Credentials(
        None,
        refresh_token="refresh:alice@example.com",
        token_uri=f"{emulator.url}/token",
        client_id="id",
        client_secret="secret",
    )
    http = httplib2.Http(timeout=10)
    authorized = transport.AuthorizedHttp(user, http=http)
    for _ in range(2):
        answer, _ = authorized.request(f"{emulator.url}/drive/v2/about")
        assert answer.status == 200
        emulator.expire_tokens()  # the next call gets 401 first, and refreshes
    assert [one.status for one in emulator.requests if one.method_id != "token"] == [200, 401, 200]
    emulator.revoke("refresh:alice@example.com")
    with pytest.raises(Exception, match="invalid_grant"):
        authorized.request(f"{emulator.url}/drive/v2/about")
    http.close()
