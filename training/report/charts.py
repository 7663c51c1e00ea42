"""The charts of an evaluation: learning curves, ROC and precision–recall, reliability, residuals."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_curve

from handlers.contract import Array
from training.figures.svg import LINE, QUIET, SERIES, Chart, drawing
from training.statistics.calibration import reliability, scaled

NAMED = 4  # classes that have a colour and a name in one chart
POINTS = 150  # most points of a curve
MAGNITUDES = 20  # ratio of the largest to the smallest loss above which its axis is logarithmic
FEWEST = 10  # least rows of a bin that is shown: fewer say nothing
DOTS = 700  # most rows of a scatter plot


def learning_curves(history: Sequence[Mapping[str, float]]) -> list[Chart]:
    """Chart loss, accuracy, gradient and learning rate by epoch, as far as they were recorded."""
    panels: dict[str, dict[str, str]] = {
        "Loss": {"loss": "training", "val_loss": "validation"},
        "Validation accuracy": {"val_accuracy": ""},
        "Gradient norm": {"gradient_norm": ""},
        "Learning rate": {"learning_rate": ""},
    }
    charts = []
    for title, lines in panels.items():
        shown = {name: label for name, label in lines.items() if history and name in history[0]}
        if not shown or len(history) < 2:  # one epoch is no curve
            continue
        ends = (f"{label} {history[0][name]:.3g} to {history[-1][name]:.3g}".strip() for name, label in shown.items())
        alt = f"{title} from the first epoch shown to the last: {'; '.join(ends)}."
        with drawing(title, alt, xlabel="epoch") as chart:
            for colour, (name, label) in zip(SERIES, shown.items(), strict=False):
                values = [entry[name] for entry in history]
                chart.axes.plot([entry["epoch"] for entry in history], values, ".-", color=colour, label=label or None)
            everything = [entry[name] for entry in history for name in shown]
            if title in ("Loss", "Gradient norm") and 0 < MAGNITUDES * min(everything) < max(everything):
                chart.axes.set_yscale("log")
            chart.axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        charts.append(chart.chart)
    return charts


def roc(output: Array, target: Array, labels: Sequence[str]) -> Chart:
    """Chart the receiver operating characteristic of each class against the others."""

    def curve(truth: Array, scores: Array) -> tuple[Array, Array, float]:
        false, true, _ = roc_curve(truth, scores)
        return false, true, float(auc(false, true))

    axes = {"xlabel": "false positive rate", "ylabel": "true positive rate"}
    return _one_against_others(Curves("ROC", "area under the curve", curve, axes), output, target, labels)


def precision_recall(output: Array, target: Array, labels: Sequence[str]) -> Chart:
    """Chart precision and recall of each class, over all thresholds."""

    def curve(truth: Array, scores: Array) -> tuple[Array, Array, float]:
        precision, recall, _ = precision_recall_curve(truth, scores)
        return recall, precision, float(average_precision_score(truth, scores))

    axes = {"xlabel": "recall", "ylabel": "precision"}
    return _one_against_others(Curves("Precision and recall", "average precision", curve, axes), output, target, labels)


def reliability_diagram(probabilities: Array, target: Array, temperature: float | None) -> Chart:
    """Chart accuracy by confidence, as served and with the temperature."""
    lines = {"as served": probabilities}
    if temperature is not None:
        lines[f"with temperature {temperature:.2f}"] = scaled(probabilities, temperature)
    least = min(FEWEST, len(target) // 10)
    bins = {
        label: [each for each in reliability(values, target) if each.rows >= least] for label, values in lines.items()
    }
    points = (f"{each.confidence:.0%} sure, {each.accuracy:.0%} right" for each in bins["as served"])
    axes = {"xlabel": "confidence", "ylabel": "accuracy"}
    alt = f"Answers by confidence, where at least {least:,} have it: {'; '.join(points)}."
    with drawing("Reliability", alt, **axes) as chart:
        chart.axes.plot([0, 1], [0, 1], "--", color=LINE)
        for colour, marker, (label, shown) in zip(SERIES, "os", bins.items(), strict=False):
            x, y = np.array([(each.confidence, each.accuracy) for each in shown], np.float64).reshape(-1, 2).T
            chart.axes.plot(x, y, color=colour, marker=marker, markersize=4, label=label)
    return chart.chart


def residuals(output: Array, target: Array, unit: str) -> list[Chart]:
    """Chart answer against truth, error against answer, and the distribution of errors."""
    error = output.astype(np.float64) - target
    rows = np.random.default_rng(0).permutation(len(error))[:DOTS]
    suffix = f", {unit}" if unit else ""
    low, middle, high = np.quantile(error, [0.05, 0.5, 0.95])
    spread = f"half of the errors are below {middle:.3g}, nine in ten between {low:.3g} and {high:.3g}{suffix}"
    dots: dict[str, Any] = {"s": 6, "color": SERIES[0], "alpha": 0.4, "linewidths": 0}
    sample = f"of {len(rows):,} of {len(error):,} rows"
    labels = {"xlabel": f"truth{suffix}", "ylabel": f"answer{suffix}"}
    with drawing("Answer and truth", f"Answers and truths {sample}; {spread}.", **labels) as first:
        first.axes.plot([target.min(), target.max()], [target.min(), target.max()], "--", color=QUIET)
        first.axes.scatter(target[rows], output[rows], **dots)
    labels = {"xlabel": f"answer{suffix}", "ylabel": f"answer − truth{suffix}"}
    with drawing("Residuals", f"Errors by answer {sample}; {spread}.", **labels) as second:
        second.axes.axhline(0, color=QUIET, linestyle="--")
        second.axes.scatter(output[rows], error[rows], **dots)
    labels = {"xlabel": f"answer − truth{suffix}", "ylabel": "rows"}
    with drawing("Distribution of residuals", f"Histogram of the errors; {spread}.", **labels) as third:
        third.axes.hist(error, bins=60, color=SERIES[0])
    return [first.chart, second.chart, third.chart]


class Curves(NamedTuple):
    """A kind of curves: the measure of their area, and a function of truth and score to curve and area."""

    title: str
    measure: str
    curve: Callable[[Array, Array], tuple[Array, Array, float]]
    axes: Mapping[str, str]


def _one_against_others(kind: Curves, output: Array, target: Array, labels: Sequence[str]) -> Chart:
    """Draw a curve for each class with rows; those with the smallest areas have a colour and a name."""
    title, measure, curve, axes = kind
    there = [k for k in range(len(labels)) if 0 < (target == k).sum() < len(target)]
    curves = sorted(((*curve(target == k, output[:, k]), labels[k]) for k in there), key=lambda drawn: drawn[2])
    areas = ", ".join(f"{label} {area:.3f}" for _, _, area, label in curves[: 2 * NAMED])
    more = ", the smallest" if len(curves) > 2 * NAMED else ""
    with drawing(title, f"{title} of each class against the others; {measure}{more}: {areas}.", **axes) as chart:
        for i, (x, y, area, label) in reversed(list(enumerate(curves))):
            points = np.unique(np.linspace(0, len(x) - 1, POINTS).astype(int))
            named = i < NAMED
            colour, name = (SERIES[i], f"{label} {area:.3f}") if named else (QUIET, None)
            chart.axes.plot(x[points], y[points], color=colour, label=name, linewidth=1.6 if named else 0.8)
        if len(curves) > NAMED:
            chart.axes.plot([], [], color=QUIET, label="the other classes")
    return chart.chart
