"""The common parts of both benches' pages: goals, tables, and the bars of their charts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from loadtests.bench.results import Run, Spread
from training.figures.text import table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS, THEIRS = "#1f77b4", "#b0b7c3"  # colours of bars
FEWEST = 3  # rounds of figures to rely on


class Goal(NamedTuple):
    """A goal in words, with its bound and the measured value.

    Attributes:
        met: None where it was not measured.
    """

    text: str
    bound: str
    measured: str
    met: bool | None


def at_least(text: str, bound: float, ratio: Spread | None) -> Goal:
    """Return the goal of a ratio that must not be smaller than ``bound``."""
    return Goal(text, f"≥ {bound:g} ×", times(ratio), None if ratio is None else ratio.median >= bound)


def at_most(text: str, bound: float, ratio: Spread | None) -> Goal:
    """Return the goal of a ratio that must not be larger than ``bound``."""
    return Goal(text, f"≤ {bound:g} ×", times(ratio), None if ratio is None else ratio.median <= bound)


def times(ratio: Spread | None) -> str:
    """Format a ratio with its smallest and largest round."""
    return "–" if ratio is None else f"{ratio.median:.2f} × ({ratio.low:.2f}–{ratio.high:.2f})"


def span(spread: Spread | None, digits: int) -> str:
    """Format a median with its smallest and largest round."""
    if spread is None:
        return "–"
    median, low, high = (f"{value:,.{digits}f}" for value in spread)
    return f"{median} ({low}–{high})"


def head(rounds: int, paragraphs: Sequence[str]) -> str:
    """Format the paragraphs above the tables, with a warning about figures of few rounds."""
    warning = "**A quick check, too short for figures to rely on.**"
    return "".join(f"{text}\n\n" for text in ([warning] if rounds < FEWEST else []) + [*paragraphs]).removesuffix("\n")


def goals_table(goals: Sequence[Goal]) -> str:
    """Format goals with their bounds and measured values."""
    words = {True: "yes", False: "**no**", None: "not measured"}
    rows = [(goal.text, goal.bound, goal.measured, words[goal.met]) for goal in goals]
    return "### Goals\n\n" + table(("goal", "bound", "measured", "met"), rows)


def missing_table(run: Run, kind: str) -> str:
    """Format the missing contenders with reasons; empty without any."""
    rows = [(run.titles.get(name, name), " ".join(why.split())[:400]) for name, why in run.absent.items()]
    return "### Missing\n\n" + table((kind, "why"), rows) if rows else ""


def versions_line(packages: set[str]) -> str:
    """Format the versions of packages, ``name==version``."""
    return f"Versions: {', '.join(sorted(packages, key=str.lower))}.\n" if packages else ""


def draw_bars(axes: "Axes", bars: Sequence[tuple[str, bool, Spread | None]], unit: str) -> None:
    """Draw a bar a contender from below, smallest and largest round as whiskers.

    Args:
        bars: name, whether it is ours, and the measured spread.
    """
    spreads = [spread or Spread(0, 0, 0) for _, _, spread in bars]
    whiskers = [[s.median - s.low for s in spreads], [s.high - s.median for s in spreads]]
    colors = [OURS if ours else THEIRS for _, ours, _ in bars]
    rectangles = axes.barh([name for name, *_ in bars], [s.median for s in spreads], color=colors, xerr=whiskers)
    axes.bar_label(rectangles, [f"{spread.median:,.0f}" if spread else "–" for *_, spread in bars], padding=6)
    axes.set_xlabel(unit)
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
