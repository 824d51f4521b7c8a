"""The login of a person on a machine that is not Colab: OAuth for installed apps, on loopback.

The person brings a client file of a Google Cloud project of their own. The browser comes back to a port of this
machine (RFC 8252), with proof that it was we who asked (PKCE, RFC 7636).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import html
import json
import os
import secrets
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import google.oauth2.credentials

from driverun.errors import TransientStoreError, UsageError
from driverun.storage.drive.auth import SCOPES
from driverun.storage.drive.errors import Answer, DriveRefusal, foreign_errors
from driverun.storage.drive.transport import Connections, is_loopback

LOGIN_FILE = "drive-login.json"  #: below the user's config folder
PATIENCE_S = 300.0  #: for how long the browser is waited for
SEVEN_DAYS = (
    "If the app's publishing status is Testing (Google Cloud console, Google Auth Platform > Audience), Google ends "
    "this login after seven days. Publish the app there, which costs nothing and needs no review for yourself, and "
    "log in once more."
)
_HOSTS = ("accounts.google.com", "oauth2.googleapis.com", "www.googleapis.com")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFile:
    """What Google gives to whoever creates an OAuth client of type "Desktop app"."""

    client_id: str
    client_secret: str
    auth_address: str
    token_address: str

    @classmethod
    def read(cls, file: Path) -> ClientFile:
        """Read the JSON file as it was downloaded.

        Raises:
            UsageError: it is none; the message says which kind is wanted.
        """
        wanted = (
            "Give the client file of an OAuth client of the type Desktop app (Google Cloud console, Google Auth "
            "Platform > Clients > Create client > Download JSON)."
        )
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as exc:
            raise UsageError(f"cannot log in with {file}: {exc}. {wanted}") from exc
        if isinstance(content, dict) and content.get("type") == "service_account":
            raise UsageError(
                f"cannot log in with {file}: it is the key of a service account, which needs no login. "
                f"Set GOOGLE_APPLICATION_CREDENTIALS={file}; the root has to be on a shared drive."
            )
        if isinstance(content, dict) and "web" in content:
            raise UsageError(f"cannot log in with {file}: it is for a web application. {wanted}")
        try:
            installed = content["installed"]
            found = cls(
                client_id=str(installed["client_id"]),
                client_secret=str(installed["client_secret"]),
                auth_address=str(installed["auth_uri"]),
                token_address=str(installed["token_uri"]),
            )
        except (KeyError, TypeError) as exc:
            raise UsageError(f"cannot log in with {file}: it is no client file. {wanted}") from exc
        for address in (found.auth_address, found.token_address):
            if urllib.parse.urlsplit(address).hostname not in _HOSTS and not is_loopback(address):
                raise UsageError(f"cannot log in with {file}: {address} is not Google's. {wanted}")
        return found


def login_file(environment: Mapping[str, str], *, home: Path) -> Path:
    """Where the login of this user lies."""
    return Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "driverun" / LOGIN_FILE


def stored_login(
    environment: Mapping[str, str], *, home: Path
) -> google.oauth2.credentials.Credentials | None:
    """What `driverun login` has left here; None if nobody has logged in.

    Raises:
        UsageError: the file is damaged.
    """
    file = login_file(environment, home=home)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return google.oauth2.credentials.Credentials(
            None,
            refresh_token=content["refresh_token"],
            client_id=content["client_id"],
            client_secret=content["client_secret"],
            token_uri=content["token_uri"],
            scopes=list(SCOPES),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as exc:
        raise UsageError(f"cannot use the login in {file}: {exc}. Log in again: driverun login") from exc


def stored_client(file: Path) -> ClientFile:
    """The client of the login in `file`, to log in with again.

    Raises:
        UsageError: nobody has logged in here yet.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return ClientFile(
            client_id=str(content["client_id"]),
            client_secret=str(content["client_secret"]),
            auth_address=str(content["auth_uri"]),
            token_address=str(content["token_uri"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise UsageError(
            "cannot log in: which OAuth client is to be used? Give its file, once: driverun login --client-file "
            "client.json. docs/drive.md tells step by step how to get one."
        ) from exc


def log_in(client: ClientFile, file: Path, *, show: Callable[[str], None]) -> None:
    """Have the person allow access in a browser of this machine, and keep the login in `file`.

    Args:
        show: is called with the address to be opened, once there is somebody to come back to.

    Raises:
        UsageError: access was not allowed, or nobody came within PATIENCE_S; `file` was not touched.
        TransientStoreError: Google's login service is out of reach.
    """
    verifier, state = secrets.token_urlsafe(64), secrets.token_urlsafe(24)
    with _listening(state) as listener:
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        question = {
            "client_id": client.client_id,
            "redirect_uri": listener.address,
            "response_type": "code",
            "scope": " ".join(SCOPES),
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "access_type": "offline",
            "prompt": "consent",  # else Google leaves out the refresh token of who has logged in before
        }
        show(f"{client.auth_address}?{urllib.parse.urlencode(question)}")
        code = listener.wait()
    try:
        answer = _exchanged(client, code, verifier, listener.address)
    except DriveRefusal as exc:
        raise TransientStoreError(f"cannot log in: {exc.text}. Try again.") from exc
    if not set(SCOPES) <= set(str(answer.get("scope", "")).split()):
        raise UsageError(
            "cannot log in: access to Drive was not allowed. Try again, and tick the box for Drive."
        )
    if "refresh_token" not in answer:
        raise UsageError("cannot log in: Google gave no lasting login. Try again.")
    keep_login(
        file,
        {
            "type": "authorized_user",
            "client_id": client.client_id,
            "client_secret": client.client_secret,
            "refresh_token": answer["refresh_token"],
            "token_uri": client.token_address,
            "auth_uri": client.auth_address,
        },
    )


def keep_login(file: Path, content: Mapping[str, str]) -> None:
    """Put a login in place of an older one. Nobody else on this machine may ever read it."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w", encoding="utf-8") as out:
            json.dump(content, out, indent=1)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


class _Listener:
    """Waits for the browser."""

    def __init__(self, server: HTTPServer, answers: list[Mapping[str, str]]) -> None:
        self._server = server
        self._answers = answers

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def wait(self) -> str:
        """The code that the browser brings."""
        self._server.timeout = PATIENCE_S
        while not self._answers:
            before = len(self._answers)
            timed_out = False

            def give_up() -> None:
                nonlocal timed_out
                timed_out = True

            self._server.handle_timeout = give_up  # type: ignore[method-assign]
            self._server.handle_request()
            if timed_out and len(self._answers) == before:
                raise UsageError(
                    f"cannot log in: no browser came back within {PATIENCE_S / 60:.0f} minutes. On a machine without "
                    f"one, log in on another and copy {LOGIN_FILE} from its config folder."
                )
        answer = self._answers[0]
        if "code" not in answer:
            raise UsageError(
                f"cannot log in: access was not allowed ({answer.get('error', 'no reason given')}). "
                "For an app in Testing, add yourself under Google Auth Platform > Audience > Test users."
            )
        return answer["code"]


@contextlib.contextmanager
def _listening(state: str) -> Iterator[_Listener]:
    answers: list[Mapping[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
            if not secrets.compare_digest(query.get("state", ""), state):
                self.send_error(404)  # the browser's wish for an icon, or somebody else
                return
            answers.append(query)
            text = "driverun is logged in." if "code" in query else "Access was not allowed."
            body = f"<!doctype html><title>driverun</title><p>{html.escape(text)} You may close this page."
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing: the address holds the code."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        yield _Listener(server, answers)


def _exchanged(client: ClientFile, code: str, verifier: str, redirect: str) -> Mapping[str, Any]:
    """Google's answer to the code: the tokens."""
    question = {
        "client_id": client.client_id,
        "client_secret": client.client_secret,
        "code": code,
        "code_verifier": verifier,
        "grant_type": "authorization_code",
        "redirect_uri": redirect,
    }
    with foreign_errors():
        answer = Connections().request("POST", client.token_address, fields=question, encode_multipart=False)
        fields = json.loads(answer.data)
    if answer.status != 200 or not isinstance(fields, dict):
        told = Answer(status=answer.status, content=answer.data, headers={})
        why = (
            fields.get("error_description") or fields.get("error")
            if isinstance(fields, dict)
            else told.message
        )
        raise UsageError(f"cannot log in: Google refused ({answer.status}, {why}). Try again.")
    return fields
