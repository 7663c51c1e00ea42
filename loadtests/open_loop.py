"""A client that sends requests at a constant rate, whether the service keeps up or not.

A closed loop waits for an answer before its next request, so that a slow service gets fewer. Independent callers do not
wait. Times count from the moment at which a request was due, not from when it could be sent
(`coordinated omission <https://www.scylladb.com/2021/04/22/on-coordinated-omission/>`_).
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple, cast

import httptools

PATIENCE = 30.0  # s until an answer counts as missing
CONNECTIONS = 4000  # most at once; a request that would need one more is not sent


class Response(NamedTuple):
    """The outcome of one request.

    Attributes:
        status: 0 if no answer came.
        seconds: time since the request was due.
        retry_after: whether a header says when to retry.
        right: whether the body is the expected one.
    """

    status: int
    seconds: float
    retry_after: bool = False
    right: bool = False


class Connection(asyncio.Protocol):
    """A connection of HTTP/1.1, which carries a request at a time."""

    def __init__(self) -> None:
        self._done: asyncio.Future[None] | None = None
        self._transport: asyncio.WriteTransport | None = None
        self.open = False
        self.retry_after = False
        self.body = b""

    async def ask(self, request: bytes) -> int:
        """Send a whole request and return the answer's status.

        Raises:
            ConnectionError: the connection was closed before the end of the answer.
        """
        assert self._transport is not None
        self._parser = httptools.HttpResponseParser(self)
        self.body, self.retry_after = b"", False
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._done
        return int(self._parser.get_status_code())

    def close(self) -> None:
        """Close the connection."""
        self.open = False
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self._transport, self.open = cast(asyncio.WriteTransport, transport), True

    def connection_lost(self, error: Exception | None) -> None:
        """Fail the waiting request."""
        self.open = False
        if self._done is not None and not self._done.done():
            self._done.set_exception(error or ConnectionResetError("closed before the end of the answer"))

    def data_received(self, data: bytes) -> None:
        """Hand bytes to the parser."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.connection_lost(ConnectionError(str(error)))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Record whether ``Retry-After`` is there."""
        self.retry_after = self.retry_after or name.lower() == b"retry-after"

    def on_body(self, body: bytes) -> None:
        """Add a piece of the body."""
        self.body += body

    def on_message_complete(self) -> None:
        """Complete the waiting request."""
        self.open = self.open and self._parser.should_keep_alive()
        if self._done is not None and not self._done.done():
            self._done.set_result(None)


class Client:
    """A client that sends the same request many times.

    Args:
        host: name or address of the service.
        request: makes a whole request, head and body, just before it is sent.
        expected: body of the right answer; empty while it is unknown.
    """

    def __init__(self, host: str, port: int, request: Callable[[], bytes], expected: bytes = b"") -> None:
        self._host, self._port, self._request = host, port, request
        self.expected = expected
        self._idle: list[Connection] = []
        self._busy = 0

    async def ask(self, due: float | None = None) -> tuple[Response, bytes]:
        """Send one request, and return the response and its body.

        Args:
            due: moment of ``time.perf_counter`` from which time counts; None for now.
        """
        due = time.perf_counter() if due is None else due
        if self._busy >= CONNECTIONS:
            return Response(0, 0.0), b""
        self._busy += 1
        try:
            async with asyncio.timeout(PATIENCE):
                connection, status = await self._ask()
        except (OSError, TimeoutError):
            return Response(0, time.perf_counter() - due), b""
        finally:
            self._busy -= 1
        seconds = time.perf_counter() - due
        if connection.open:
            self._idle.append(connection)
        else:
            connection.close()
        right = connection.body == self.expected
        return Response(status, seconds, connection.retry_after, right), connection.body

    async def in_turn(self, count: int) -> list[Response]:
        """Send ``count`` requests, each after the answer to the last."""
        return [(await self.ask())[0] for _ in range(count)]

    async def closed(self, clients: int, seconds: float) -> list[Response]:
        """Send requests from ``clients`` clients, each of which waits for its answer."""
        end = time.perf_counter() + seconds
        responses: list[Response] = []

        async def client() -> None:
            while time.perf_counter() < end:
                responses.append((await self.ask())[0])

        await asyncio.gather(*(client() for _ in range(clients)))
        return responses

    async def steady(self, rate: float, seconds: float) -> list[Awaitable[tuple[Response, bytes]]]:
        """Send ``rate`` requests a second, and return at the end of the last second; answers may still be to come."""
        return await self.at([number / rate for number in range(round(rate * seconds))])

    async def at(self, times: Iterable[float]) -> list[Awaitable[tuple[Response, bytes]]]:
        """Send a request at each time in s from now, in order; return after the last; answers may still be to come."""
        start = time.perf_counter()
        tasks: list[Awaitable[tuple[Response, bytes]]] = []
        for offset in times:
            due = start + offset
            # A late client too must let its connections run.
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(self.ask(due)))
        return tasks

    def close(self) -> None:
        """Close all connections."""
        for connection in self._idle:
            connection.close()

    async def _ask(self) -> tuple[Connection, int]:
        """Send a request on an open connection, or on a new one where the service closed it meanwhile."""
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                with contextlib.suppress(ConnectionError):
                    return connection, await connection.ask(self._request())
        loop = asyncio.get_running_loop()
        connection = (await loop.create_connection(Connection, self._host, self._port))[1]
        try:
            return connection, await connection.ask(self._request())
        except BaseException:
            connection.close()
            raise
