"""Access to the calls that change something: with the token; without a configured one, from this machine alone."""

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
        credentials: a caller must send their ``token`` as ``Authorization: Bearer …``, if one is configured. Workers
            have another one, which is for events alone.
    """

    def __init__(self, credentials: Credentials) -> None:
        self._token, self._events = credentials.token.encode(), events_token(credentials).encode()

    @property
    def needs_token(self) -> bool:
        """Return whether a token is configured."""
        return bool(self._token)

    def __call__(
        self, request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
    ) -> None:
        """Let the call pass, or raise a 401 or 403; the argument is for OpenAPI."""
        self.admit(request)

    def admit(self, request: Request) -> None:
        """Let a call pass by its headers alone, or raise a 401 or 403."""
        if self._token:
            scheme, _, text = request.headers.get("authorization", "").partition(" ")
            is_bearer, token = scheme.lower() == "bearer", text.strip().encode()
            # Takes the same time, however much of the token is right.
            right = hmac.compare_digest(token, self._token)
            if request.url.path == EVENTS:
                right |= hmac.compare_digest(token, self._events)
            if not (right and is_bearer):
                what = "this call needs the header Authorization: Bearer with the value of MARLOOP_TOKEN"
                raise HTTPException(401, what, {"WWW-Authenticate": "Bearer"})
        # Also check the Host: a browser on this machine may call a foreign name that points here.
        elif not (is_loopback(request.client.host if request.client else "") and is_loopback(request.url.hostname)):
            what = "this call changes something: without MARLOOP_TOKEN it is answered only on loopback"
            raise HTTPException(403, what)
        elif _is_foreign(request):
            what = "this call changes something: without MARLOOP_TOKEN no page of another site may send it"
            raise HTTPException(403, what)


def _is_foreign(request: Request) -> bool:
    headers = request.headers
    return is_foreign_page(headers.get("origin"), headers.get("host", ""), headers.get("sec-fetch-site"))
