"""Google's `colab` command as a thing to hold: VMs are made, given files and code, and given back.

Read from google-colab-cli 0.7.5. It has no machine-readable output, so its text is parsed; and its exit codes are not
looked at, because they lie: `exec` ends with 0 after an exception, `stop` with 1 for a VM that is gone already and
with 0 for one that it has forgotten but that still runs and costs.
"""

from __future__ import annotations

import enum
import os
import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from driverun.clock import Clock
from driverun.launchers.colab_cli_process import Call, Commands

#: What `colab new --gpu` knows. It takes any other name, and gives an A100 for it, without a word.
GPUS = ("T4", "L4", "G4", "A100", "H100")

COMMAND_S = 180.0  #: for a command that asks something
NEW_S = 900.0  #: for a VM: the command itself asks four times, with pauses of up to 40 s
UPLOAD_S = 600.0
STOP_TRIES = 4
STOP_PAUSE_S = 5.0

SIGN_IN = "Sign in once, by hand, in a terminal of this machine: colab sessions"
INSTALL = "Install it: uv tool install google-colab-cli. Then sign in once, by hand: colab sessions"
MANAGE = "https://colab.research.google.com, Runtime > Manage sessions"

_SESSION = re.compile(
    r"^\[(?P<name>[^\]]*)\] (?P<endpoint>\S+) \| Hardware: (?P<hardware>[^|]*?)\s*(?:\||$)", re.M
)
_NONE = "No active sessions found on server."
_BALANCE = re.compile(r"^Current balance: ([-+0-9.]+) compute units", re.M)
_RATE = re.compile(r"^Usage rate: ([-+0-9.]+)/hr", re.M)
_SIGNED_OUT = (
    "To authorize colab-cli, visit",
    "Enter the authorization code",
    "No valid default credentials",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A VM that the account has, as the server lists it."""

    name: str  #: "?": it was made elsewhere, or `colab` has forgotten that it made it
    endpoint: str
    hardware: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Compute units."""

    balance: float
    rate_per_hour: float  #: of all VMs of the account together


class Reply(enum.Enum):
    """How a request for a VM went."""

    MADE = "made"
    REFUSED = "Colab has none to give now, or the account has too many"  #: HTTP 412 means either
    NOT_ENTITLED = "the account may not have this GPU"
    SIGNED_OUT = "nobody is signed in"
    UNCLEAR = "unclear"  #: there may be a VM or not


class ColabCommand:
    """`colab`, with the notes of one VM in a file of their own.

    The notes are what ties a name to a VM. `colab` drops them when it believes that the VM is lost, and cannot stop it
    any more, so a copy is kept here and put back.
    """

    def __init__(
        self, commands: Commands, *, notes: Path, clock: Clock, stop_pause_s: float = STOP_PAUSE_S
    ) -> None:
        """Nothing is called yet.

        Args:
            notes: the file; its name, without suffix, is the VM's.
            stop_pause_s: before the second try to stop; doubled each time.
        """
        self._commands = commands
        self._clock = clock
        self._stop_pause_s = stop_pause_s
        self._copy: bytes | None = None
        self.notes = notes
        self.name = notes.stem
        self.endpoint: str | None = None  #: known once the VM was listed
        self.strangers: tuple[str, ...] = ()  #: VMs that appeared while this one was asked for and did not

    def usage(self) -> tuple[Usage | None, str]:
        """The account's compute units, or None and what the command said; `is_signed_out` tells more."""
        text = self._run("usage")
        balance, rate = _BALANCE.search(text), _RATE.search(text)
        if balance is None:
            return None, text
        rate_per_hour = float(rate[1]) if rate is not None else 0.0
        return Usage(balance=float(balance[1]), rate_per_hour=rate_per_hour), text

    def sessions(self) -> list[Session] | None:
        """The VMs of the account; None where the command did not tell."""
        self._put_back()  # with none it says "No active sessions" even where nobody is signed in
        text = self._run("sessions")
        found = [Session(**match.groupdict()) for match in _SESSION.finditer(text)]
        if found or (_NONE in text and not is_signed_out(text)):
            return found
        return None

    def new(self, gpu: str) -> tuple[Reply, str]:
        """Ask for a VM; gives how that went, and what the command said.

        It is MADE where the server lists it, whatever the command says, and of the hardware that was asked for.
        """
        self.notes.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        before = self.sessions()
        text = self._run("new", "-s", self.name, "--gpu", gpu, timeout_s=NEW_S)
        if "Allocation refused" in text:
            return Reply.REFUSED, text
        if "Backend rejected accelerator" in text:
            return Reply.NOT_ENTITLED, text
        if is_signed_out(text):
            return Reply.SIGNED_OUT, text
        with suppress(FileNotFoundError):
            self._copy = self.notes.read_bytes()
        listed = self.sessions()
        mine = next((each for each in listed or () if each.name == self.name), None)
        if mine is None:
            known = {each.endpoint for each in before or ()}
            if before is not None:
                self.strangers = tuple(each.endpoint for each in listed or () if each.endpoint not in known)
            return Reply.UNCLEAR, text
        self.endpoint = mine.endpoint
        if mine.hardware.upper() != gpu.upper():
            return Reply.UNCLEAR, f"a {gpu} was asked for, a {mine.hardware} came"
        return Reply.MADE, text

    def is_there(self) -> bool | None:
        """Does the server list the VM? None where it cannot be learned."""
        listed = self.sessions()
        if listed is None:
            return None
        return any(each.name == self.name or each.endpoint == self.endpoint for each in listed)

    def upload(self, local: Path, name: str) -> str | None:
        """Put a file into the folder in which code is executed; None, or what the command said where it did not."""
        text = self._run("upload", "-s", self.name, str(local), f"content/{name}", timeout_s=UPLOAD_S)
        return None if "[colab] Uploaded " in text else text

    def execute(self, file: Path, *, timeout_s: float) -> Call:
        """The code of `file`, running on the VM; what is to be seen of it here may end long before."""
        return self._commands.start(
            (*self._start, "exec", "-s", self.name, "--timeout", f"{timeout_s:.0f}", "-f", str(file))
        )

    def stop(self) -> bool:
        """Give the VM back, as often as it takes; gives whether the server lists it no more.

        A VM that is gone already is fine.
        """
        for tried in range(STOP_TRIES):
            if tried:
                self._clock.sleep(self._stop_pause_s * 2.0 ** (tried - 1))
            self._put_back()
            self._run("stop", *self._stop_arguments)
            if self.is_there() is False:
                self.forget()
                return True
        self._put_back()  # for the person who now has to do it
        return False

    def forget(self) -> None:
        """Remove the notes of a VM that is gone."""
        self._copy = None
        self.notes.unlink(missing_ok=True)
        for left in self.notes.parent.glob(f"{self.notes.name}.lock*"):
            left.unlink(missing_ok=True)

    @property
    def stop_command(self) -> str:
        """What a person types to give the VM back."""
        return shlex.join(("colab", *self._start, "stop", *self._stop_arguments))

    @property
    def _start(self) -> tuple[str, ...]:
        return ("--config", str(self.notes))

    @property
    def _stop_arguments(self) -> tuple[str, ...]:
        return ("-s", self.name)

    def _run(self, *arguments: str, timeout_s: float = COMMAND_S) -> str:
        return self._commands.run((*self._start, *arguments), timeout_s=timeout_s).text

    def _put_back(self) -> None:
        """Let `colab` know of the VM, if it has forgotten."""
        if self._copy is None:
            return
        with open(os.open(self.notes, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            out.write(self._copy)


def is_signed_out(text: str) -> bool:
    """Does the command ask a person to sign in?"""
    return any(sign in text for sign in _SIGNED_OUT) or text.rstrip().endswith("Aborted.")


def unknown_gpus(names: Sequence[str]) -> list[str]:
    """Those of `names` that `colab` would take for an A100."""
    return [name for name in names if name not in GPUS]
