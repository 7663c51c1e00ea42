"""The keys that a worker of the direct host knows: what each of them allows, and how often."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from handlers.message import InputError
from serving import documents
from serving.security import house_key, keys
from serving.security.keys import Key, KeyFile, KeyFileError

logger = logging.getLogger(__name__)
HOUSE, NONE, UNKNOWN = "marloop", "none", "unknown"  # names of keys that are none of users
LOOK = 0.5  # s between two looks at the files
_MOST_GRANTS = 1024
_LONGEST = 256  # bytes of a header that may be a key


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
        file: KeyFile,
        board: Path,
        workers: int = 1,
        clock: Callable[[], float] = time.monotonic,
        always: bool = False,
    ) -> None:
        self._file, self._board, self._workers, self._clock = file, board, workers, clock
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


class Refusal(Exception):
    """A request may not pass; ``name`` is the metric's label, ``seconds`` the time until it might."""

    def __init__(self, name: str, code: str, message: str, seconds: float = 0.0) -> None:
        expected = "" if code != "invalid_api_key" else "Authorization: Bearer KEY, or X-API-Key: KEY"
        super().__init__(message)
        self.name, self.seconds = name, seconds
        self.error = InputError(code, message, "headers", expected)


def _key(value: bytes) -> bytes:
    scheme, _, key = value.strip().partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else value.strip()
