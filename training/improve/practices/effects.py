"""The effect of a practice in a few words: the figure of a command's result that stands in the table of practices.

Each function takes the result, and the arguments ``of`` of its row in ``practices.yaml``.
"""

from collections.abc import Callable

import numpy as np

from training.figures.picture import plotted
from training.figures.text import figure
from training.improve.ablate import Ablation, AblationRow
from training.improve.formats.result import Export
from training.improve.learning_curve import LearningCurve
from training.improve.optimize.result import Optimization
from training.improve.practices.monitored import DriftAlarms, Replay
from training.improve.search_report import Search
from training.report.champion import Report


def against(result: Report, baseline: str) -> str:
    """Compare the deciding metric, with its interval, to a baseline's."""
    name = result.primary
    low, high = result.intervals.get(name) or (None, None)
    model, *others = result.rows
    (other,) = [row for row in others if row.model == baseline]
    interval = f"{figure(low)} to {figure(high)}"
    return f"{name} {figure(model.figures[name])} ({interval}) against {figure(other.figures[name])} of the {baseline}"


def calibrated(result: Report) -> str:
    """State the calibration error, as it is and with a temperature."""
    measured = result.calibration
    if measured is None or measured.scaled is None:
        return "not calibrated"
    scaled = f"{figure(measured.scaled.ece)} with temperature {measured.temperature:.2f}"
    return f"ECE {figure(measured.ece)} → {scaled}"


def parity(result: Report) -> str:
    """State the largest difference of the served graph from PyTorch."""
    measured = result.parity
    return f"largest difference from PyTorch {measured['onnxruntime']:.1e}, over {measured['rows']:,} rows"


def by_slice(result: Report, metric: str, baseline: str) -> str:
    """Compare a metric of each slice to a baseline's."""
    rows = {(row.slice, row.model): row.figures[metric] for row in result.slices or []}
    model = result.rows[0].model
    each = (
        f"{name} {figure(rows[name, model])} against {figure(rows[name, baseline])}"
        for name in dict.fromkeys(name for name, _ in rows)
    )
    return f"{metric}: {', '.join(each)} of {baseline}"


def ablated(result: Ablation, variant: str, beside: str = "") -> str:
    """State a variant's difference to each start, in points of a share; in brackets that of the variant ``beside``."""

    def difference(row: AblationRow) -> str:
        value, spread = scale * plotted([row.difference, row.difference_spread])
        return f"{'−' if value < 0 else '+'}{abs(value):.2f} ± {spread:.2f}"

    rows = {(row.start, row.practice): row for row in result.rows}
    scale, unit = (100, " points") if result.metric == "accuracy" else (1, f" of {result.metric}")
    parts = []
    for start in dict.fromkeys(start for start, _ in rows):
        if (row := rows.get((start, variant))) is not None:
            other = rows.get((start, beside))
            note = f" (run to its end: {difference(other)})" if other else ""
            parts.append(f"{difference(row)}{unit} from `{start}`{note}")
    return ", ".join(parts) or "not tried"


def searched(result: Search) -> str:
    """State how much better the best trial of a search is than the preset, on held-out rows."""
    best, before = (
        np.mean(plotted([row.test for row in result.rows if (row.preset == result.preset) is is_preset]))
        for is_preset in (False, True)
    )
    share = result.metric == "accuracy"
    gain = 100 * (best - before) if share else best - before
    unit = f"points of {result.metric}" if share else result.metric
    budget = f"against preset {result.preset} in the same budget, after {len(result.trials)} trials"
    return f"{gain:+.2f} {unit} {budget}"


def pretraining(result: LearningCurve, name: str) -> str:
    """Compare both starts by the shown metric of one slice, with the fewest and with the most rows."""
    rows = [row for row in result.rows if row.slice == name]
    values = {(row.rows, row.start): row.figures[result.metric] for row in rows}
    each = (
        f"{figure(values[size, 'pretrained'])} against {figure(values[size, 'from scratch'])} with {size:,} rows"
        for size in (min(row.rows for row in rows), max(row.rows for row in rows))
    )
    return f"{result.metric}, {name}, pretrained against from scratch: {'; '.join(each)}"


def exported(result: Export) -> str:
    """State the largest difference of each format from PyTorch."""
    each = ", ".join(f"{row.format} {row.max_abs_difference:.1e}" for row in result.rows)
    return f"largest difference from PyTorch over {result.compared_rows:,} rows: {each}"


def variant(result: Optimization, name: str) -> str:
    """State the gain and the loss of one variant of an optimization."""
    row = next((row for row in result.rows if row.variant == name), None)
    if row is None:
        return f"not made: {result.left_out[name]}"
    size = f"{row.bytes / result.rows[0].bytes:.0%} of the size, {row.speedup:.2f} times as fast"
    if row.drop is None:
        return f"{size}, computes NaN or infinity"
    return f"{size}, {row.drop:+.2f} points of {result.primary} lost ({row.drop_low:+.2f} to {row.drop_high:+.2f})"


def distilled(result: Optimization) -> str:
    """Compare a small network with and without its teacher."""
    rows = {row.variant: row.figures[result.primary] for row in result.rows}
    taught, alone = (figure(rows[name]) for name in ("distilled", "small"))
    return f"{result.primary} {taught} taught, {alone} alone; {variant(result, 'distilled')}"


def drift(result: DriftAlarms) -> str:
    """State the share of windows that alarm before the world moves on, and after."""
    before, _, later, *_ = result.rows
    return (
        f"{before.alarm:.1%} of the windows from the known months alarm, {later.alarm:.1%} of those from {later.period}"
    )


def replayed(result: Replay) -> str:
    """State the error that the loop saves, and the number of retrainings."""
    goals = result.goals
    if goals.saved is None:
        return "not known: neither arm lived through a month from April to October"
    return (
        f"{goals.saved:.0%} less error from April to October than a version that is never retrained, with "
        f"{goals.retrainings} retrainings from March to December and {goals.retrainings_known} before"
    )


EFFECTS: dict[str, Callable[..., str]] = {
    effect.__name__: effect
    for effect in (against, calibrated, parity, by_slice, ablated, searched, pretraining, exported, variant, distilled,
                   drift, replayed)
}  # fmt: skip
