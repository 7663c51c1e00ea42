"""What a call that changes something must be, beside allowed: sent by the console's own page, and not too large."""

from typing import Annotated

from fastapi import Header, HTTPException, Request

from monitoring.api.body import body_of
from monitoring.console.trial import LARGEST


def from_the_console(
    hx_request: Annotated[str | None, Header()] = None, authorization: Annotated[str | None, Header()] = None
) -> None:
    """Let a call pass that has a header which a form of another site cannot send; else raise a 403.

    A browser sends such a header to another site only after asking it (the Fetch standard, "CORS-preflight fetch"),
    and the monitor says no.
    """
    if hx_request is None and authorization is None:
        what = "This call must come from the console's own page, or have the header Authorization."
        raise HTTPException(403, what)


async def limited_body(request: Request) -> bytes:
    """The body; a 413 as soon as it is longer than TorchServe would take."""
    return await body_of(request, LARGEST)
