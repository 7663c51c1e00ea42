"""The picture of an ablation: for each start its learning curves, and what each practice is worth."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from handlers.contract.model_card import Number
from training.figures.picture import picture, plotted
from training.improve.ablate import Ablation, AblationRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 4  # practices whose curve has a colour, beside the start


def draw_ablation(result: Ablation, path: Path) -> None:
    """Draw a result of `ablate` as PNG: curves on the rows that were watched, differences with their spread."""
    starts = list(dict.fromkeys(row.start for row in result.rows))
    with picture(path, 13, 6 * len(starts), dpi=100) as figure:
        for (left, right), start in zip(figure.subplots(len(starts), 2, squeeze=False), starts, strict=True):
            rows = [row for row in result.rows if row.start == start]
            curves = {curve.practice: curve.values for curve in result.curves if curve.start == start}
            _draw_curves(left, curves, rows, result.metric)
            left.set_title(f"learning curves from {start}")
            _draw_differences(right, rows[1:], result.metric)


def _draw_curves(axes: "Axes", curves: Mapping[str, list[Number]], rows: list[AblationRow], metric: str) -> None:
    first, *others = rows
    best = sorted(others, key=lambda row: -abs(row.difference or 0))[:SHOWN]
    coloured = [first.practice, *(row.practice for row in best)]
    for name, values in curves.items():
        epochs, heights = range(1, len(values) + 1), plotted(values)
        if name in coloured:
            axes.plot(epochs, heights, marker=".", label=name, color=f"C{coloured.index(name)}", zorder=3)
        else:
            axes.plot(epochs, heights, color="lightgrey", zorder=1)
    axes.set(xlabel="epoch", ylabel=f"{'loss' if metric == 'rmse' else metric} on the rows that are watched")
    axes.grid(alpha=0.3)
    axes.legend(title="largest effects; grey: the others", fontsize="small")


def _draw_differences(axes: "Axes", rows: list[AblationRow], metric: str) -> None:
    scale = 100 if metric == "accuracy" else 1
    values = scale * plotted([row.difference for row in rows])
    spreads = scale * plotted([row.difference_spread for row in rows])
    places = range(len(rows))
    axes.barh(places, values, xerr=spreads, color="C0", ecolor="grey")
    axes.set_yticks(places, [row.practice for row in rows])
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(xlabel=f"held-out {metric}{', points,' if scale == 100 else ''} against the start, ± spread over seeds")
    axes.grid(alpha=0.3, axis="x")
