"""Brings driverun to a notebook that has none. Its source is the notebook's cell, so it imports nothing of ours.

The very driverun of the root is what runs: its wheel lies there (`driverun init`), is checked, and is unpacked into a
folder of its own. No package of the runtime is touched, and children find it by PYTHONPATH.
"""

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from typing import Any

SCOPE = "https://www.googleapis.com/auth/drive"
FOLDER = "application/vnd.google-apps.folder"
WHEEL = re.compile(r"driverun-[^-/]+-0_[0-9a-f]{16}-py3-none-any\.whl")


class NotReady(Exception):
    """driverun cannot be started; the message says why and what to do."""


def prepare(root: str, version: str, trusted_authors: str = "") -> None:
    """Sign in, and have the root's driverun on the import path, else the release `version`.

    Args:
        trusted_authors: e-mails of those whose code may run here beside that of the root's owner.

    Raises:
        NotReady: it is not to be had.
    """
    sign_in()
    place = os.path.join(os.path.expanduser("~"), ".cache", "driverun", "packages")
    try:
        found = wheel_of(drive_session(), root, trusted_authors)
    except NotReady:
        raise
    except Exception as exc:
        raise NotReady(
            f"Drive cannot be asked for the driverun of {root}: {exc}\n"
            "Run the cell again; if it stays so, use Runtime > Restart session and run it once more."
        ) from exc
    if found is None:
        folder = os.path.join(place, f"driverun-{version}")
        if not os.path.isdir(folder):
            install_release(version, folder)
    else:
        name, content = found
        folder = os.path.join(place, name[: -len(".whl")])
        if not os.path.isdir(folder):
            unpack(content(), folder)
    for name in [name for name in sys.modules if name.partition(".")[0] == "driverun"]:
        del sys.modules[name]  # of an earlier run of the cell, and perhaps of another version
    sys.path[:] = [folder, *(entry for entry in sys.path if not entry.startswith(place))]
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = [entry for entry in others if entry and not entry.startswith(place)]
    os.environ["PYTHONPATH"] = os.pathsep.join([folder, *kept])


def sign_in() -> None:
    """In Colab, as whoever runs the notebook. Elsewhere a login is expected to be there."""
    try:
        from google.colab import auth
    except ImportError:
        return
    try:
        auth.authenticate_user()
    except Exception as exc:
        raise NotReady(
            f"Google did not allow this notebook to see your Drive ({exc}).\n"
            "Run the cell again, choose your account in the window that opens, and allow all that it asks for. "
            "A blocked pop-up looks the same: allow pop-ups for this page."
        ) from exc


