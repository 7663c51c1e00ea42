"""A request's body, read as far as it may be."""

from fastapi import HTTPException, Request


async def body_of(request: Request, largest: int) -> bytes:
    """The body; a 413 as soon as it is longer than ``largest`` bytes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > largest:
            raise HTTPException(413, f"That is too large to send: at most {largest / 1e6:g} MB.")
    return bytes(body)
