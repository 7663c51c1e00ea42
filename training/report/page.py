"""The page about a version's quality, in one file that opens offline."""

from pathlib import Path
from typing import Any

import msgspec

from handlers.contract import Array, ModelContract
from handlers.contract.model_card import Evaluation
from serving.documents import write_atomically
from training.figures.svg import Chart
from training.figures.template import template
from training.figures.text import figure
from training.packaging.contents import Described
from training.recipe import Data
from training.report import charts
from training.report.mistakes import worst

FOLDER = "reports"  # a folder in the model store
TEMPLATE = Path(__file__).with_name("page.html")
CLASSES = 30  # most classes of a confusion matrix that is shown
PAIRS = 5  # pairs of confused classes that are shown in words


def write_page(model: Described, contract: ModelContract, data: Data, output: Array, store: Path) -> Path:
    """Write the page of one version into the model store, ``reports/MODEL-VERSION.html``.

    Args:
        output: the served module's for ``data.test``.
    """
    path = store / FOLDER / f"{contract.name}-{contract.version}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, render(model, contract, data, output).encode(), private=True)  # it has rows of the data
    return path


def render(model: Described, contract: ModelContract, data: Data, output: Array) -> str:
    """Render the page as HTML; arguments as for ``write_page``."""
    evaluation = contract.evaluation
    lineage = msgspec.to_builtins(contract.lineage)
    lineage.pop("history", None)
    return template(TEMPLATE, {"number": figure, "interval": _interval, "signed": _signed}).render(
        model=model,
        rows_name=_rows_name(contract),
        contract=contract,
        evaluation=evaluation,
        parts={"": evaluation, **evaluation.slices},
        unit=contract.outputs[0].unit,
        learning=charts.learning_curves(contract.lineage.epochs),
        quality=_quality(contract, data, output),
        confused=_confused(evaluation.confusion, contract.labels),
        classes=CLASSES,
        validation_rows=0 if data.validation is None else len(data.validation),
        cards=bool(data.test.texts) or not contract.has_named_rows,  # else rows of a table
        mistakes=worst(contract, data.test, output, model.entry_point == "image"),
        lineage=lineage,
    )


def _rows_name(contract: ModelContract) -> str:
    """Return what the rows are called that a version is measured on."""
    if contract.evaluation.held_out_since:
        return "rows held out of the newest feedback"
    return "given rows" if contract.lineage.imported else "held-out rows"


def _quality(contract: ModelContract, data: Data, output: Array) -> list[Chart]:
    target = data.test.target
    if contract.task != "classification":
        return [chart for own in _columns(contract, output, target) for chart in charts.residuals(*own)]
    calibration = contract.evaluation.calibration
    return [
        charts.roc(output, target, contract.labels),
        charts.precision_recall(output, target, contract.labels),
        charts.reliability_diagram(output, target, calibration.temperature if calibration else None),
    ]


def _columns(contract: ModelContract, output: Array, target: Array) -> list[tuple[Array, Array, str]]:
    """Return answers and truth of each target, and what they are."""
    if not contract.has_targets:
        return [(output, target, contract.outputs[0].unit)]
    words = [f"{spec.name}, {spec.unit}" if spec.unit else spec.name for spec in contract.outputs]
    return [(output[:, i], target[:, i], name) for i, name in enumerate(words)]


def _confused(confusion: list[list[int]], labels: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the commonest confusions: count and share of a class's rows that were answered with another."""
    pairs: list[dict[str, Any]] = [
        {"truth": labels[i], "answer": labels[j], "rows": count, "share": count / sum(row)}
        for i, row in enumerate(confusion)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(pairs, key=lambda pair: -pair["rows"])[:PAIRS]


def _signed(value: float | None) -> str:
    return figure(value) if value is None or value < 0 or value != value else f"+{figure(value)}"


def _interval(part: Evaluation, name: str) -> str:
    low, high = part.interval(name) or (None, None)
    if low is None:
        return part.unmeasured.get(name, "no interval")
    return f"{figure(low)} to {figure(high)}"
