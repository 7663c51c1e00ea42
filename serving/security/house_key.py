"""The key of Marloop's own clients: made when the direct host starts, for the user of this run alone."""

import secrets
from collections.abc import Generator
from pathlib import Path

import httpx

from serving import documents
from serving.security.keys import PREFIX
from serving.settings import Settings

FILE = "house.key"  # below the folder of the board


def make(board: Path) -> None:
    """Make the key of a run, unless it has one: a run that began before there were keys has none."""
    if headers(board):
        return
    board.mkdir(parents=True, exist_ok=True)
    documents.write_atomically(board / FILE, (PREFIX + secrets.token_urlsafe(32)).encode(), private=True)


def headers(board: Path) -> dict[str, str]:
    """Return the headers with which a client of ours is let in; none where the host has no such key."""
    try:
        key = (board / FILE).read_text().strip()
    except OSError:
        return {}
    return {"Authorization": f"Bearer {key}"} if key else {}


class HouseKey(httpx.Auth):
    """Adds the key to the requests of a client to one address, and to no other.

    Args:
        board: folder of the host's board.
        url: of the inference port.
    """

    def __init__(self, board: Path, url: str) -> None:
        self._board, self._url = board, httpx.URL(url)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the header."""
        if (request.url.host, request.url.port) == (self._url.host, self._url.port):
            for name, value in headers(self._board).items():
                request.headers.setdefault(name, value)
        yield request


def headers_for(settings: Settings, url: str) -> dict[str, str]:
    """Return the headers for a URL: none unless it is the inference port of this machine."""
    return headers(settings.board) if url == settings.inference_url else {}


def of(settings: Settings) -> HouseKey:
    """Return what lets a client of ours in at the inference port of this machine."""
    return HouseKey(settings.board, settings.inference_url)
