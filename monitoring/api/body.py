"""The body of a request, within limits of size and time."""

import asyncio

from fastapi import HTTPException, Request

PATIENCE = 15.0  # s


async def body_of(request: Request, largest: int) -> bytes:
    """Return the body; raise a 413 once it is longer than ``largest`` bytes, a 408 where it does not come in time."""
    body = bytearray()
    try:
        async with asyncio.timeout(PATIENCE):
            async for chunk in request.stream():
                body += chunk
                if len(body) > largest:
                    raise HTTPException(413, f"That is too large to send: at most {largest / 1e6:g} MB.")
    except TimeoutError:
        raise HTTPException(408, f"The body did not come within {PATIENCE:g} s.") from None
    return bytes(body)
