"""The routes of the console's pages: headers that keep foreign scripts out, and sentences for faults."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from sqlalchemy.exc import SQLAlchemyError

from monitoring.api.errors import log_error, store_fault
from monitoring.console.pages import Pages
from serving.registry import ArchiveError

# "Content Security Policy Level 3": only the console's own files. Matplotlib writes colours as style attributes.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Vary": "HX-Request",
}
# htmx puts a fault into the page's message instead of the requested part.
TO_MESSAGE = {"HX-Retarget": "#message", "HX-Reswap": "innerHTML", "HX-Reselect": ".fault"}


def route_with(pages: Pages) -> type[APIRoute]:
    """Return the class of the console's routes."""

    class ConsoleRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            """Return the endpoint, which answers the faults that it may raise."""
            handler = super().get_route_handler()

            async def answer(request: Request) -> Response:
                try:
                    response = await handler(request)
                except Exception as error:
                    response = _fault_page(pages, request, *_sentence(error))
                response.headers.update(HEADERS)
                return response

            return answer

    return ConsoleRoute


def _sentence(error: Exception) -> tuple[int, str]:
    match error:
        case HTTPException():
            return error.status_code, error.detail
        case SQLAlchemyError():
            status, sentence = store_fault(error)
            return status, f"{sentence[0].upper()}{sentence[1:]}."
        case RequestValidationError():
            first = error.errors()[0]
            return 422, f"{first['loc'][-1]}: {first['msg']}"
        case ArchiveError():
            return 500, f"The model store is damaged: {error}"
        case _:
            return 500, f"A fault of the monitor's; its log has it as {log_error(error)}."


def _fault_page(pages: Pages, request: Request, status: int, sentence: str) -> Response:
    message = {"kind": "fault", "sentence": sentence}
    if "hx-request" in request.headers:
        return HTMLResponse(pages.render("message.html", **message), status, TO_MESSAGE)
    return HTMLResponse(pages.render("fault_page.html", **message), status)
