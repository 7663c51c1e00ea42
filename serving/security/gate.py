"""The gate before the direct host: who may ask which models, and how often.

It answers before a body is read. Behind it no request has its key any more.
"""

import asyncio
import collections
import logging
import math
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, Counter

from handlers.language.responses import error_body
from handlers.message import JSON, STATUS, InputError, Request, Response, error_response
from serving import documents
from serving.security import house_key, keys
from serving.security.keys import Key, KeyFile, KeyFileError

logger = logging.getLogger(__name__)
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ALLOWED = "marloop.models"  # of a scope: names of the only models that its key is for
OPEN = frozenset({"/ping", "/v2/health/live", "/v2/health/ready"})
HOUSE, NONE, UNKNOWN = "marloop", "none", "unknown"
LOOK = 0.5  # s between two looks at the files
_MOST_GRANTS = 1024
_LONGEST = 256  # bytes of a header that may be a key
KEY_HEADERS = (b"authorization", b"x-api-key")
_OPENAI = ("/v1/chat/completions", "/v1/completions")


class Grant(NamedTuple):
    """What a key allows.

    Attributes:
        models: names of the only ones; None for all.
        expires: when it ends, s since the epoch.
    """

    name: str
    models: frozenset[str] | None = None
    bucket: "Bucket | None" = None
    expires: float = math.inf


