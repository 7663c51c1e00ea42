"""What came of an optimization, as a table and as a picture: size, quality and latency."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from training.figures.picture import picture
from training.figures.text import figure, table
from training.statistics.criteria import more_is_better

CHOSEN = "chosen"
COLUMNS = (
    "variant",
    "size",
    "{metric}",
    "points lost",
    "p50, p99 of 1 (ms)",
    "p50, p99 of 64 (ms)",
    "rows/s",
    "memory",
    "speed-up",
    "",
)


def cells(result: Mapping[str, Any]) -> list[list[str]]:
    """The table of a result, its head first; the fastest variants first of the rest."""
    head = [column.format(metric=result["primary"]) for column in COLUMNS]
    return [head, *(_cells(row, result["primary"]) for row in _ordered(result))]


def brief(result: Mapping[str, Any]) -> list[list[str]]:
    """The same without intervals, for a terminal."""
    head = ["variant", "size", "lost", "ms of 1", "ms of 64", "speed-up", ""]
    rows = [
        [
            row["variant"],
            _bytes(row["bytes"]),
            "–" if row["drop"] is None else _points(row["drop"]),
            f"{row['p50_1_ms']:.3g}",
            f"{row['p50_64_ms']:.3g}",
            f"{row['speedup']:.2f}",
            row["verdict"],
        ]
        for row in _ordered(result)
    ]
    return [head, *rows]


def verdict(result: Mapping[str, Any]) -> str:
    """What was decided, and why."""
    return f"{'Chosen' if result['chosen'] else 'The champion stays'}: {result['decision']}"


def markdown(result: Mapping[str, Any]) -> str:
    """The table of a result with what was decided, in Markdown."""
    head, *rows = cells(result)
    notes = [
        f"Version {result['version']}, {result['held_out']:,} held-out rows, {result['threads']} thread(s), "
        f"int8 instructions of this CPU: {result['int8_instructions'] or 'none'}. {_unit(result)} "
        "Brackets: 95 % intervals, of the loss by the paired bootstrap, of the speed-up (the geometric mean over "
        "batches of 1 and 64) over interleaved rounds.",
        f"Loses too much: perhaps more than {result['max_drop']:g} points. Varies by batch: an answer depends on who "
        "else asks. Not faster: perhaps no faster than the champion.",
        *([] if result["shares"] else ["Without pruning (`--prune 0`)."]),
        *(f"Not made: {name} ({why})." for name, why in result["left_out"].items()),
        f"**{verdict(result)}.**",
    ]
    return "\n".join([table(head, rows), *_slices(result), "\n\n".join(notes)])


def draw(result: Mapping[str, Any], path: Path) -> None:
    """The picture: how good against how slow, alone and in a batch; areas show sizes."""
    with picture(path, 11, 4.5) as figure:
        for axes, size in zip(figure.subplots(1, 2, sharey=True), (1, 64), strict=True):
            _scatter(axes, result, size)
            axes.set(xscale="log", xlabel=f"time for {'a row' if size == 1 else f'{size} rows'}, the champion's is 1")
            axes.set_xticks([0.125, 0.25, 0.5, 1, 2, 4, 8], minor=False)
            axes.set_xticks([], minor=True)
            axes.xaxis.set_major_formatter("{x:g}")
            axes.grid(alpha=0.3)
        first = figure.axes[0]
        if max(row["drop_high"] or 0 for row in result["rows"]) > 5:
            first.set_yscale("symlog", linthresh=1)
        first.yaxis.set_major_formatter("{x:g}")
        first.invert_yaxis()  # up is better
        first.set_ylabel(f"points of {result['primary']} lost")
        handles, labels = first.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", fontsize="small", markerscale=0.4)


def _scatter(axes: Any, result: Mapping[str, Any], size: int) -> None:
    from matplotlib import colormaps

    rows = [row for row in result["rows"] if row["drop"] is not None]
    colors = colormaps["turbo"](np.linspace(0.05, 0.95, len(rows)))  # as many as there are variants, none twice
    column, largest = f"p50_{size}_ms", max(row["bytes"] for row in rows)
    for i, row in enumerate(rows):
        x, lost, color = row[column] / rows[0][column], row["drop"], colors[i]
        interval = [[max(0, lost - row["drop_low"])], [max(0, row["drop_high"] - lost)]]
        axes.errorbar(x, lost, interval, color=color, linewidth=0.8)
        label = f"{i + 1} {row['variant']}, {_bytes(row['bytes'])}"
        axes.scatter(x, lost, 20 + 500 * row["bytes"] / largest, color=color, alpha=0.5, label=label)
        axes.annotate(str(i + 1), (x, lost), ha="center", va="center", fontsize="small")
    axes.axhline(result["max_drop"], color="grey", linestyle="--")


def _cells(row: Mapping[str, Any], metric: str) -> list[str]:
    speedup = f"{row['speedup']:.2f} ({row['speedup_low']:.2f} to {row['speedup_high']:.2f})"
    lost = "–" if row["drop"] is None else f"{_points(row['drop'])} ({_points(row['drop_low'])} to "
    lost += "" if row["drop"] is None else f"{_points(row['drop_high'])})"
    chosen, first = row["verdict"] == CHOSEN, row["verdict"] == "the champion"
    return [
        f"**{row['variant']}**" if chosen else row["variant"],
        _bytes(row["bytes"]),
        "–" if row[metric] is None else f"{row[metric]:.4f}",
        "" if first else lost,
        *(f"{row[f'p50_{size}_ms']:.3g}, {row[f'p99_{size}_ms']:.3g}" for size in (1, 64)),
        f"{row['rows_per_second']:,.0f}",
        _bytes(row["memory_bytes"]),
        "" if first else speedup,
        row["verdict"],
    ]


def _slices(result: Mapping[str, Any]) -> list[str]:
    rows = _ordered(result)
    names = [name for name in rows[0] if ": " in name]
    if not names:
        return []
    return [table(["variant", *names], ([row["variant"], *(figure(row[name]) for name in names)] for row in rows))]


def _ordered(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    reference, *others = result["rows"]
    return [reference, *sorted(others, key=lambda row: -row["speedup"])]


def _points(value: float) -> str:
    return f"{value:+.2f}" if abs(value) < 1000 else f"{value:+.1e}"


def _bytes(value: float) -> str:
    if abs(value) < 1e6:
        return f"{value / 1e3:,.0f} kB"
    return f"{value / 1e6:,.1f} MB"


def _unit(result: Mapping[str, Any]) -> str:
    metric = result["primary"]
    if metric == "accuracy":
        return "A point is one row in a hundred."
    name = metric.upper() if metric in ("rmse", "mae") else metric
    of = f"a hundredth of {name}" if more_is_better(metric) else f"one percent of the champion's {name}"
    return f"A point is {of}."
