"""Who may change something: whoever has the token; without one configured, this machine alone."""

import hmac
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from handlers.observe.settings import Credentials
from serving.hosts.worker_environment import events_token
from serving.security.callers import is_foreign_page, is_loopback

EVENTS = "/events"
_BEARER = HTTPBearer(auto_error=False, description="the value of MARLOOP_TOKEN, where one is configured")


class Access:
    """A dependency of every route that changes something.

    Args:
        credentials: of them ``token`` must be sent as ``Authorization: Bearer …``, if one is configured. Workers have
            another one, which may send events alone.
    """

    def __init__(self, credentials: Credentials) -> None:
        self._token, self._events = credentials.token.encode(), events_token(credentials).encode()

    @property
    def needs_token(self) -> bool:
        """Whether one is configured."""
        return bool(self._token)

    def __call__(
        self, request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
    ) -> None:
        """Let the call pass, or raise a 401 or 403; the argument is for OpenAPI."""
        self.admit(request)

    def admit(self, request: Request) -> None:
        """Let a call pass by its headers alone, or raise a 401 or 403."""
        if self._token:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            is_bearer = scheme.lower() == "bearer"
            # In the same time, however much of it is right.
            right = hmac.compare_digest(given.strip().encode(), self._token)
            if request.url.path == EVENTS:
                right |= hmac.compare_digest(given.strip().encode(), self._events)
            if not (right and is_bearer):
                what = "this call needs the header Authorization: Bearer with the value of MARLOOP_TOKEN"
                raise HTTPException(401, what, {"WWW-Authenticate": "Bearer"})
        # The Host too: a web page whose name points here would be called by a browser of this machine.
        elif not (is_loopback(request.client.host if request.client else "") and is_loopback(request.url.hostname)):
            what = "this call changes something: without MARLOOP_TOKEN it is answered only on loopback"
            raise HTTPException(403, what)
        elif _is_foreign(request):
            what = "this call changes something: without MARLOOP_TOKEN no page of another site may send it"
            raise HTTPException(403, what)


def _is_foreign(request: Request) -> bool:
    headers = request.headers
    return is_foreign_page(headers.get("origin"), headers.get("host", ""), headers.get("sec-fetch-site"))
