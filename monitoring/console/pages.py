"""Pages from templates, and the files that they load: all from this machine, without a build step."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from fastapi import APIRouter, HTTPException, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from training.figures.template import FRAMES

FOLDER = Path(__file__).parent
FILES = {
    "frame.css": (FRAMES / "frame.css", "text/css"),
    "console.css": (FOLDER / "static" / "console.css", "text/css"),
    "console.js": (FOLDER / "static" / "console.js", "text/javascript"),
    "htmx.min.js": (FOLDER / "static" / "htmx.min.js", "text/javascript"),
}

_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Asset:
    """A file that a page loads; its address changes with its content, so that browsers may cache it for ever."""

    content: bytes
    media_type: str
    address: str


class Pages:
    """The templates and the files beside them.

    Args:
        needs_token: whether a page has a field for the token.
    """

    def __init__(self, needs_token: bool) -> None:
        self.assets = {name: _asset(name, path, media_type) for name, (path, media_type) in FILES.items()}
        self._environment = Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "markup": Markup,
            "number": number,
            "moment": moment,
            "listed": listed,
            "plain": msgspec.to_builtins,
            "segment": segment,
            "duration": duration,
            "percent": percent,
            "coded": coded,
        }
        self._environment.globals |= {"assets": self.assets, "needs_token": needs_token}

    def render(self, name: str, **context: Any) -> str:
        """Return a template with its values."""
        return self._environment.get_template(name).render(context)


def assets_router(pages: Pages) -> APIRouter:
    """Return the route ``GET /console/static/…``."""
    router = APIRouter(include_in_schema=False)

    @router.get("/console/static/{name}")
    async def asset(name: str) -> Response:
        if name not in pages.assets:
            raise HTTPException(404, f"there is no file {name!r}")
        file = pages.assets[name]
        headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
        return Response(file.content, media_type=file.media_type, headers=headers)

    return router


def number(value: Any) -> str:
    """Return a number with four significant digits and separated thousands; a dash for other values."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return "–"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def percent(value: Any) -> str:
    """Return a share as a percentage with its sign; a dash for other values."""
    return f"{100 * value:+.1f} %" if isinstance(value, int | float) else "–"


def moment(time: datetime | str | None) -> Markup:
    """Return a time in UTC, to the minute; a text that is no time stays as it is."""
    try:
        parsed = datetime.fromisoformat(time) if isinstance(time, str) else time
    except ValueError:
        return Markup.escape(time)
    if parsed is None:
        return Markup("–")
    return Markup('<time datetime="{}">{}</time>').format(parsed.isoformat(), parsed.strftime("%Y-%m-%d %H:%M"))


def duration(seconds: float) -> str:
    """Return seconds in the largest unit of which there are at least two."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def listed(details: Mapping[str, Any]) -> str:
    """Return the details of a decision, separated by commas."""
    return ", ".join(
        f"{key} {value if isinstance(value, str | int) else msgspec.json.encode(value).decode()}"
        for key, value in details.items()
    )


def coded(text: str) -> Markup:
    """Return a text with its parts between backquotes as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(Markup.escape(text))))


def segment(text: str) -> str:
    """Return a text as one segment of an address."""
    return quote(text, safe="")


def _asset(name: str, path: Path, media_type: str) -> Asset:
    content = path.read_bytes()
    return Asset(content, media_type, f"/console/static/{name}?{hashlib.sha256(content).hexdigest()[:12]}")
