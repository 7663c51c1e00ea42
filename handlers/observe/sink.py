"""The receiving end of capture: one HTTP connection that is kept, and what an answer means."""

import http.client
from collections.abc import Mapping
from urllib.parse import urlsplit

TIMEOUT = 5.0  # s, to connect and for each read
BATCH = "application/cloudevents-batch+json"
_AGAIN = (408, 425, 429)  # answers of the client's class that ask for another attempt
_LONGEST_ANSWER = 64 * 1024


class SinkError(Exception):
    """The sink did not take what was sent; another attempt may succeed."""


class RefusedError(Exception):
    """The sink will not take what was sent, however often it is tried."""


class Sink:
    """Takes batches of CloudEvents.

    Args:
        url: where they are posted to, ``http`` or ``https``.
        token: that the sink asks for; empty if it asks for none.
        timeout: s, to connect and for each read.

    Raises:
        ValueError: the URL is none.
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
            SinkError: it was not delivered, or so it seems.
            RefusedError: it never will be.
        """
        try:
            self._connection.request("POST", self._path, body, self._headers)
            response = self._connection.getresponse()
            text = response.read(_LONGEST_ANSWER)
            if not response.isclosed():  # a longer answer, of which nothing more is wanted
                self._connection.close()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise SinkError(f"{type(error).__name__}: {error}") from error
        if 200 <= response.status < 300:
            return
        said = f"{response.status}: {' '.join(text.decode('utf-8', 'replace').split())[:300]}"
        if response.status >= 500 or response.status in _AGAIN:
            raise SinkError(said)
        raise RefusedError(said)

    def close(self) -> None:
        """Give the connection up; another delivery makes a new one."""
        self._connection.close()
