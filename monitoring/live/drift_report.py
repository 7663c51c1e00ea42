"""The drift report: one window beside its reference, in one file that opens offline."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from handlers.contract import ModelContract
from monitoring.live.drift import LEVEL, Drift, Finding, Window, detect, windows_of
from monitoring.live.live import newest_rows
from monitoring.store.predictions import Store
from monitoring.store.records import Labelled, Prediction
from serving.documents import write_atomically
from training.figures.svg import QUIET, SERIES, Chart, drawing
from training.figures.template import template

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEMPLATE = Path(__file__).with_name("drift_report.html")
BINS = 30
NAMED = 12  # categories that are shown, those whose share changed most
WORDS = {"ks": "Kolmogorov–Smirnov", "js": "Jensen–Shannon"}


def write_report(store: Store, contract: ModelContract, until: datetime, path: Path) -> Drift:
    """Write the page of the newest rows before a moment in UTC, and return the drift that it shows.

    The folder of the page is made.
    """
    predictions, labelled = newest_rows(store, contract, until)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, render(contract, predictions, labelled).encode())
    return detect(contract, predictions, labelled)


def render(contract: ModelContract, predictions: Sequence[Prediction], labelled: Sequence[Labelled] = ()) -> str:
    """Return the page as HTML; arguments as of ``drift.detect``."""
    drift, charts = compare(contract, predictions, labelled)
    return template(TEMPLATE, {"share": _share, "words": WORDS.__getitem__}).render(
        contract=contract, drift=drift, figures=charts, verdict=verdict(drift), level=LEVEL
    )


def compare(
    contract: ModelContract, predictions: Sequence[Prediction], labelled: Sequence[Labelled] = ()
) -> tuple[Drift, list[Chart]]:
    """Return the drift, and a chart of each distribution that has rows; arguments as of ``drift.detect``."""
    drift = detect(contract, predictions, labelled)
    windows = {(window.kind, window.name): window for window in windows_of(contract, predictions, labelled)}
    return drift, [
        _chart(contract, finding, windows[finding.kind, finding.name]) for finding in drift.findings if finding.rows
    ]


def document(drift: Drift, page: Path) -> dict[str, object]:
    """Return the drift as the monitor's API does, with its verdict in words and the path of its page."""
    alarms = {"alarm": drift.alarm, "alarms": drift.alarms}
    findings: dict[str, object] = msgspec.to_builtins(drift)
    return findings | alarms | {"verdict": verdict(drift), "page": str(page)}


def verdict(drift: Drift) -> str:
    """Return the findings in words."""
    if not drift.alarms:
        return "No verdict: too few rows, too short a time, or a reference too small to know what is usual."
    drifted = [finding.name for finding in drift.findings if finding.alarm]
    unjudged = [finding.name for finding in drift.findings if finding.p is None]
    words = f"Drift in {', '.join(drifted)}." if drifted else "No drift."
    words += " The errors are smaller than at training." if drift.smaller else ""
    return words + (f" Not judged: {', '.join(unjudged)}." if unjudged else "")


def _chart(contract: ModelContract, finding: Finding, window: Window) -> Chart:
    unit = _unit(contract, finding)
    psi = f"PSI {finding.psi:.3f}" + ("" if finding.psi_usual is None else f", usual up to {finding.psi_usual:.3f}")
    alt = f"{finding.name} of {finding.rows:,} rows beside the reference: distance {finding.statistic:.3f}, {psi}."
    labels = {"xlabel": unit, "ylabel": "share of rows"}
    with drawing(finding.name, alt, **labels) as chart:
        if window.summary.quantiles is not None:
            _numbers(chart.axes, window)
        else:
            _categories(chart.axes, window)
    return chart.chart


def _unit(contract: ModelContract, finding: Finding) -> str:
    if finding.kind != "features":
        target = finding.name.partition(" of ")[2]
        units = [spec.unit for spec in contract.outputs if not target or spec.name == target]
        unit = units[0] if contract.task == "regression" else ""
        return f"{finding.name}, {unit}" if unit else finding.name
    spec = next((spec for spec in contract.inputs if spec.name == finding.name), None)
    if spec is None:  # whether an input has a value
        return finding.name
    if spec.datatype == "BYTES":
        return finding.name if spec.categories else f"{finding.name}, characters"
    mean = "" if spec.is_scalar else ", mean of a row"
    return finding.name + mean + (f", {spec.unit}" if spec.unit else "")


def _numbers(axes: "Axes", window: Window) -> None:
    reference = window.summary.numbers
    low, high = np.quantile(np.concatenate([reference, window.values]), [0.005, 0.995])
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    for values, colour, label in ((reference, QUIET, "reference"), (window.values, SERIES[0], "window")):
        shares = np.histogram(values, edges)[0] / len(values)
        axes.stairs(shares, edges, color=colour, fill=label == "reference", alpha=0.5 if label == "reference" else 1)
        axes.plot([], [], color=colour, label=label)


def _categories(axes: "Axes", window: Window) -> None:
    categories = window.summary.counts or {}
    names = [*categories, "unknown"]
    counts = np.array([*categories.values(), 0])
    reference, shares = counts / counts.sum(), np.bincount(window.values, minlength=len(names)) / len(window.values)
    shown = np.argsort(-np.abs(shares - reference), kind="stable")[:NAMED]
    shown = shown[(reference[shown] > 0) | (shares[shown] > 0)]
    shown = shown[np.argsort(-reference[shown], kind="stable")]
    places = np.arange(len(shown))
    axes.bar(places - 0.2, reference[shown], 0.4, color=QUIET, label="reference")
    axes.bar(places + 0.2, shares[shown], 0.4, color=SERIES[0], label="window")
    axes.set_xticks(places, [names[i] for i in shown], rotation=90 if len(shown) > 6 else 0)


def _share(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1e}" if 0 < value < 1e-3 else f"{value:.3f}"
