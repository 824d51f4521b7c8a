"""The test's side of a stand-in for Google Colab.

A kernel is started like this, with nbclient and ipykernel, and everything else in the process's environment as it was:

    stand_in = ColabStandIn(tmp_path / "colab")
    stand_in.my_drive.joinpath("driverun").mkdir()
    client = NotebookClient(nbformat.read("launch.ipynb", as_version=4), kernel_name="python3")
    client.execute(env=stand_in.over({**os.environ, "DRIVERUN_COLAB_MOUNT": str(stand_in.mountpoint)}))

The power goes in three lines: end the kernel's process and its children with SIGKILL, see that `execute` raises
DeadKernelError, call `power_cut`. The next kernel finds what had reached the cloud.

A cell may also run in a plain process, `python -c`, or in the test's own (`sys.path`, `os.environ`). In Colab, mounting
and authenticating fail there, for want of a kernel, and so they do here until `kernel_needed` is False.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from driverun.testing.colab.package.google.colab._cache import Cache
from driverun.testing.colab.package.google.colab._faults import TEXTS
from driverun.testing.colab.package.google.colab._scene import (
    JOURNAL_NAME,
    SETTINGS_NAME,
    VARIABLE,
    read_settings,
)

RELEASE_TAG = "release-colab-external_20261119-060047_RC00"  #: of the form that Colab's have

#: How mounting fails when the first listing of My Drive takes too long, as it does with many files at its top.
MOUNT_TIMEOUT = (
    "mount failed: timeout during initial read of root folder; for more info: "
    "https://research.google.com/colaboratory/faq.html#drive-timeout"
)
#: What accounts of an organisation hear that has Drive's program switched off.
DOMAIN_POLICY = (
    "The domain policy has disabled Drive File Stream: https://support.google.com/a/answer/7496409"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of `google.colab`."""

    name: str  #: as in `runtime.unassign`
    at: datetime  #: when it began; aware, UTC
    arguments: Mapping[
        str, Any
    ]  #: by name, with those that were left to their defaults; None for self-evident ones
    pid: int  #: of the process that called


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """What a person keeps under a name."""

    value: str
    granted: bool = True  #: whether the notebook may have it


class ColabStandIn:
    """A Colab in a folder: what its calls do, what they did, My Drive, and the disk of the runtime.

    Attributes:
        my_drive: My Drive as the cloud has it; put there what a person would have put there.
        content: the runtime's own disk, as `/content` there; a power cut takes it away.
        mountpoint: a place on it that does for `drive.mount`.
        package_path: what has to be on PYTHONPATH.
    """

    def __init__(self, folder: Path) -> None:
        """Open what is in `folder`, or begin it anew."""
        self._folder = folder.resolve()
        self.my_drive = self._folder / "cloud"
        self.content = self._folder / "vm" / "content"
        self.mountpoint = self.content / "drive"
        self.package_path = Path(__file__).parent / "package"
        self.my_drive.mkdir(parents=True, exist_ok=True)
        self.content.mkdir(parents=True, exist_ok=True)
        self._cache = Cache(self._folder)

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs to be in this Colab; `over` keeps a PYTHONPATH that there is already."""
        return {
            VARIABLE: str(self._folder),
            "COLAB_RELEASE_TAG": RELEASE_TAG,
            "PYTHONPATH": str(self.package_path),
        }

    def over(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return `environment` with this Colab in it."""
        paths = [str(self.package_path), environment.get("PYTHONPATH", "")]
        return {**environment, **self.environment, "PYTHONPATH": os.pathsep.join(filter(None, paths))}

    def fail(self, call: str, error: str, message: str = "", times: int | None = None) -> None:
        """Let a call end with an error from now on.

        Args:
            call: as in `drive.mount`.
            error: the name of the error's class; which of them a call may end with, the table of texts says.
            message: empty: what Colab says.
            times: not more often than this; None: until `heal`.

        Raises:
            ValueError: the call has no such error.
        """
        texts = TEXTS.get(call, {})
        if error not in texts:
            known = ", ".join(f"{name}: {one}" for name, errors in TEXTS.items() for one in errors)
            raise ValueError(
                f"cannot let {call} end with {error}: not among what is known of Colab ({known})"
            )
        settings = read_settings(self._folder)
        ordered = settings["faults_ordered"] + 1
        fault = {
            "id": ordered,
            "call": call,
            "error": error,
            "message": message or texts[error],
            "times": times,
        }
        self._change(faults=[*settings["faults"], fault], faults_ordered=ordered)

    def break_mount(self) -> None:
        """Let the mount die: My Drive is no folder any more, and raises OSError (Colab: ENOTCONN; here: ELOOP).

        Mounting again by force begins with what the cloud has. Without a mount, nothing happens.
        """
        if self._cache.is_mounted:
            self._cache.break_off()

    def heal(self) -> None:
        """Let everything go well again; a mount that died is back with what was written before."""
        self._change(faults=[])
        self._cache.mend()

    @property
    def hosted(self) -> bool:
        """Whether this is a runtime of Colab's own; else nothing can be mounted."""
        return bool(read_settings(self._folder)["hosted"])

    @hosted.setter
    def hosted(self, value: bool) -> None:
        self._change(hosted=value)

    @property
    def kernel_needed(self) -> bool:
        """Whether the page answers a kernel alone, as in Colab."""
        return bool(read_settings(self._folder)["kernel_needed"])

    @kernel_needed.setter
    def kernel_needed(self, value: bool) -> None:
        self._change(kernel_needed=value)

    @property
    def secrets(self) -> Mapping[str, Secret]:
        """What `userdata.get` gives, by name."""
        return {name: Secret(**one) for name, one in read_settings(self._folder)["secrets"].items()}

    @secrets.setter
    def secrets(self, secrets: Mapping[str, Secret]) -> None:
        self._change(
            secrets={name: {"value": one.value, "granted": one.granted} for name, one in secrets.items()}
        )

    def journal(self) -> list[Call]:
        """Return every call so far, in the order in which they began."""
        path = self._folder / JOURNAL_NAME
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [
            Call(
                name=line["name"],
                at=datetime.fromisoformat(line["at"]),
                arguments=line["arguments"],
                pid=line["pid"],
            )
            for line in map(json.loads, lines)
        ]

    def pending(self) -> list[str]:
        """Return the paths, from My Drive, of what the runtime wrote or deleted and the cloud does not know yet."""
        return self._cache.pending()

    def settle(self) -> None:
        """Let the mount and the cloud agree, as they do after a while.

        What is pending goes up first, then what is new comes down. Without a mount that lives, nothing happens.
        """
        if self._cache.is_mounted and not self._cache.is_dead:
            self._cache.push()
            self._cache.pull()

    def power_cut(self) -> None:
        """Take the runtime's disk away, with the mount, with what was pending, and with what the person had granted.

        Its processes are the test's to end, before.
        """
        self._cache.detach()
        shutil.rmtree(self._folder / "vm")
        self.content.mkdir(parents=True)

    def _change(self, **changed: object) -> None:
        """Write settings; a reader sees the old ones or the new ones."""
        written = self._folder / f"{SETTINGS_NAME}.{uuid4().hex}"
        written.write_text(json.dumps({**read_settings(self._folder), **changed}), encoding="utf-8")
        os.replace(written, self._folder / SETTINGS_NAME)
