from __future__ import annotations

import base64
import hashlib
import json
import stat
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from driverun.errors import TransientStoreError, UsageError
from driverun.storage.drive.login import (
    ClientFile,
    keep_login,
    log_in,
    login_file,
    stored_client,
    stored_login,
)
from tests.storage.drive.conftest import ScriptedServer, Told

TOKENS = {
    "access_token": "ya29.x",
    "refresh_token": "1//secret",
    "scope": "openid https://www.googleapis.com/auth/drive",
    "expires_in": 3599,
}


def client_of(server: ScriptedServer) -> ClientFile:
    return ClientFile(
        client_id="id.apps.googleusercontent.com",
        client_secret="no-secret",
        auth_address=f"{server.url}/auth",
        token_address=f"{server.url}/token",
    )


class Browser:
    """Comes back to whoever asked, with what Google would send along."""

    def __init__(self, **answer: str) -> None:
        self.answer = answer
        self.question: dict[str, str] = {}
        self.pages: list[str] = []
        self._thread: threading.Thread | None = None

    def __call__(self, address: str) -> None:
        self.question = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(address).query))
        self._thread = threading.Thread(target=self._come_back)
        self._thread.start()

    def _come_back(self) -> None:
        for query in ({}, {"state": "of somebody else", "code": "theirs"}):
            with pytest.raises(urllib.error.HTTPError):
                self._get(query)
        self.pages.append(self._get({"state": self.question["state"], **self.answer}))

    def _get(self, query: dict[str, str]) -> str:
        address = f"{self.question['redirect_uri']}/?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address) as answer:
            return str(answer.read().decode())

    def join(self) -> None:
        assert self._thread is not None
        self._thread.join()


def test_a_login_is_kept_for_its_owner_alone(server: ScriptedServer, tmp_path: Path) -> None:
    server.script = lambda asked: Told(body=json.dumps(TOKENS).encode())
    file = login_file({}, home=tmp_path)
    browser = Browser(code="4/code")
    log_in(client_of(server), file, show=browser)
    browser.join()
    assert "logged in" in browser.pages[0]
    assert file == tmp_path / ".config/driverun/drive-login.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in file.parent.iterdir()] == [file.name]
    login = stored_login({}, home=tmp_path)
    assert login is not None
    assert (login.refresh_token, login.client_id) == ("1//secret", "id.apps.googleusercontent.com")
    assert login.token_uri == f"{server.url}/token"
    assert stored_client(file) == client_of(server)


def test_the_login_asks_for_drive_and_proves_that_it_asked(server: ScriptedServer, tmp_path: Path) -> None:
    server.script = lambda asked: Told(body=json.dumps(TOKENS).encode())
    browser = Browser(code="4/code")
    log_in(client_of(server), tmp_path / "login.json", show=browser)
    browser.join()
    assert browser.question["scope"] == "https://www.googleapis.com/auth/drive"
    assert (browser.question["access_type"], browser.question["prompt"]) == ("offline", "consent")
    assert browser.question["redirect_uri"].startswith("http://127.0.0.1:")
    [asked] = server.asked
    sent = dict(urllib.parse.parse_qsl(asked.body.decode()))
    challenge = base64.urlsafe_b64encode(hashlib.sha256(sent["code_verifier"].encode()).digest())
    assert challenge.decode().rstrip("=") == browser.question["code_challenge"]
    assert (sent["code"], sent["redirect_uri"]) == ("4/code", browser.question["redirect_uri"])


@pytest.mark.parametrize(
    ("answer", "told", "words"),
    [
        ({"error": "access_denied"}, Told(), "access_denied"),
        ({"code": "4/x"}, Told(400, b'{"error": "invalid_grant"}'), "invalid_grant"),
        ({"code": "4/x"}, Told(body=json.dumps({**TOKENS, "scope": "openid"}).encode()), "tick the box"),
        (
            {"code": "4/x"},
            Told(body=json.dumps({"scope": TOKENS["scope"]}).encode()),
            "no lasting login",
        ),
    ],
)
def test_what_is_not_allowed_leaves_the_older_login(
    server: ScriptedServer, tmp_path: Path, answer: dict[str, str], told: Told, words: str
) -> None:
    server.script = lambda asked: told
    file = tmp_path / "login.json"
    keep_login(file, {"refresh_token": "older"})
    browser = Browser(**answer)
    with pytest.raises(UsageError, match=words):
        log_in(client_of(server), file, show=browser)
    browser.join()
    assert json.loads(file.read_text()) == {"refresh_token": "older"}


def test_a_login_service_that_breaks_off_is_said_to(server: ScriptedServer, tmp_path: Path) -> None:
    server.script = lambda asked: Told(is_lost=True)
    browser = Browser(code="4/x")
    with pytest.raises(TransientStoreError, match="log in"):
        log_in(client_of(server), tmp_path / "login.json", show=browser)
    browser.join()


def written(tmp_path: Path, content: Any) -> Path:
    file = tmp_path / "client.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


INSTALLED = {
    "client_id": "id",
    "client_secret": "secret",
    "auth_uri": "https://accounts.google.com/o/oauth2/auth",
    "token_uri": "https://oauth2.googleapis.com/token",
}


def test_a_client_file_is_read_as_google_writes_it(tmp_path: Path) -> None:
    client = ClientFile.read(written(tmp_path, {"installed": INSTALLED}))
    assert (client.client_id, client.token_address) == ("id", "https://oauth2.googleapis.com/token")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("no json", "Expecting value"),
        ([], "no client file"),
        ({"installed": {}}, "no client file"),
        ({"web": INSTALLED}, "web application"),
        ({"type": "service_account"}, "GOOGLE_APPLICATION_CREDENTIALS"),
        ({"installed": {**INSTALLED, "token_uri": "https://evil.example/token"}}, "is not Google's"),
    ],
)
def test_another_file_is_refused_by_name(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        ClientFile.read(written(tmp_path, content))
    assert "client.json" in str(caught.value)


def test_without_a_login_there_is_none(tmp_path: Path) -> None:
    assert stored_login({}, home=tmp_path) is None
    with pytest.raises(UsageError, match="--client-file"):
        stored_client(tmp_path / "none")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"refresh_token": "x"}'])
def test_a_damaged_login_says_how_to_make_another(tmp_path: Path, content: str) -> None:
    environment = {"XDG_CONFIG_HOME": str(tmp_path)}
    file = login_file(environment, home=Path("/nowhere"))
    file.parent.mkdir()
    file.write_text(content)
    with pytest.raises(UsageError, match="driverun login"):
        stored_login(environment, home=Path("/nowhere"))
