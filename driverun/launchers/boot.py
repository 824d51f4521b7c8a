"""What the kernel of a Colab VM executes for `driverun launch`: one worker, with whose end the VM ends.

It is sent as text, as it stands here. So it imports nothing of driverun, which is not there yet, and holds no secret,
because `colab` keeps a history of the code that it sends. The login lies beside it, in a file.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: Names of files that were uploaded to the folder in which the kernel stands.
SETTINGS_NAME = "driverun-launch.json"
LOGIN_NAME = "driverun-launch-login.json"
INSTALLED_NAME = "driverun-launch"  #: the folder that the wheel is unpacked into

ENDED = "driverun-launch: the worker ended with"  #: comes before its exit code
RELEASING = "driverun-launch: releasing this VM"

KEY_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"


def login_place(environment: Mapping[str, str], home: Path) -> Path:
    """Where `driverun login` keeps a person's login, on this machine or on that."""
    return Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "driverun" / "drive-login.json"


def boot(place: Path) -> None:
    """Work until nothing is left or the time is up, say how that ended, and give the VM back, whatever happened.

    Args:
        place: the folder with the wheel, the settings and the login.
    """
    code: object = None
    logins = [place / LOGIN_NAME]
    try:
        settings: dict[str, Any] = json.loads((place / SETTINGS_NAME).read_text(encoding="utf-8"))
        logins.append(take_login(place / LOGIN_NAME, is_key=settings["login_is_key"]))
        os.environ.update(settings["environment"])
        install(place / settings["wheel"], place / INSTALLED_NAME)
        code = work(settings["arguments"])
    finally:
        tell(f"{ENDED} {code}")
        for login in logins:
            login.unlink(missing_ok=True)
        tell(RELEASING)
        release()


def take_login(uploaded: Path, *, is_key: bool) -> Path:
    """Put the login where driverun looks for it, readable by nobody else; gives the place."""
    place = login_place(os.environ, Path.home())
    if is_key:
        place = place.with_name("service-account.json")
        os.environ[KEY_VARIABLE] = str(place)
    content = uploaded.read_bytes()
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    place.unlink(missing_ok=True)
    with open(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(content)
    uploaded.unlink()
    return place


def install(wheel: Path, folder: Path) -> None:
    """Have the wheel's driverun be the one that is imported; no other package is touched.

    A wheel of Python alone is an archive of what belongs on the path, so this needs no installer, no network, and no
    say of whatever is installed.
    """
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    sys.path.insert(0, str(folder))


def work(arguments: Sequence[str]) -> object:
    """Run `driverun` with `arguments` in this process, so that the kernel is busy; gives its exit code."""
    before = sys.argv
    sys.argv = ["driverun", *arguments]
    try:
        runpy.run_module("driverun", run_name="__main__")
    except SystemExit as exc:
        return 0 if exc.code is None else exc.code
    finally:
        sys.argv = before
    return 0


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def release() -> None:
    """Give the VM back. It asks the VM itself, so nobody has to be connected."""
    from google.colab import runtime

    runtime.unassign()


if __name__ == "__main__":
    boot(Path.cwd())
