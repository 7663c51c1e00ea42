"""The receiving end of capture: an HTTP connection that stays open, and the meaning of its answers."""

import http.client
from collections.abc import Mapping
from urllib.parse import urlsplit

TIMEOUT = 5.0  # s, to connect and for each read
BATCH = "application/cloudevents-batch+json"
_AGAIN = (408, 425, 429)  # 4xx that ask for another attempt
_LONGEST_ANSWER = 64 * 1024


class SinkError(Exception):
    """The sink did not take a batch; another attempt may succeed."""


class RefusedError(Exception):
    """The sink will never take a batch."""


class Sink:
    """Takes batches of CloudEvents.

    Args:
        url: ``http`` or ``https``.
        token: of the sink; empty if it needs none.
        timeout: s, to connect and for each read.

    Raises:
        ValueError: it is no URL.
    """

    def __init__(self, url: str, token: str = "", timeout: float = TIMEOUT) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"CAPTURE_URL is {url!r}; it must be a URL such as http://127.0.0.1:8090/events")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self.url = url
        self._connection = kind(parts.hostname, parts.port, timeout=timeout)
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._headers: Mapping[str, str] = {"Content-Type": BATCH} | (
            {"Authorization": f"Bearer {token}"} if token else {}
        )

    def post(self, body: bytes) -> None:
        """Deliver one batch.

        Raises:
            SinkError: it was probably not delivered.
            RefusedError: it never will be.
        """
        try:
            self._connection.request("POST", self._path, body, self._headers)
            response = self._connection.getresponse()
            text = response.read(_LONGEST_ANSWER)
            if not response.isclosed():  # a longer answer, whose rest is not needed
                self._connection.close()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise SinkError(f"{type(error).__name__}: {error}") from error
        if 200 <= response.status < 300:
            return
        message = f"{response.status}: {' '.join(text.decode('utf-8', 'replace').split())[:300]}"
        raise (SinkError if response.status >= 500 or response.status in _AGAIN else RefusedError)(message)

    def close(self) -> None:
        """Give the connection up; another delivery makes a new one."""
        self._connection.close()
