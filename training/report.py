"""What a training ends with on the terminal: metrics beside the baselines', by slice and per class."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from training.learning_curve import parts
from training.pipeline import Result


def print_result(result: Result, console: Console) -> None:
    """Print the tables of one training and what became of its version."""
    contract = result.contract
    evaluation = contract.evaluation
    unit = contract.outputs[0].unit
    model = f"{contract.name} {contract.version}"
    rows = {model: evaluation["metrics"], **evaluation["baselines"]}
    title = f"{evaluation['rows']:,} held-out rows" + (f", in {unit}" if unit else "")
    table = _table(title, ["model", *evaluation["metrics"]])
    for name, metrics in rows.items():
        table.add_row(name, *(f"{value:.4f}" for value in metrics.values()))
    console.print(table)
    if slices := evaluation.get("slices"):
        table = _table("by slice", ["slice", "rows", "model", *evaluation["metrics"]])
        for part, one in slices.items():
            for name, metrics in {model: one["metrics"], **one["baselines"]}.items():
                table.add_row(part, f"{one['rows']:,}", name, *(f"{value:.4f}" for value in metrics.values()))
        console.print(table)
    if per_class := evaluation.get("per_class"):
        table = _table("per class", list(per_class[0]))
        for one in per_class:
            table.add_row(*(f"{value:.4f}" if isinstance(value, float) else str(value) for value in one.values()))
        console.print(table)
    parity = contract.lineage["parity"]
    differences = ", ".join(f"{name} {value:.1e}" for name, value in parity.items() if name != "rows")
    console.print(f"parity with the module on {parity['rows']:,} rows, largest difference: {differences}")
    if result.report:
        console.print(f"{result.report}: how good it is, and where it errs", markup=False, soft_wrap=True)
    console.print(f"{result.archive}: {result.state} ({result.why})", markup=False, soft_wrap=True)


def print_learning_curve(curve: Mapping[str, Any], metric: str, console: Console) -> None:
    """Print one metric of each run of a learning curve, and of the baselines, by slice."""
    points = curve["points"]
    baselines = {name: parts(points[-1]) for name in points[-1]["evaluation"]["baselines"]}
    table = _table(metric, ["start", "rows", "epochs", "s", *parts(points[0])])
    for point in points:
        values = (f"{one['metrics'][metric]:.4f}" for one in parts(point).values())
        table.add_row(point["start"], f"{point['rows']:,}", str(point["epochs"]), f"{point['seconds']:.0f}", *values)
    for name, slices in baselines.items():
        table.add_row(name, "", "", "", *(f"{one['baselines'][name][metric]:.4f}" for one in slices.values()))
    console.print(table)


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    return table
