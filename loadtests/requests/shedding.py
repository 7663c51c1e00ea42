"""What every user sends with a request, and how an answer says that the model has too many of them."""

import time
from collections.abc import Mapping

from handlers.observe.capture import SWITCH

# TorchServe's words also where there are workers, but the model's queue is full; and a language model's own.
_FULL = (b"no worker to serve inference request", b'"code":"overloaded"')


def marked(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers of a request with what the service needs to know of it.

    When the client sent it, in seconds since 1970: the server tells from it how long the request waited. And what is
    made up is kept out of what is learnt from real requests.
    """
    return {**headers, "X-Request-Start": f"t={time.time():.6f}", SWITCH: "off"}


def is_shed(status: int, body: bytes) -> bool:
    """Whether a request was turned away because the model's queue is full."""
    return status == 503 and any(words in body for words in _FULL)
