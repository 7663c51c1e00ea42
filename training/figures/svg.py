"""Matplotlib's figures as SVG inside a page, in the page's own colours, so that they suit light and dark."""

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 4.6, 3.3  # inches; a telephone shows it at three quarters of this
# Colours that nothing else has stand for the page's colours until the end.
SERIES = tuple(f"#0a00{i:02x}" for i in range(5))
TEXT, LINE, QUIET = "#0b0000", "#0b0001", "#0b0002"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "marloop",  # the same figure gives the same bytes
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.facecolor": "none",
    "legend.edgecolor": "none",
    "legend.fontsize": 10,
    "font.size": 11,
    "axes.edgecolor": LINE,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
} | dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), TEXT)


@dataclass(frozen=True)
class Chart:
    """A figure in a page.

    Attributes:
        title: heading above it.
        alt: description for those who do not see it.
        svg: an element.
    """

    title: str
    alt: str
    svg: str


class Drawing:
    """A chart in the making, with ``axes`` to draw on; the chart is complete when its block ends."""

    def __init__(self, axes: "Axes", title: str, alt: str) -> None:
        self.axes, self.title, self.alt = axes, title, alt
        self.chart = Chart(title, alt, "")


@contextmanager
def drawing(title: str, alt: str, **labels: str) -> Iterator[Drawing]:
    """Draw one chart.

    Args:
        title: heading above it, unique in a page.
        alt: description in words.
        labels: ``xlabel``, ``ylabel`` and the like.
    """
    from matplotlib import rc_context  # takes a third of a second, which a monitor need not wait before it serves
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        canvas = FigureCanvasSVG(figure)
        axes = figure.subplots()
        axes.set(**labels)
        drawn = Drawing(axes, title, alt)
        yield drawn
        if axes.get_legend_handles_labels()[1]:
            axes.legend()
        file = io.StringIO()
        canvas.print_svg(file, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})  # type: ignore[no-untyped-call]
        drawn.chart = Chart(title, alt, _inline(file.getvalue(), title, alt))


def _inline(svg: str, title: str, alt: str) -> str:
    svg = svg[svg.index(">", svg.index("<svg")) + 1 :].replace("xlink:href", "href")
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->|font-family: [^;]*; ", "", svg, flags=re.S)
    # Names of parts are the same in every figure, but must be unique in a page.
    key = re.sub(r"\W+", "-", title.lower())
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{key}-", svg)
    for name, colour in {"text": TEXT, "line": LINE, "quiet": QUIET}.items():
        svg = svg.replace(colour, f"var(--{name})")
    for i, colour in enumerate(SERIES):
        svg = svg.replace(colour, f"var(--series-{i})")
    size = f"0 0 {72 * WIDTH:g} {72 * HEIGHT:g}"  # points
    return f'<svg role="img" viewBox="{size}" aria-label="{html.escape(alt)}">{svg}'
