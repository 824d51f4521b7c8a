"""The uploads of the API: by which protocol content comes, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from driverun.testing.drive_emulator.accounts import Identity
from driverun.testing.drive_emulator.answering import answer_to, as_call
from driverun.testing.drive_emulator.calls import Answer, Call, Handler, Media, Reply
from driverun.testing.drive_emulator.contract import Contract, Match
from driverun.testing.drive_emulator.exchange import Request, read_all
from driverun.testing.drive_emulator.files import Files
from driverun.testing.drive_emulator.refusals import Refusal
from driverun.testing.drive_emulator.state import State
from driverun.testing.drive_emulator.uploads import Session, Sessions, read_multipart, receive_whole


class Uploads:
    """Takes content by every protocol, and hands it to `insert` or `update`."""

    def __init__(
        self,
        contract: Contract,
        state: State,
        files: Files,
        sessions: Sessions,
        handlers: Mapping[str, Handler],
    ) -> None:
        self._contract = contract
        self._state = state
        self._files = files
        self._sessions = sessions
        self._handlers = handlers

    def upload(
        self, request: Request, match: Match, identity: Identity, parameters: Mapping[str, Any]
    ) -> Answer:
        kind = request.headers.get("content-type", "application/octet-stream")
        protocol = (
            parameters.get("uploadType")
            or parameters.get("upload_protocol")
            or ("multipart" if kind.lower().startswith("multipart/") else "media")
        )
        if protocol == "resumable":
            return self._start(request, match, identity, parameters)
        if protocol == "multipart":
            incoming = self._state.blobs.receive()
            try:
                metadata, kind = read_multipart(request.read, kind, incoming.write)
                read_all(request.read)  # what stands after the last boundary
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
            call = as_call(self._contract, match.method, parameters, body, identity, request, media)
            return answer_to(self._contract, call, self._handlers[match.method.id])
        finally:
            path.unlink(missing_ok=True)  # it is still there only if it was refused

    def _start(
        self, request: Request, match: Match, identity: Identity, parameters: Mapping[str, Any]
    ) -> Answer:
        body = self._contract.read_body(match.method, read_all(request.read))
        announced = request.headers.get("x-upload-content-length", "")
        size = int(announced) if announced.isdigit() else None
        call = as_call(self._contract, match.method, parameters, body, identity, request)
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

    def go_on(self, request: Request, session_id: str) -> Answer:
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
                return answer_to(self._contract, call, lambda call: self._finish(call, session))
            except Refusal:
                self._sessions.forget(session)
                raise

    def _finish(self, call: Call, session: Session) -> Reply:
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
        return as_call(self._contract, method, session.parameters, session.body, identity, request, media)

    def _finished(self, request: Request, session: Session) -> Answer:
        """Answer once more what the last chunk of a session was answered."""
        call = self._session_call(request, session, None)
        record = self._state.current.files.get(session.result)
        if record is None:
            raise Refusal(404, "notFound", "Upload session not found.", location="upload_id")
        return answer_to(self._contract, call, lambda call: self._files.show(call, record))
