"""The charts of a model's live traffic: small SVG of our own, since Matplotlib would take longer than a step."""

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, HTTPException
from fastapi.responses import HTMLResponse

from monitoring.console.pages import Pages, number
from monitoring.console.route import route_with
from monitoring.live.traffic import SHARES, STEP, WINDOW, Point, Traffic
from serving.registry import Registry
from training.figures.svg import Chart

WIDTH, HEIGHT, HEAD, FOOT = 300, 110, 16, 14  # units of the picture; the curves lie between head and foot
APART = 3 * STEP  # s between two points that no line joins
Aged = Sequence[tuple[float, Point]]


@dataclass(frozen=True)
class Line:
    """A curve.

    Attributes:
        values: each with its age in s, oldest first; None in a gap.
    """

    name: str
    values: Sequence[tuple[float, float | None]]

    @property
    def now(self) -> float | None:
        """The newest value; None where it is old, or missing."""
        age, value = self.values[-1]
        return value if age <= APART else None

    @property
    def most(self) -> float | None:
        """The highest value; None without any."""
        return max((value for _, value in self.values if value is not None), default=None)

    def pieces(self) -> Iterator[list[tuple[float, float]]]:
        """Yield the stretches without a gap."""
        piece: list[tuple[float, float]] = []
        for age, value in self.values:
            if piece and (value is None or piece[-1][0] - age > APART):
                yield piece
                piece = []
            if value is not None:
                piece.append((age, value))
        if piece:
            yield piece


def traffic_router(traffic: Traffic, models: Registry, needs_token: bool) -> APIRouter:
    """Return the route of the charts, a part of a model's page that updates itself."""
    pages = Pages(needs_token)
    router = APIRouter(include_in_schema=False, route_class=route_with(pages))

    @router.get("/console/models/{name}/traffic")
    def charts(name: str) -> HTMLResponse:
        if name not in models.models():
            raise HTTPException(404, f"There is no model {name!r}.")
        curves = figures(traffic.of(name))
        shown = [(draw_lines(title, lines), lines) for title, lines in curves]
        minutes = round(WINDOW / 60)
        return HTMLResponse(pages.render("traffic.html", charts=shown, fault=traffic.fault, minutes=minutes))

    return router


def figures(points: Aged) -> list[tuple[str, list[Line]]]:
    """Return titles and curves of a model's charts; none where nothing was counted."""
    if not points:
        return []
    requests = [Line("all", [(age, point.requests) for age, point in points])]
    errors = [
        Line("4xx", [(age, point.refused) for age, point in points]),
        Line("5xx", [(age, point.failed) for age, point in points]),
    ]
    times = [
        Line(f"p{100 * share:g}", [(age, _milliseconds(point.seconds[i])) for age, point in points])
        for i, share in enumerate(SHARES)
    ]
    return [("Requests a second", requests), ("Errors a second", errors), ("Milliseconds in the worker", times)]


def draw_lines(title: str, lines: Sequence[Line]) -> Chart:
    """Draw curves over the window."""
    top = max((line.most or 0.0 for line in lines), default=0.0)
    values = "; ".join(f"{line.name} {number(line.now)} now, {number(line.most)} at most" for line in lines)
    alt = f"{title}, the last {WINDOW / 60:.0f} minutes: {values}"
    base = HEIGHT - FOOT
    parts = [
        f'<text x="0" y="{HEAD - 5}">{number(top)}</text>',
        f'<text x="0" y="{HEIGHT - 2}">{WINDOW / 60:.0f} min ago</text>',
        f'<text x="{WIDTH}" y="{HEIGHT - 2}" text-anchor="end">now</text>',
        *(f'<line x1="0" y1="{y}" x2="{WIDTH}" y2="{y}"/>' for y in (HEAD, base)),
    ]
    scale = (base - HEAD) / top if top else 0.0
    for i, line in enumerate(lines):
        for piece in line.pieces():
            spots = [f"{WIDTH * (1 - age / WINDOW):.1f},{base - scale * value:.1f}" for age, value in piece]
            parts.append(f'<polyline class="line-{i}" points="{" ".join(spots if len(spots) > 1 else 2 * spots)}"/>')
    svg = f'<svg role="img" class="traffic" viewBox="0 0 {WIDTH} {HEIGHT}" aria-label="{html.escape(alt)}">'
    return Chart(title, alt, f"{svg}{''.join(parts)}</svg>")


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds
