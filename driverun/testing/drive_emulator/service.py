"""What becomes of a request: whose it is, which fault it meets, and what the API answers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from driverun.clock import Clock
from driverun.testing.drive_emulator.accounts import Accounts, GrantRefused, Identity, bad_credentials
from driverun.testing.drive_emulator.batching import BOUNDARY, read_batch, write_batch
from driverun.testing.drive_emulator.belonging import Belonging, Properties
from driverun.testing.drive_emulator.calls import Answer, Call, Media, Reply
from driverun.testing.drive_emulator.comments import Comments
from driverun.testing.drive_emulator.contract import Contract, Match, Method
from driverun.testing.drive_emulator.drives import Drives
from driverun.testing.drive_emulator.faults import BEFORE, Fault, Faults, Subject
from driverun.testing.drive_emulator.fields import Mask, apply_mask, check_mask, parse_mask, wanted_names
from driverun.testing.drive_emulator.files import Files, Handler
from driverun.testing.drive_emulator.history import About, Changes, Revisions
from driverun.testing.drive_emulator.listing import Listing
from driverun.testing.drive_emulator.pacing import Line, WriteLimit
from driverun.testing.drive_emulator.refusals import Refusal, html_page, refusal_of
from driverun.testing.drive_emulator.requestlog import RequestLog
from driverun.testing.drive_emulator.settings import EmulatorSettings
from driverun.testing.drive_emulator.sharing import Permissions
from driverun.testing.drive_emulator.state import State
from driverun.testing.drive_emulator.uploads import Read, Session, Sessions, read_multipart, receive_whole

#: Where Google's own libraries look for tokens, and the page on which a person consents.
_OAUTH_PATHS = {
    "/token": "token",
    "/o/oauth2/token": "token",
    "/oauth2/v4/token": "token",
    "/o/oauth2/auth": "consent",
    "/o/oauth2/v2/auth": "consent",
    "/revoke": "revoke",
    "/o/oauth2/revoke": "revoke",
}
JSON_TYPE = "application/json; charset=UTF-8"
#: Bytes of JSON that one call may carry.
BODY_LIMIT = 4 << 20


@dataclass(slots=True, kw_only=True)
class Request:
    """A request as it came over the wire; the names of headers are in lower case."""

    verb: str
    path: str
    query: list[tuple[str, str]]
    headers: Mapping[str, str]
    base_url: str
    length_bytes: int | None  #: of the body; None: it comes in pieces
    read: Read
    hang: Callable[[float], None]
    read_bytes: int = 0
    stale_s: float = 0.0  #: how far back a listing looks, on order

    def parameter(self, name: str) -> str | None:
        for key, value in self.query:
            if key == name:
                return value
        return None


@dataclass(slots=True, kw_only=True)
class Outcome:
    """How a request ends: with an answer, whole or cut short, or with a closed connection."""

    answer: Answer | None  #: None: the connection is closed without one
    cut_at: int | None = None  #: so many bytes of the body are sent, and the connection is closed
    corrupt: bool = False  #: one byte of the body is another one
    mbps: float = 0.0  #: at which it is sent beyond the settings'; 0: as they say


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
        self._sessions = sessions
        self._accounts = accounts
        self._faults = faults
        self._settings = settings
        self._log = log
        self._clock = clock
        self._writes = WriteLimit(clock)
        self._up = Line(clock)
        self.down = Line(clock)
        self._files = Files(state, settings, contract)
        self._handlers = self._table()

    def _table(self) -> dict[str, Handler]:
        files = self._files
        listing = Listing(self._state, files)
        changes = Changes(self._state, files)
        revisions = Revisions(self._state, files)
        permissions = Permissions(self._state, files)
        belonging = Belonging(self._state, files)
        properties = Properties(self._state, files)
        comments = Comments(self._state, files)
        handlers: dict[str, Handler] = {
            "drive.comments.list": comments.list,
            "drive.comments.get": comments.get,
            "drive.comments.insert": comments.insert,
            "drive.comments.update": comments.update,
            "drive.comments.patch": comments.update,
            "drive.comments.delete": comments.delete,
            "drive.replies.list": comments.list_replies,
            "drive.replies.get": comments.get_reply,
            "drive.replies.insert": comments.insert_reply,
            "drive.replies.update": comments.update_reply,
            "drive.replies.patch": comments.update_reply,
            "drive.replies.delete": comments.delete_reply,
        }
        for name, is_old in (("drives", False), ("teamdrives", True)):
            drives = Drives(self._state, files, old_name=is_old)
            for verb in ("list", "get", "insert", "update", "delete", "hide", "unhide"):
                if f"drive.{name}.{verb}" in self._contract.methods:
                    handlers[f"drive.{name}.{verb}"] = getattr(drives, verb)
        return handlers | {
            "drive.files.get": files.get,
            "drive.files.list": listing.files,
            "drive.files.insert": files.insert,
            "drive.files.update": files.update,
            "drive.files.patch": files.update,
            "drive.files.trash": files.trash,
            "drive.files.untrash": files.untrash,
            "drive.files.touch": files.touch,
            "drive.files.delete": files.delete,
            "drive.files.emptyTrash": files.empty_trash,
            "drive.files.copy": files.copy,
            "drive.files.export": files.export,
            "drive.files.generateIds": files.generate_ids,
            "drive.children.list": listing.children,
            "drive.children.get": belonging.child,
            "drive.children.insert": belonging.insert_child,
            "drive.children.delete": belonging.delete_child,
            "drive.parents.list": belonging.parents,
            "drive.parents.get": belonging.parent,
            "drive.parents.insert": belonging.insert_parent,
            "drive.parents.delete": belonging.delete_parent,
            "drive.properties.list": properties.list,
            "drive.properties.get": properties.get,
            "drive.properties.insert": properties.insert,
            "drive.properties.update": properties.update,
            "drive.properties.patch": properties.update,
            "drive.properties.delete": properties.delete,
            "drive.permissions.list": permissions.list,
            "drive.permissions.get": permissions.get,
            "drive.permissions.insert": permissions.insert,
            "drive.permissions.update": permissions.update,
            "drive.permissions.patch": permissions.update,
            "drive.permissions.delete": permissions.delete,
            "drive.permissions.getIdForEmail": permissions.id_for_email,
            "drive.changes.getStartPageToken": changes.start_page_token,
            "drive.changes.list": changes.list,
            "drive.changes.get": changes.get,
            "drive.revisions.list": revisions.list,
            "drive.revisions.get": revisions.get,
            "drive.revisions.update": revisions.update,
            "drive.revisions.patch": revisions.update,
            "drive.revisions.delete": revisions.delete,
            "drive.about.get": About(self._state, files, self._settings).get,
        }

    # One request

    def handle(self, request: Request) -> Outcome:
        """Work on a request, write it into the log, and return how it ends."""
        _override(request)
        progress = self._recognize(request)
        self._clock.sleep(self._settings.latency_ms / 1000)
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
        if request.path in _OAUTH_PATHS:
            progress.method_id = _OAUTH_PATHS[request.path]
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
        )

    # The work

    def _work(self, request: Request, progress: _Progress) -> Answer:
        try:
            match progress.method_id:
                case "token":
                    return self._token(request)
                case "consent":
                    return self._consent(request)
                case "revoke":
                    return self._revoke(request)
                case "batch":
                    return self._batch(request)
            if progress.session_id is not None:
                return self._continue_upload(request, progress.session_id)
            if progress.refusal is not None:
                raise progress.refusal
            if progress.match is None:
                page = html_page(404, "Not Found", f"The requested URL {request.path} was not found.")
                return Answer(status=404, headers={"Content-Type": "text/html; charset=UTF-8"}, body=page)
            assert progress.identity is not None
            return self._call(request, progress.match, progress.identity)
        except Refusal as refusal:
            return _refused(refusal)

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
        self._mask(method, parameters)
        if match.is_upload:
            return self._upload(request, match, identity, parameters)
        body = self._contract.read_body(method, _read_all(request.read) if method.verb != "GET" else b"")
        call = self._as_call(method, parameters, body, identity, request)
        return self._answer(call, handler)

    def _as_call(
        self,
        method: Method,
        parameters: Mapping[str, Any],
        body: Mapping[str, Any],
        identity: Identity,
        request: Request,
        media: Media | None = None,
    ) -> Call:
        mask = self._mask(method, parameters)
        wanted = wanted_names(mask)
        items = mask.get("items", {}) if mask is not None and "*" not in mask else None
        return Call(
            method=method,
            parameters=parameters,
            body=body,
            identity=identity,
            headers=request.headers,
            base_url=request.base_url,
            media=media,
            wanted=None if wanted is None else wanted | {"etag"},
            wanted_in_items=wanted_names(items),
            stale_s=request.stale_s,
        )

    def _mask(self, method: Method, parameters: Mapping[str, Any]) -> Mask | None:
        text = parameters.get("fields")
        if not text or method.response_schema is None:
            return None
        mask = parse_mask(text)
        check_mask(mask, method.response_schema, self._contract)
        return mask

    def _answer(self, call: Call, handler: Handler) -> Answer:
        reply = handler(call)
        if isinstance(reply, Answer):
            return reply
        if reply is None:
            return Answer(status=204)
        headers = {"Content-Type": JSON_TYPE, "Cache-Control": "private, max-age=0, must-revalidate"}
        if "etag" in reply:
            headers["ETag"] = reply["etag"]
        shown = apply_mask(self._mask(call.method, call.parameters), reply)
        return Answer(status=200, headers=headers, body=json.dumps(shown, separators=(",", ":")).encode())

    # Uploads

    def _upload(
        self, request: Request, match: Match, identity: Identity, parameters: Mapping[str, Any]
    ) -> Answer:
        kind = request.headers.get("content-type", "application/octet-stream")
        protocol = (
            parameters.get("uploadType")
            or parameters.get("upload_protocol")
            or ("multipart" if kind.lower().startswith("multipart/") else "media")
        )
        if protocol == "resumable":
            return self._start_upload(request, match, identity, parameters)
        if protocol == "multipart":
            incoming = self._state.blobs.receive()
            try:
                metadata, kind = read_multipart(request.read, kind, incoming.write)
                _read_all(request.read)  # what stands after the last boundary
            except BaseException:
                incoming.discard()
                raise
            path, sums = incoming.path, incoming.finish()
        elif protocol in ("media", "raw"):
            metadata = b""
            path, sums = receive_whole(self._state.blobs, request.read)
        else:
            raise Refusal(400, "invalid", f"Invalid upload type: {protocol}", location="uploadType")
        try:
            body = self._contract.read_body(match.method, metadata)
            media = Media(path=path, sums=sums, mime_type=kind)
            call = self._as_call(match.method, parameters, body, identity, request, media)
            return self._answer(call, self._handlers[match.method.id])
        finally:
            path.unlink(missing_ok=True)  # it is still there only if it was refused

    def _start_upload(
        self, request: Request, match: Match, identity: Identity, parameters: Mapping[str, Any]
    ) -> Answer:
        body = self._contract.read_body(match.method, _read_all(request.read))
        announced = request.headers.get("x-upload-content-length", "")
        size = int(announced) if announced.isdigit() else None
        call = self._as_call(match.method, parameters, body, identity, request)
        if match.method.id == "drive.files.insert":
            self._files.check_insert(call, size or 0)
        else:
            self._files.check_update(call, size or 0)
        session = self._sessions.start(
            method_id=match.method.id,
            parameters=dict(parameters),
            body=dict(body),
            account=identity.account,
            client=identity.client,
            if_match=request.headers.get("if-match", ""),
            mime_type=request.headers.get("x-upload-content-type", "application/octet-stream"),
            size_bytes=size,
        )
        query = urlencode({"uploadType": "resumable", "upload_id": session.id})
        return Answer(
            status=200,
            headers={
                "Location": f"{request.base_url}{request.path}?{query}",
                "X-GUploader-UploadID": session.id,
            },
        )

    def _continue_upload(self, request: Request, session_id: str) -> Answer:
        with self._sessions.turn(session_id):
            session = self._sessions.find(session_id)
            if request.verb == "DELETE":
                self._sessions.forget(session)
                return Answer(status=499)
            if session.result:
                return self._finished(request, session)
            arrived = self._sessions.receive(
                session, request.headers.get("content-range"), request.length_bytes, request.read
            )
            if arrived.path is None or arrived.sums is None:
                headers = {"X-GUploader-UploadID": session.id}
                if arrived.received_bytes:
                    headers["Range"] = f"bytes=0-{arrived.received_bytes - 1}"
                return Answer(status=308, headers=headers)
            media = Media(path=arrived.path, sums=arrived.sums, mime_type=session.mime_type)
            try:
                call = self._session_call(request, session, media)
                return self._answer(call, lambda call: self._finish_upload(call, session))
            except Refusal:
                self._sessions.forget(session)
                raise

    def _finish_upload(self, call: Call, session: Session) -> Reply:
        """Make a session's bytes a file, and remember which, in one step."""
        with self._state.writing():
            wide = replace(call, wanted=None if call.wanted is None else call.wanted | {"id"})
            reply = self._handlers[session.method_id](wide)
            assert isinstance(reply, dict)
            self._sessions.finish(session, reply["id"])
            return reply

    def _session_call(self, request: Request, session: Session, media: Media | None) -> Call:
        method = self._contract.methods[session.method_id]
        headers = dict(request.headers)
        for name in ("if-match", "if-none-match"):
            headers.pop(name, None)
        if session.if_match and media is not None:
            headers["if-match"] = session.if_match
        request.headers = headers
        identity = Identity(session.account, session.client)
        return self._as_call(method, session.parameters, session.body, identity, request, media)

    def _finished(self, request: Request, session: Session) -> Answer:
        """Answer once more what the last chunk of a session was answered."""
        call = self._session_call(request, session, None)
        record = self._state.current.files.get(session.result)
        if record is None:
            raise Refusal(404, "notFound", "Upload session not found.", location="upload_id")
        return self._answer(call, lambda call: self._files.show(call, record))

    # Tokens

    def _token(self, request: Request) -> Answer:
        form = dict(parse_qsl(_read_all(request.read).decode("utf-8", errors="replace")))
        status, reply = 200, {}
        try:
            reply = self._accounts.grant(form)
        except GrantRefused as refused:
            status, reply = 400, {"error": refused.code, "error_description": str(refused)}
        return Answer(status=status, headers={"Content-Type": JSON_TYPE}, body=json.dumps(reply).encode())

    def _consent(self, request: Request) -> Answer:
        """Send a browser back with a code, as if a person had said yes; `login_hint` says who it was."""
        account = request.parameter("login_hint") or "user@example.com"
        back = {"code": f"code:{account}"}
        if (given := request.parameter("state")) is not None:
            back["state"] = given
        target = request.parameter("redirect_uri") or ""
        if not target:
            raise Refusal(400, "invalid_request", "Missing required parameter: redirect_uri")
        joint = "&" if "?" in target else "?"
        return Answer(status=302, headers={"Location": target + joint + urlencode(back)})

    def _revoke(self, request: Request) -> Answer:
        form = dict(parse_qsl(_read_all(request.read).decode("utf-8", errors="replace")))
        token = request.parameter("token") or form.get("token")
        if not token:
            raise Refusal(400, "invalid_request", "Missing required parameter: token")
        self._accounts.revoke(token)
        return Answer(status=200, headers={"Content-Type": JSON_TYPE}, body=b"{}")

    # Batches

    def _batch(self, request: Request) -> Answer:
        """Answer calls one after the other; each is logged, paced and faulty by itself."""
        parts = read_batch(_read_all(request.read), request.headers.get("content-type", ""))
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
            answer = self.handle(inner).answer
            if answer is None or answer.content is not None:
                answer = _refused(refusal_of(503))
            answers.append((part.content_id, answer.status, answer.headers, answer.body))
        headers = {"Content-Type": f"multipart/mixed; boundary={BOUNDARY}"}
        return Answer(status=200, headers=headers, body=write_batch(answers))


def _override(request: Request) -> None:
    """Make a request what it stands for: clients send a GET whose address is too long as a POST.

    Its query is then the body (googleapiclient's `HttpRequest.execute`, beyond 2048 characters).
    """
    verb = request.headers.get("x-http-method-override", "").upper()
    if not verb or request.verb != "POST":
        return
    request.verb = verb
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        body = _read_all(request.read)
        request.read_bytes += len(body)
        request.query += parse_qsl(body.decode("utf-8", errors="replace"), keep_blank_values=True)


def _refused(refusal: Refusal) -> Answer:
    headers = {"Content-Type": JSON_TYPE}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="https://accounts.google.com/", error="invalid_token"'
    return Answer(status=refusal.status, headers=headers, body=refusal.body())


def _close(answer: Answer) -> None:
    if answer.content is not None:
        answer.content.stream.close()


def _read_all(read: Read, *, limit: int = BODY_LIMIT) -> bytes:
    pieces, size = [], 0
    while piece := read(64 * 1024):
        size += len(piece)
        if size > limit:
            raise Refusal(413, "uploadTooLarge", "The request is too large.")
        pieces.append(piece)
    return b"".join(pieces)