def drive_session() -> Any:
    """What asks Drive, with patience, as whoever is signed in; gives an object of `requests` and Drive's address."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util.retry import Retry

    endpoint = os.environ.get("DRIVERUN_DRIVE_ENDPOINT", "").rstrip("/")
    if endpoint:  # an emulator on this machine
        session = requests.Session()
        token = os.environ.get("DRIVERUN_DRIVE_TOKEN") or "user:person@example.com"
        session.headers["authorization"] = f"Bearer {token}"
    else:
        import google.auth
        from google.auth.transport.requests import AuthorizedSession

        endpoint = "https://www.googleapis.com"
        session = AuthorizedSession(google.auth.default(scopes=[SCOPE])[0])
    patient = Retry(total=6, backoff_factor=0.5, status_forcelist=[408, 429, 500, 502, 503, 504])
    session.mount("https://", HTTPAdapter(max_retries=patient))
    session.mount("http://", HTTPAdapter(max_retries=patient))

    def ask(path: str, **query: Any) -> Any:
        answer = session.get(
            f"{endpoint}/drive/v2/{path}",
            params={"supportsAllDrives": "true", **query},
            timeout=60,
        )
        if answer.status_code == 404:
            return None
        if answer.status_code == 401:
            raise NotReady(
                "Google does not accept the sign-in of this notebook any more.\n"
                "Use Runtime > Restart session, then run the cell again and allow what it asks for."
            )
        if not answer.ok:
            raise OSError(f"Drive answered {answer.status_code} {answer.reason}")
        return answer.content if query.get("alt") == "media" else answer.json()

    return ask


def wheel_of(ask: Any, root: str, trusted_authors: str = "") -> Any:
    """Name of the wheel that the root holds, and a function that brings it; None where it holds none.

    Raises:
        NotReady: there is no such root, or only people put one there who are not trusted.
    """
    root_id = folder = root_folder(ask, root)
    for name in (".driverun", "wheels"):
        inside = child_of(ask, folder, name)
        if inside is None:
            return None
        folder = inside
    listed = ask(
        "files",
        q=f"'{folder}' in parents and trashed = false",
        maxResults=1000,
        fields="items(id,title,modifiedDate,md5Checksum,"
        "lastModifyingUser(emailAddress,permissionId,isAuthenticatedUser))",
        includeItemsFromAllDrives="true",
    )
    wheels = [each for each in listed["items"] if WHEEL.fullmatch(each["title"])]
    if not wheels:
        return None
    wheels.sort(key=lambda each: (each["modifiedDate"], each["title"]), reverse=True)
    newest = wheels[0]
    if not (newest.get("lastModifyingUser") or {}).get("isAuthenticatedUser"):
        # What lies there runs with the right to all of this account's Drive, and many may write there.
        owners = (ask(f"files/{root_id}", fields="owners(emailAddress,permissionId)") or {}).get("owners", [])
        trusted = {name.lower() for name in re.split(r"[\s,;]+", trusted_authors) if name}
        trusted.update(name for owner in owners for name in names_of(owner))
        newest = next((each for each in wheels if is_of(each, trusted)), None)
    if newest is None:
        who = next(
            iter(names_of(wheels[0].get("lastModifyingUser") or {})), "somebody whom Drive does not name"
        )
        raise NotReady(
            f"the driverun on this root was put there by {who}, who is neither the root's owner nor trusted by you, "
            "so it is not run.\nHave the owner do it (driverun init, with the root's address), or name that account "
            "under trusted_authors in the form above."
        )

    def content() -> bytes:
        brought = ask(f"files/{newest['id']}", alt="media")
        if hashlib.md5(brought, usedforsecurity=False).hexdigest() != newest["md5Checksum"]:
            raise NotReady(f"{newest['title']} arrived damaged. Run the cell again.")
        return bytes(brought)

    return newest["title"], content


def names_of(account: Any) -> list[str]:
    """What Drive calls the account, the e-mail first, if it does not hide it."""
    names = (account.get("emailAddress"), account.get("permissionId"))
    return [name.lower() for name in names if name]


def is_of(file: Any, trusted: Any) -> bool:
    """Was the file changed last by this account, or by one of those?"""
    account = file.get("lastModifyingUser") or {}
    return bool(account.get("isAuthenticatedUser")) or not trusted.isdisjoint(names_of(account))


def root_folder(ask: Any, root: str) -> str:
    """The id of the root's folder."""
    scheme, _, path = root.strip().partition(":")
    path = path.strip("/")
    if scheme != "gdrive" or not path:
        raise NotReady(
            f"{root!r} is no folder on Drive. Write gdrive:path/under/My Drive, or gdrive://FOLDER_ID with the last "
            "part of the folder's address."
        )
    if root.strip().startswith("gdrive://"):
        if ask(f"files/{path}", fields="id") is None:
            raise NotReady(
                f"this account sees no folder {path}. Look at the id, and at whether the folder is shared with the "
                "account that you signed in with."
            )
        return path
    folder = "root"
    for name in path.split("/"):
        inside = child_of(ask, folder, name)
        if inside is None:
            raise NotReady(
                f"My Drive has no folder {path} ({name} is missing). Is it another account's, or spelt otherwise? "
                f"A new root is made on your own machine: driverun init gdrive:{path}"
            )
        folder = inside
    return folder


def child_of(ask: Any, parent: str, name: str) -> Any:
    """The id of the oldest folder of that name; None if there is none."""
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    listed = ask(
        "files",
        q=f"'{parent}' in parents and title = '{escaped}' and mimeType = '{FOLDER}' and trashed = false",
        fields="items(id,createdDate)",
        includeItemsFromAllDrives="true",
    )
    oldest = min(listed["items"], key=lambda each: (each["createdDate"], each["id"]), default=None)
    return oldest and oldest["id"]


def unpack(wheel: bytes, folder: str) -> None:
    """Put what is in the wheel into `folder`, whole or not at all."""
    shutil.rmtree(f"{folder}.part", ignore_errors=True)
    zipfile.ZipFile(io.BytesIO(wheel)).extractall(f"{folder}.part")
    os.rename(f"{folder}.part", folder)


def install_release(version: str, folder: str) -> None:
    """Have pip put the released driverun into `folder`, without what it requires: Colab has all but cronsim."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", f"{folder}.part"]
    shutil.rmtree(f"{folder}.part", ignore_errors=True)
    done = subprocess.run(
        [*command, f"driverun=={version}", "cronsim"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        complaint = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise NotReady(
            f"the root holds no driverun, and pip did not bring version {version}: {complaint}\n"
            "Put one there from your own machine: driverun init, with the root's address."
        )
    os.rename(f"{folder}.part", folder)
