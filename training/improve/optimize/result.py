"""The result of an optimization, as a table and as a picture: size, quality and latency."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from handlers.contract.model_card import Number
from training.figures.picture import picture, plotted
from training.figures.result import Result, Row
from training.figures.text import figure, table
from training.statistics.criteria import more_is_better

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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


class VariantRow(Row, frozen=True, kw_only=True):
    """A variant's measurements; the figures are the metric that decides, and ``PART: METRIC`` of each part of the rows.

    Attributes:
        bytes: size of the graph.
        drop: lost points of the deciding metric, with an interval; null where the variant computes NaN or infinity.
        agreement: share of the held-out rows with the champion's label; None for a regression.
        difference: the largest to the champion's output.
        batch_effect: the largest difference that other rows of a batch make to an output.
        p50_1_ms: median time of a batch of one row; likewise the 99th percentile, and those of 64 rows.
        memory_bytes: a worker's memory for the graph.
        speedup: ratio of the champion's time to the variant's, with an interval.
        verdict: the objection, or that it is chosen.
    """

    variant: str
    bytes: int
    parameters: int
    drop: Number
    drop_low: Number
    drop_high: Number
    agreement: Number
    difference: Number
    batch_effect: float
    memory_bytes: int
    p50_1_ms: float
    p99_1_ms: float
    p50_64_ms: float
    p99_64_ms: float
    rows_per_second: float
    speedup: float
    speedup_low: float
    speedup_high: float
    verdict: str = ""

    @property
    def milliseconds(self) -> dict[int, tuple[float, float]]:
        """Median and 99th percentile of the time of a batch, by its rows."""
        return {1: (self.p50_1_ms, self.p99_1_ms), 64: (self.p50_64_ms, self.p99_64_ms)}


class Optimization(Result, frozen=True, kw_only=True, tag="optimize"):
    """The result of an optimization.

    Attributes:
        primary: the metric that decides.
        max_drop: points of it that a variant may lose.
        threads: threads of one operator while timing.
        chosen: name of the variant; None where the champion stays.
        decision: reason of the choice.
        left_out: variants that could not be made, with the reason.
        rows: the champion's first.
        shares: shares of the channels that pruned variants lost.
    """

    heading = "Compression"
    tables: ClassVar[Mapping[str, type[Row]]] = {"rows": VariantRow}

    version: str
    task: str
    primary: str
    held_out: int
    max_drop: float
    threads: int
    int8_instructions: str
    chosen: str | None
    decision: str
    left_out: dict[str, str]
    rows: list[VariantRow]
    shares: list[float]

    @property
    def ordered(self) -> list[VariantRow]:
        """The champion, then the others, the fastest first."""
        reference, *others = self.rows
        return [reference, *sorted(others, key=lambda row: -row.speedup)]

    @property
    def verdict(self) -> str:
        """Decision and reason in a sentence."""
        return f"{'Chosen' if self.chosen else 'The champion stays'}: {self.decision}"

    def cells(self) -> list[list[str]]:
        """Return the table, its head first; the fastest variants first of the rest."""
        head = [column.format(metric=self.primary) for column in COLUMNS]
        return [head, *(_cells(row, self.primary) for row in self.ordered)]

    def brief(self) -> list[list[str]]:
        """Return the table without intervals, for a terminal."""
        head = ["variant", "size", "lost", "ms of 1", "ms of 64", "speed-up", ""]
        rows = [
            [
                row.variant,
                _bytes(row.bytes),
                "–" if row.drop is None else _points(row.drop),
                f"{row.p50_1_ms:.3g}",
                f"{row.p50_64_ms:.3g}",
                f"{row.speedup:.2f}",
                row.verdict,
            ]
            for row in self.ordered
        ]
        return [head, *rows]

    def markdown(self) -> str:
        """Return the table with the decision."""
        head, *rows = self.cells()
        notes = [
            f"Version {self.version}, {self.held_out:,} held-out rows, {self.threads} thread(s), "
            f"int8 instructions of this CPU: {self.int8_instructions or 'none'}. {_unit(self.primary)} "
            "Brackets: 95 % intervals, of the loss by the paired bootstrap, of the speed-up (the geometric mean over "
            "batches of 1 and 64) over interleaved rounds.",
            f"Loses too much: perhaps more than {self.max_drop:g} points. Varies by batch: an answer depends on who "
            "else asks. Not faster: perhaps no faster than the champion.",
            *([] if self.shares else ["Without pruning (`--prune 0`)."]),
            *(f"Not made: {name} ({why})." for name, why in self.left_out.items()),
            f"**{self.verdict}.**",
        ]
        return "\n".join([table(head, rows), *_slices(self.ordered), "\n\n".join(notes)])


def draw_optimization(result: Optimization, path: Path) -> None:
    """Draw lost points against time, alone and in a batch; areas show sizes."""
    with picture(path, 11, 4.5) as figure:
        for axes, size in zip(figure.subplots(1, 2, sharey=True), (1, 64), strict=True):
            _scatter(axes, result, size)
            axes.set(xscale="log", xlabel=f"time for {'a row' if size == 1 else f'{size} rows'}, the champion's is 1")
            axes.set_xticks([0.125, 0.25, 0.5, 1, 2, 4, 8], minor=False)
            axes.set_xticks([], minor=True)
            axes.xaxis.set_major_formatter("{x:g}")
            axes.grid(alpha=0.3)
        first = figure.axes[0]
        if max(row.drop_high or 0 for row in result.rows) > 5:
            first.set_yscale("symlog", linthresh=1)
        first.yaxis.set_major_formatter("{x:g}")
        first.invert_yaxis()  # up is better
        first.set_ylabel(f"points of {result.primary} lost")
        handles, labels = first.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", fontsize="small", markerscale=0.4)


def _scatter(axes: "Axes", result: Optimization, size: int) -> None:
    from matplotlib import colormaps

    rows = [row for row in result.rows if row.drop is not None]
    colors = colormaps["turbo"](np.linspace(0.05, 0.95, len(rows)))  # as many as there are variants, none twice
    largest = max(row.bytes for row in rows)
    for i, row in enumerate(rows):
        x = row.milliseconds[size][0] / rows[0].milliseconds[size][0]
        low, lost, high = plotted([row.drop_low, row.drop, row.drop_high])
        axes.errorbar(x, lost, [[max(0, lost - low)], [max(0, high - lost)]], color=colors[i], linewidth=0.8)
        label = f"{i + 1} {row.variant}, {_bytes(row.bytes)}"
        axes.scatter(x, lost, 20 + 500 * row.bytes / largest, color=colors[i], alpha=0.5, label=label)
        axes.annotate(str(i + 1), (x, lost), ha="center", va="center", fontsize="small")
    axes.axhline(result.max_drop, color="grey", linestyle="--")


def _cells(row: VariantRow, metric: str) -> list[str]:
    speedup = f"{row.speedup:.2f} ({row.speedup_low:.2f} to {row.speedup_high:.2f})"
    lost = "–"
    if row.drop is not None and row.drop_low is not None and row.drop_high is not None:
        lost = f"{_points(row.drop)} ({_points(row.drop_low)} to {_points(row.drop_high)})"
    chosen, first, value = row.verdict == CHOSEN, row.verdict == "the champion", row.figures[metric]
    return [
        f"**{row.variant}**" if chosen else row.variant,
        _bytes(row.bytes),
        "–" if value is None else f"{value:.4f}",
        "" if first else lost,
        *(f"{p50:.3g}, {p99:.3g}" for p50, p99 in row.milliseconds.values()),
        f"{row.rows_per_second:,.0f}",
        _bytes(row.memory_bytes),
        "" if first else speedup,
        row.verdict,
    ]


def _slices(rows: Sequence[VariantRow]) -> list[str]:
    names = [name for name in rows[0].figures if ": " in name]
    if not names:
        return []
    return [table(["variant", *names], ([row.variant, *(figure(row.figures[name]) for name in names)] for row in rows))]


def _points(value: float) -> str:
    return f"{value:+.2f}" if abs(value) < 1000 else f"{value:+.1e}"


def _bytes(value: float) -> str:
    if abs(value) < 1e6:
        return f"{value / 1e3:,.0f} kB"
    return f"{value / 1e6:,.1f} MB"


def _unit(metric: str) -> str:
    if metric == "accuracy":
        return "A point is one row in a hundred."
    name = metric.upper() if metric in ("rmse", "mae") else metric
    point = f"a hundredth of {name}" if more_is_better(metric) else f"one percent of the champion's {name}"
    return f"A point is {point}."
