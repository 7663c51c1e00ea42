"""Small objects of a bucket, written only if they still are what was read: conditional requests of S3.

Of Amazon S3's user guide, "How to prevent object overwrites with conditional writes".
"""

import contextlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from serving.store.faults import ArchiveError, code_of, reason
from serving.store.shared.interface import Snapshot

_ABSENT = frozenset({"NoSuchKey", "404"})
_SAME = frozenset({"304", "NotModified"})
_CHANGED = frozenset({"PreconditionFailed", "412"})
_AT_ONCE = frozenset({"ConditionalRequestConflict", "409"})  # another write was under way: to be tried again
_ATTEMPTS = 5
_TIMEOUTS = {"connect_timeout": 5, "read_timeout": 15}  # s
_NO_TAG = '"00000000000000000000000000000000"'


class Changed(Exception):
    """An object is not what it was, so that nothing was written."""


class Objects:
    """The objects below a URL.

    Args:
        url: ``s3://bucket/prefix``.
        client: botocore's client of S3; None: one by the standard variables, such as AWS_ENDPOINT_URL.

    Raises:
        ArchiveError: botocore is missing, or its settings are damaged.
    """

    def __init__(self, url: str, client: Any = None) -> None:
        parts = urlsplit(url)
        self.url, self._bucket, self._prefix = url.rstrip("/"), parts.netloc, parts.path.strip("/")
        self._client = client or _client(url)
        self._is_checked = False

    def read(self, name: str, known: str = "") -> Snapshot | None:
        """Read an object; None if it still has the tag that is known, and no content if it is not there.

        Raises:
            ArchiveError: the server does not answer, or refuses.
        """
        condition = {"IfNoneMatch": known} if known else {}
        try:
            with self._explained(name, "read"):
                response = self._client.get_object(Bucket=self._bucket, Key=self._key(name), **condition)
                return Snapshot(response["Body"].read(), response["ETag"])
        except _AnsweredError as error:
            if error.code in _SAME:
                return None
            if error.code in _ABSENT:
                return Snapshot(None, "")
            raise error.explained from error

    def write(self, name: str, content: bytes, tag: str) -> str:
        """Write an object if it still has a tag, and return its new one.

        Args:
            tag: empty: the object must not be there.

        Raises:
            Changed: it has another tag, is there, or is not.
            ArchiveError: the server does not answer, or refuses.
        """
        condition = {"IfMatch": tag} if tag else {"IfNoneMatch": "*"}
        for attempt in range(_ATTEMPTS):
            try:
                with self._explained(name, "written"):
                    key = self._key(name)
                    response = self._client.put_object(Bucket=self._bucket, Key=key, Body=content, **condition)
                    return str(response["ETag"])
            except _AnsweredError as error:
                if error.code in _CHANGED or (tag and error.code in _ABSENT):
                    return self._after_a_conflict(name, content)
                if error.code not in _AT_ONCE or attempt == _ATTEMPTS - 1:
                    raise error.explained from error
        raise AssertionError  # not reached

    def check_conditions(self, name: str) -> None:
        """Check once that the server minds conditions; one that does not would lose changes without a word.

        Args:
            name: of an object that is there and is nobody else's now.

        Raises:
            ArchiveError: it does not.
        """
        if self._is_checked:
            return
        content = (self.read(name) or Snapshot(None, "")).content or b""
        for tag in ("", _NO_TAG):
            with contextlib.suppress(Changed):
                self.write(name, content + b" ", tag)
                raise ArchiveError(
                    f"{self.url} minds no conditions of a write (If-Match, If-None-Match), so that two writers could "
                    "lose each other's changes: take another server, or MARLOOP_REGISTRY=database"
                )
        self._is_checked = True

    def _after_a_conflict(self, name: str, content: bytes) -> str:
        """Return the tag of an object that this client wrote already, in an attempt whose answer was lost."""
        snapshot = self.read(name)
        if snapshot is None or snapshot.content != content:
            raise Changed(name)
        return snapshot.tag

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    @contextlib.contextmanager
    def _explained(self, name: str, verb: str) -> Iterator[None]:
        """Turn exceptions of the client into ``_AnsweredError``, or into ``ArchiveError`` where S3 said nothing."""
        try:
            yield
        except Exception as error:  # botocore has dozens of them, without one parent
            explained = ArchiveError(f"{self.url}/{name} cannot be {verb}: {reason(error)}")
            if code := code_of(error):
                raise _AnsweredError(code, explained) from error
            raise explained from error


class _AnsweredError(Exception):
    """The server refused a request: its code, and the error for a user."""

    def __init__(self, code: str, explained: ArchiveError) -> None:
        super().__init__(code)
        self.code, self.explained = code, explained


def _client(url: str) -> Any:
    try:
        from botocore.config import Config  # an extra
        from botocore.session import get_session

        config = Config(**_TIMEOUTS, retries={"mode": "standard", "max_attempts": 3})
        return get_session().create_client("s3", config=config)
    except ImportError as error:
        raise ArchiveError(f"{url} needs the extra s3: pip install -e '.[s3]'") from error
    except Exception as error:  # such as a profile that is not there
        raise ArchiveError(f"{url} cannot be used: {reason(error)}") from error
