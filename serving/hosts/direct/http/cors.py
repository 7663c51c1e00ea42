"""Let pages of other origins call the service: CORS (the Fetch standard, 3.2), by starlette's middleware."""

from starlette.middleware.cors import CORSMiddleware

from serving.hosts.direct.app import Application
from serving.security.gate import Gate

EXPOSED = ("X-Request-Id", "Retry-After", "Inference-Header-Content-Length")  # headers that a page's code may read


def allow_origins(application: Application | Gate, origins: str) -> Application | Gate | CORSMiddleware:
    """Return an application that browsers let pages of these origins call, preflight requests included.

    Args:
        origins: with blanks or commas between them, or ``*`` for all; empty for none.
    """
    names = origins.replace(",", " ").split()
    if not names:
        return application
    return CORSMiddleware(
        application, allow_origins=names, allow_methods=("GET", "POST"), allow_headers=("*",), expose_headers=EXPOSED
    )
