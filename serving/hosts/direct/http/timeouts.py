"""uvicorn's HTTP protocol with an end to all waiting: for a head, for a body, for a client that does not read or left.

uvicorn ends idle connections alone. One that has sent nothing yet, half a head or half a body would be held for ever.
A request that arrives whole, as most do, starts no timer.
"""

import asyncio
import os
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from handlers.message import STATUS, InputError, Request
from serving.hosts.direct.http.responses import AWAITED, Awaited, refusal
from serving.hosts.direct.routes import Refused, uncounted

LARGEST_HEAD = 65536  # bytes
_FOR_HEAD, _FOR_BODY = "head", "body"


class PatientProtocol(HttpToolsProtocol):
    """One connection.

    Attributes:
        head_seconds: from the connection's begin, or from the first byte of a later request, to the end of its head.
        body_seconds: from the head's end to the body's.
        read_seconds: that a client may leave an answer unread which its socket has no room for.
        draining: whether each answer closes its connection, so that clients open the next one elsewhere.
        refused: counts a request that is none, or not whole in time.
    """

    head_seconds = 10.0
    body_seconds = 60.0
    read_seconds = 60.0
    refused: Refused = staticmethod(uncounted)
    draining = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._part = ""  # of a message that was begun and has not ended
        self._head = 0  # bytes of it that have come, about
        self._waiting: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._awaited = Awaited()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._wait(_FOR_HEAD)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers, and the answer that nobody waits for any more."""
        self._stop_waiting()
        self.resume_writing()
        super().connection_lost(exc)
        self._awaited.cancel()

    def data_received(self, data: bytes) -> None:
        """Read on, then wait for what is missing of a message."""
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._part == _FOR_HEAD:
            self._head += len(data)
            if self._head > LARGEST_HEAD:
                self._end("head_too_large", f"the head has more than {LARGEST_HEAD} bytes")
                return
        if self._waiting is None and (self._part or not self._answering):
            self._wait(self._part or _FOR_HEAD)

    def on_message_begin(self) -> None:
        """Note that a head has begun."""
        super().on_message_begin()
        self.scope[AWAITED] = self._awaited  # type: ignore[literal-required]
        self._part, self._head = _FOR_HEAD, 0

    def on_headers_complete(self) -> None:
        """Note that a body has begun."""
        super().on_headers_complete()
        if self.draining and not self.pipeline:
            self.cycle.keep_alive = False
        self.begin_body()

    def begin_body(self) -> None:
        """Wait no longer for the head."""
        self._part = _FOR_BODY
        self._stop_waiting()

    def on_message_complete(self) -> None:
        """Note that a message is whole."""
        super().on_message_complete()
        self._part = ""
        self._stop_waiting()

    def on_response_complete(self) -> None:
        """Forget the answer that was sent."""
        self._awaited.answer = None
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Wait for a client that does not read."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.read_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop waiting for it."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, also one whose client has not read its last answer."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._end("invalid_http", msg)

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self, part: str) -> None:
        seconds = self.head_seconds if part == _FOR_HEAD else self.body_seconds
        self._waiting = self.loop.call_later(seconds, self._late, part, seconds)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _late(self, part: str, seconds: float) -> None:
        self._waiting = None
        if self.transport.is_closing():
            return
        if self.pipeline or (part == _FOR_HEAD and self._answering):  # an answer goes first, and nothing is read
            self._wait(part)
        elif not self._part or (part == _FOR_BODY and self.cycle.response_started):
            self.transport.close()
        else:
            self._end("timeout", f"the {part} of the request was not there after {seconds:g} s")

    def _end(self, code: str, message: str) -> None:
        """Answer an error, then close the connection."""
        path = str(self.scope.get("path", "")) if self._part == _FOR_BODY else ""
        request = Request(b"", {}, {}, os.urandom(10).hex())
        error = InputError(code, message, "http", "a request as RFC 9112 has it, sent without a pause")
        self.refused(path, STATUS[code], code)
        response = refusal(error, path, request)
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\nx-request-id: %s\r\n\r\n"
        filled = head % (len(response.body), request.id.encode())
        self.transport.write(STATUS_LINE[HTTPStatus(response.status)] + filled + response.body)
        self.transport.close()