class Bucket:
    """A token bucket that holds what comes in a second, one request at least.

    Args:
        rate: requests a second.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self._clock = rate, clock
        self._tokens, self._filled = max(1.0, rate), clock()

    def take(self) -> float:
        """Take a token; return 0, or the seconds until there is one."""
        now = self._clock()
        self._tokens = min(max(1.0, self.rate), self._tokens + (now - self._filled) * self.rate)
        self._filled = now
        if self._tokens < 1:
            return (1 - self._tokens) / self.rate
        self._tokens -= 1
        return 0.0


class Keys:
    """The keys that a worker knows, kept as their files say.

    Args:
        board: folder with the key of the house.
        workers: number that share each key's rate.
        always: whether a request needs a key even where none was ever added.
    """

    def __init__(
        self,
        store: Path,
        board: Path,
        workers: int = 1,
        clock: Callable[[], float] = time.monotonic,
        always: bool = False,
    ) -> None:
        self._file, self._board, self._workers, self._clock = KeyFile(store), board, workers, clock
        self._always = always
        self._known: dict[bytes, tuple[str, Key]] = {}
        self._grants: dict[tuple[bytes, ...], Grant] = {}  # of right headers, as they were sent
        self._house, self._looked = b"", -math.inf
        self._state: object = None
        self._buckets: dict[str, Bucket] = {}
        self._required = False

    @property
    def required(self) -> bool:
        """Whether a request needs a key: always, or since one was added, also where the file cannot be read."""
        if (now := self._clock()) - self._looked > LOOK:
            self._looked = now
            self._look()
        return self._required

    def check(self, values: Sequence[bytes], counts: bool = True) -> Grant:
        """Return what the key of a request allows.

        Args:
            values: headers that may have it.
            counts: whether the rate of the key is used.

        Raises:
            Refusal: the request may not pass.
        """
        if not values:
            raise Refusal(NONE, "invalid_api_key", "this service needs an API key")
        grant = self._grants.get(tuple(values)) or self._find(values)
        if grant is None or grant.expires <= time.time():
            raise Refusal(UNKNOWN, "invalid_api_key", "this API key is not known, has ended, or is not the only one")
        if counts and grant.bucket and (seconds := grant.bucket.take()):
            raise Refusal(grant.name, "rate_limited", "this API key has sent its requests of this second", seconds)
        return grant

    def _find(self, values: Sequence[bytes]) -> Grant | None:
        """Return what the only key among headers allows, and remember it until the files change."""
        if max(map(len, values)) > _LONGEST or len(sent := {_key(value) for value in values}) != 1:
            return None
        grant = self._grant(sent.pop())
        if grant:
            if len(self._grants) >= _MOST_GRANTS:
                self._grants.clear()
            self._grants[tuple(values)] = grant
        return grant

    def _grant(self, sent: bytes) -> Grant | None:
        if self._house and keys.digest(sent) == self._house:
            return Grant(HOUSE)
        entry = keys.find(self._known, sent)
        if entry is None:
            return None
        name, key = entry
        bucket = self._bucket(name, key.rate / self._workers) if key.rate else None
        expires = key.expires.timestamp() if key.expires else math.inf
        return Grant(name, frozenset(key.models) if key.models else None, bucket, expires)

    def _bucket(self, name: str, rate: float) -> Bucket:
        bucket = self._buckets.get(name)
        if bucket is None or bucket.rate != rate:
            bucket = self._buckets[name] = Bucket(rate, self._clock)
        return bucket

    def _look(self) -> None:
        state = (documents.stamp(self._file.path), documents.stamp(self._board / house_key.FILE))
        if state == self._state:
            return
        self._state = state
        self._grants.clear()
        house = house_key.headers(self._board).get("Authorization", "").removeprefix("Bearer ")
        self._house = keys.digest(house.encode()) if house else b""
        try:
            known = self._file.read()
            self._known, self._required = keys.by_digest(known or {}), self._always or known is not None
        except (KeyFileError, ValueError) as error:
            logger.error("no key lets anybody in: %s", error)
            self._known, self._required = {}, True


class Gate:
    """Lets requests with a key pass to an application; refuses the others in the form of their protocol.

    Args:
        model_of: returns the model that a path names; empty if it names none.
        registry: of the metric.
    """

    def __init__(
        self,
        application: Any,
        known: Keys,
        model_of: Callable[[str], str],
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._application, self._keys, self._model_of = application, known, model_of
        text = "Requests by the name of their key and the class of their status"
        registry = registry or CollectorRegistry()
        self._requests = Counter("marloop_requests_by_key", text, ("key", "code"), registry=registry)
        self._new: collections.Counter[tuple[str, int]] = collections.Counter()  # requests that are not in it yet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or the lifespan of the server."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            self._write_counts()
            return
        if not self._keys.required:
            await self._application(scope, receive, send)
            return
        values, path = _sent(scope), scope["path"]
        is_open = path in OPEN
        try:
            grant = self._keys.check(values, counts=not is_open)
            if grant.models is not None and not is_open and self._model_of(path) not in ("", *grant.models):
                raise Refusal(grant.name, "forbidden", "this API key is not for this model")
        except Refusal as refusal:
            if is_open:
                scope[ALLOWED] = frozenset()
                await self._application(scope, receive, send)
                return
            self._count(refusal.name, 4)
            await _refuse(scope, send, refusal)
            return
        scope[ALLOWED] = grant.models
        await self._application(scope, receive, self._counting(send, grant.name))

    def _counting(self, send: Send, name: str) -> Send:
        def counted(message: MutableMapping[str, Any]) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                self._count(name, message["status"] // 100)
            return send(message)

        return counted

    def _count(self, name: str, hundreds: int) -> None:
        """Count a request; the metric, a file of which each write costs, gets the sums each ``LOOK`` seconds."""
        if not self._new:
            asyncio.get_running_loop().call_later(LOOK, self._write_counts)
        self._new[name, hundreds] += 1

    def _write_counts(self) -> None:
        for (name, hundreds), count in self._new.items():
            self._requests.labels(name, f"{hundreds}xx").inc(count)
        self._new.clear()


class Refusal(Exception):
    """A request may not pass; ``name`` is the metric's label, ``seconds`` the time until it might."""

    def __init__(self, name: str, code: str, message: str, seconds: float = 0.0) -> None:
        expected = "" if code != "invalid_api_key" else "Authorization: Bearer KEY, or X-API-Key: KEY"
        super().__init__(message)
        self.name, self.seconds = name, seconds
        self.error = InputError(code, message, "headers", expected)


def _sent(scope: Scope) -> list[bytes]:
    """Return the headers that may be keys, and blank them: what is behind sees only that there was one."""
    sent: list[bytes] = []
    for i, (name, value) in enumerate(scope["headers"]):
        if name in KEY_HEADERS:
            if not sent:
                scope["headers"] = [*scope["headers"]]
            sent.append(value)
            scope["headers"][i] = (name, b"-")
    return sent


def _key(value: bytes) -> bytes:
    scheme, _, key = value.strip().partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else value.strip()


async def _refuse(scope: Scope, send: Send, refusal: Refusal) -> None:
    """Answer without a look at the body, whose connection cannot be used again."""
    error, path = refusal.error, scope["path"]
    request = Request(b"", {}, id=os.urandom(10).hex())
    if path.endswith(_OPENAI):
        response = Response(STATUS[error.code], error_body(error))
    else:
        response = error_response(error, request, as_text=path.startswith(("/v1", "/v2")))
    headers = [
        (b"content-type", JSON.encode()),
        (b"content-length", b"%d" % len(response.body)),
        (b"x-request-id", request.id.encode()),
    ]
    if response.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if refusal.seconds:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(refusal.seconds))))
    if scope["method"] not in ("GET", "HEAD"):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else response.body})
