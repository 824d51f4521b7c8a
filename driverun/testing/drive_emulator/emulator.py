"""The emulator as a thing to hold: start it, change it, look into it."""

from __future__ import annotations

import threading
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from driverun.clock import Clock, SystemClock
from driverun.testing.drive_emulator.accounts import Accounts
from driverun.testing.drive_emulator.admin import Admin
from driverun.testing.drive_emulator.contract import drive_v2
from driverun.testing.drive_emulator.exchange import Outcome, Request
from driverun.testing.drive_emulator.faults import Faults
from driverun.testing.drive_emulator.records import FileRecord
from driverun.testing.drive_emulator.requestlog import RequestLog
from driverun.testing.drive_emulator.service import Service
from driverun.testing.drive_emulator.settings import EmulatorSettings
from driverun.testing.drive_emulator.state import State
from driverun.testing.drive_emulator.uploads import Sessions
from driverun.testing.drive_emulator.wire import LOOPBACK, Server


class DriveEmulator:
    """A Google Drive of one's own, on loopback, in this process.

    Use it as a context manager, or call `start` and `close`.

    Attributes:
        faults: what is to go wrong; `faults.add(Fault(kind="drop", method="drive.files.insert"))`.
        requests: every request so far, a sequence of RequestRecord.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        clock: Clock | None = None,
        seed: int = 0,
        settings: EmulatorSettings | None = None,
        port: int = 0,
    ) -> None:
        """Open what is in `state_dir`, or begin it anew.

        Args:
            clock: gives the time of everything, and sleeps for latency and bandwidth.
            seed: of ids, of faults at a rate.
            port: 0: one that is free.

        Raises:
            BlockingIOError: another emulator lives in the folder.
            ImportError: googleapiclient, whose discovery document is the contract, is not installed.
        """
        self._settings = settings if settings is not None else EmulatorSettings()
        self._clock = clock if clock is not None else SystemClock()
        self._port = port
        self._server: Server | None = None
        self._thread: threading.Thread | None = None
        state_dir.mkdir(parents=True, exist_ok=True)
        contract = drive_v2()
        self.state = State(
            state_dir, clock=self._clock, seed=seed, listing_lag_s=lambda: self.settings.listing_lag_s
        )
        self.faults = Faults(seed=seed, rate=lambda: self.settings.fault_rate)
        self.requests = RequestLog(state_dir / "requests.jsonl")
        self._accounts = Accounts(self.state, lambda: self.settings.token_lifetime_s)
        self._sessions = Sessions(state_dir / "uploads", self.state, lambda: self.settings.session_lifetime_s)
        self._service = Service(
            contract=contract,
            state=self.state,
            sessions=self._sessions,
            accounts=self._accounts,
            faults=self.faults,
            settings=self.settings,
            log=self.requests,
            clock=self._clock,
        )
        self._admin = Admin(self)

    def start(self) -> DriveEmulator:
        """Listen; the address is in `url` from now on.

        Raises:
            OSError: the port is taken.
        """
        self._server = Server(
            self._port,
            handle=self.handle,
            down=self._service.down,
            settings=self.settings,
            clock=self._clock,
        )
        self._thread = threading.Thread(target=self._server.serve, name="dev-drive", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop listening, close every connection, and let go of the folder."""
        if self._server is not None and self._thread is not None:
            self._server.stop()
            self._thread.join()
            self._server.end()
            self._server = None
        with self.state.lock:
            self.requests.close()
            self.state.close()

    def __enter__(self) -> DriveEmulator:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def settings(self) -> EmulatorSettings:
        """How it behaves; what is set here, or in it, counts from the next call on."""
        return self._settings

    @settings.setter
    def settings(self, wanted: EmulatorSettings) -> None:
        for name, value in asdict(wanted).items():
            self._settings.change(name, value)

    @property
    def url(self) -> str:
        """Where it listens, as in `http://127.0.0.1:8080`.

        Raises:
            RuntimeError: it was not started.
        """
        if self._server is None:
            raise RuntimeError("the emulator does not listen; start it, or enter it as a context")
        return f"http://{LOOPBACK}:{self._server.server_port}"

    def files(self) -> list[FileRecord]:
        """Return every file that exists, trashed ones too, the folders My Drive not; in order of creation."""
        with self.state.lock:
            found = [one for one in self.state.current.files.values() if not one.is_root]
        return sorted(found, key=lambda one: (one.created_at, one.id))

    def content(self, file_id: str) -> bytes:
        """Return the bytes of a file.

        Raises:
            KeyError: there is none, or it has no bytes.
        """
        with self.state.lock:
            head = self.state.current.files[file_id].head
            if head is None:
                raise KeyError(file_id)
            return self.state.blobs.path_of(head.blob).read_bytes()

    def expire_tokens(self, account: str | None = None) -> None:
        """Let every access token that was used or issued so far be expired; `account`: only that one's."""
        self._accounts.expire(account)

    def revoke(self, token: str) -> None:
        """Refuse an access token, or a refresh token and what came of it, from now on."""
        self._accounts.revoke(token)

    def expire_uploads(self) -> None:
        """Let every resumable session be expired."""
        self._sessions.expire()

    def handle(self, request: Request) -> Outcome:
        """Answer one request, of whatever kind; every request of the server passes here."""
        answer = self._admin.answer(request)
        return Outcome(answer=answer) if answer is not None else self._service.handle(request)
