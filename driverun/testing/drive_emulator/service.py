"""What becomes of a request: whose it is, which fault it meets, and what the API answers."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, urlencode, urlsplit

from driverun.clock import Clock
from driverun.testing.drive_emulator.accounts import Accounts, Identity, bad_credentials
from driverun.testing.drive_emulator.answering import answer_to, as_call, mask_of
from driverun.testing.drive_emulator.batching import BOUNDARY, read_batch, write_batch
from driverun.testing.drive_emulator.calls import Answer
from driverun.testing.drive_emulator.contract import Contract, Match
from driverun.testing.drive_emulator.exchange import (
    JSON_TYPE,
    Outcome,
    Request,
    apply_override,
    read_all,
    refused,
)
from driverun.testing.drive_emulator.faults import BEFORE, Fault, Faults, Subject
from driverun.testing.drive_emulator.files import Files
from driverun.testing.drive_emulator.methods import method_table
from driverun.testing.drive_emulator.oauth import PATHS, OAuth
from driverun.testing.drive_emulator.pacing import Line, WriteLimit
from driverun.testing.drive_emulator.refusals import Refusal, html_page, refusal_of
from driverun.testing.drive_emulator.requestlog import RequestLog
from driverun.testing.drive_emulator.settings import EmulatorSettings
from driverun.testing.drive_emulator.state import State
from driverun.testing.drive_emulator.uploading import Uploads
from driverun.testing.drive_emulator.uploads import Read, Sessions


@dataclass(slots=True)
class _Progress:
    """What is known of a request while it is worked on, for the log."""

    method_id: str = "unknown"
    account: str = ""
    client: str = ""
    fault: Fault | None = None
    is_download: bool = False
    identity: Identity | None = None
    refusal: Refusal | None = None
    match: Match | None = None
    session_id: str | None = None


class Service:
    """The API and what surrounds it, without a socket."""

    def __init__(
        self,
        *,
        contract: Contract,
        state: State,
        sessions: Sessions,
        accounts: Accounts,
        faults: Faults,
        settings: EmulatorSettings,
        log: RequestLog,
        clock: Clock,
    ) -> None:
        self._contract = contract
        self._state = state
        self._accounts = accounts
        self._faults = faults
        self._settings = settings
        self._log = log
        self._clock = clock
        self._writes = WriteLimit(clock)
        self._up = Line(clock)
        self.down = Line(clock)
        files = Files(state, settings)
        self._handlers = method_table(state, files, settings, contract)
        self._uploads = Uploads(contract, state, files, sessions, self._handlers)
        self._oauth = OAuth(accounts)

    # One request

    def handle(self, request: Request) -> Outcome:
        """Work on a request, write it into the log, and return how it ends."""
        try:
            apply_override(request)
        except ConnectionError:
            return Outcome(answer=None)
        self._clock.sleep(self._settings.latency_ms / 1000)
        return self._handle(request)

    def _handle(self, request: Request) -> Outcome:
        progress = self._recognize(request)
        fault = progress.fault = self._faults.draw(
            Subject(
                method_id=progress.method_id,
                account=progress.account,
                path=request.path,
                is_download=progress.is_download,
            )
        )
        request.read = self._counted(request, fault)
        outcome = self._before(request, progress)
        if outcome is None:
            try:
                answer = self._work(request, progress)
            except ConnectionError:
                outcome = Outcome(answer=None)
            else:
                outcome = self._after(request, progress, answer)
        self._record(request, progress, outcome)
        return outcome

    def _recognize(self, request: Request) -> _Progress:
        progress = _Progress()
        try:
            progress.identity = self._accounts.identify(request.headers, dict(request.query))
            progress.account = progress.identity.account
        except Refusal as refusal:
            progress.refusal = refusal
        session_id = request.parameter("upload_id")
        if request.path in PATHS:
            progress.method_id = PATHS[request.path]
        elif request.path == self._contract.batch_path:
            progress.method_id = "batch"
        elif session_id is not None and "/upload/" in request.path:
            progress.method_id, progress.session_id = "upload", session_id
            found = self._state.entry("session", session_id)
            if found is not None:
                progress.account = found["account"]
        else:
            progress.match = self._contract.match(request.verb, request.path)
            if progress.match is not None:
                progress.method_id = progress.match.method.id
                progress.is_download = progress.method_id == "drive.files.export" or (
                    request.parameter("alt") == "media"
                )
        return progress

    def _counted(self, request: Request, fault: Fault | None) -> Read:
        """Return the reader of a body that counts, keeps to the bandwidth, and breaks off if it is to."""
        read = request.read
        limit = fault.after_bytes if fault is not None and fault.kind == "drop" else None
        mbps = fault.mbps if fault is not None and fault.kind == "bandwidth" else 0.0

        def counted(size: int) -> bytes:
            if limit is not None:
                if request.read_bytes >= limit:
                    raise ConnectionAbortedError("the connection was dropped on purpose")
                size = min(size, limit - request.read_bytes)
            piece = read(size)
            request.read_bytes += len(piece)
            self._up.carry(len(piece), mbps=mbps or self._settings.bandwidth_mbps)
            return piece

        return counted

    def _before(self, request: Request, progress: _Progress) -> Outcome | None:
        """Return how a request ends that meets its fault before the work; None: it goes on."""
        fault = progress.fault
        if fault is None or fault.side != BEFORE or fault.after_bytes is not None:
            return None
        if fault.kind == "bandwidth":
            return None
        if fault.kind == "stale":
            request.stale_s = fault.seconds or 0.0
            return None
        if fault.kind == "expire_token":
            self._accounts.expire(progress.account or None)
            progress.refusal = bad_credentials()
            return None
        return self._instead(request, fault)

    def _after(self, request: Request, progress: _Progress, answer: Answer) -> Outcome:
        fault = progress.fault
        if fault is None or fault.after_bytes is not None:
            return Outcome(answer=answer)
        if fault.kind == "bandwidth":
            return Outcome(answer=answer, mbps=fault.mbps)
        if fault.side == BEFORE:
            return Outcome(answer=answer)
        match fault.kind:
            case "truncate":
                return Outcome(answer=answer, cut_at=answer.length_bytes // 2)
            case "corrupt":
                return Outcome(answer=answer, corrupt=True)
            case "empty_body":
                _close(answer)
                return Outcome(answer=Answer(status=200, headers={"Content-Type": JSON_TYPE}))
        instead = self._instead(request, fault)
        if instead is None:
            return Outcome(answer=answer)
        _close(answer)
        return instead

    def _instead(self, request: Request, fault: Fault) -> Outcome | None:
        """Return what comes instead of the answer; None: the answer, only later."""
        if fault.status is not None:
            refusal = refusal_of(fault.status, fault.reason, fault.message)
            headers = {"Content-Type": JSON_TYPE}
            return Outcome(answer=Answer(status=refusal.status, headers=headers, body=refusal.body()))
        match fault.kind:
            case "html":
                page = html_page(
                    502,
                    "Server Error",
                    "The server encountered a temporary error and could not complete your request.",
                )
                headers = {"Content-Type": "text/html; charset=UTF-8"}
                return Outcome(answer=Answer(status=502, headers=headers, body=page))
            case "latency":
                self._clock.sleep(fault.seconds or 0.0)
                return None
            case "hang":
                request.hang(self._settings.hang_s if fault.seconds is None else fault.seconds)
        return Outcome(answer=None)

    def _record(self, request: Request, progress: _Progress, outcome: Outcome) -> None:
        answer = outcome.answer
        length = 0 if answer is None else answer.length_bytes
        now = self._clock.now()
        self._log.add(
            at=f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond:06d}Z",
            method_id=progress.method_id,
            verb=request.verb,
            path=request.path,
            query=urlencode(
                [pair for pair in request.query if pair[0] not in ("access_token", "oauth_token")]
            ),
            status=0 if answer is None else answer.status,
            request_bytes=request.read_bytes,
            response_bytes=length if outcome.cut_at is None else outcome.cut_at,
            account=progress.account,
            fault=progress.fault.label if progress.fault is not None else "",
            agent=request.headers.get("user-agent", ""),
        )

    # The work

    def _work(self, request: Request, progress: _Progress) -> Answer:
        try:
            if request.path in PATHS:
                return self._oauth.answer(request)
            if progress.method_id == "batch":
                return self._batch(request)
            if progress.session_id is not None:
                return self._uploads.go_on(request, progress.session_id)
            if progress.refusal is not None:
                raise progress.refusal
            if progress.match is None:
                page = html_page(404, "Not Found", f"The requested URL {request.path} was not found.")
                return Answer(status=404, headers={"Content-Type": "text/html; charset=UTF-8"}, body=page)
            assert progress.identity is not None
            return self._call(request, progress.match, progress.identity)
        except Refusal as refusal:
            return refused(refusal)

    def _call(self, request: Request, match: Match, identity: Identity) -> Answer:
        method = match.method
        if method.is_write and not self._writes.admits(
            identity.account,
            per_second=self._settings.writes_per_second,
            burst=self._settings.write_burst,
        ):
            raise refusal_of(403, "userRateLimitExceeded")
        handler = self._handlers.get(method.id)
        if handler is None:
            raise Refusal(501, "notImplemented", f"The emulator does not know {method.id}.")
        parameters = self._contract.read_parameters(match, request.query)
        mask_of(self._contract, method, parameters)  # refused before the content comes
        if match.is_upload:
            return self._uploads.upload(request, match, identity, parameters)
        body = self._contract.read_body(method, read_all(request.read) if method.verb != "GET" else b"")
        call = as_call(self._contract, method, parameters, body, identity, request)
        return answer_to(self._contract, call, handler)

    # Batches

    def _batch(self, request: Request) -> Answer:
        """Answer calls one after the other; each is logged, paced and faulty by itself, and none waits for the line."""
        parts = read_batch(read_all(request.read), request.headers.get("content-type", ""))
        answers: list[tuple[str, int, Mapping[str, str], bytes]] = []
        for part in parts:
            target = urlsplit(part.target)
            inner = replace(
                request,
                verb=part.verb,
                path=target.path,
                query=parse_qsl(target.query, keep_blank_values=True),
                headers={"authorization": request.headers.get("authorization", ""), **part.headers},
                length_bytes=len(part.body),
                read=io.BytesIO(part.body).read,
                read_bytes=0,
            )
            answer = self._handle(inner).answer
            if answer is None or answer.content is not None:
                answer = refused(refusal_of(503))
            answers.append((part.content_id, answer.status, answer.headers, answer.body))
        headers = {"Content-Type": f"multipart/mixed; boundary={BOUNDARY}"}
        return Answer(status=200, headers=headers, body=write_batch(answers))


def _close(answer: Answer) -> None:
    if answer.content is not None:
        answer.content.stream.close()
