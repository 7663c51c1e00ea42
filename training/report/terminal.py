"""What a training ends with on the terminal: metrics beside the baselines', by slice and per class."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from training.improve import learning_curve
from training.packaging.registration import Result


def print_result(result: Result, console: Console) -> None:
    """Print the tables of one training and what became of its version."""
    contract = result.contract
    evaluation = contract.evaluation
    unit = contract.outputs[0].unit
    model = f"{contract.name} {contract.version}"
    rows = {model: evaluation["metrics"], **evaluation["baselines"]}
    held_out = "rows held out of the newest feedback" if "held_out_since" in evaluation else "held-out rows"
    if contract.task == "generation":
        held_out = "tokens of a plain text"
    title = f"{evaluation['rows']:,} {held_out}" + (f", in {unit}" if unit else "")
    table = _table(title, ["model", *evaluation["metrics"]])
    for name, metrics in rows.items():
        table.add_row(name, *map(_text, metrics.values()))
    console.print(table)
    for name, reason in evaluation.get("unmeasured", {}).items():
        console.print(f"{name} could not be measured: {reason}", markup=False)
    if slices := evaluation.get("slices"):
        table = _table("by slice", ["slice", "rows", "model", *evaluation["metrics"]])
        for part, one in slices.items():
            for name, metrics in {model: one["metrics"], **one["baselines"]}.items():
                table.add_row(part, f"{one['rows']:,}", name, *map(_text, metrics.values()))
        console.print(table)
    if per_class := evaluation.get("per_class"):
        table = _table("per class", list(per_class[0]))
        for one in per_class:
            table.add_row(*map(_text, one.values()))
        console.print(table)
    if tuned := evaluation.get("instructions"):
        change = f"{tuned['before']:.2f} before, {tuned['after']:.2f} after"
        console.print(f"fine-tuning: perplexity of {tuned['rows']:,} held-out answers {change}")
    if found := evaluation.get("speed"):
        rates = ", ".join(f"{rate:.0f} tokens/s ({n} at once)" for n, rate in found["tokens_per_second"].items())
        console.print(f"{found['engine']}: {rates}, first token after {found['first_token_seconds']:.2f} s")
    parity = contract.lineage["parity"]
    module, which = ("float32 weights", "relative or mean") if contract.task == "generation" else ("module", "largest")
    differences = ", ".join(f"{name} {value:.1e}" for name, value in parity.items() if name != "rows")
    console.print(f"parity with the {module} on {parity['rows']:,} rows, {which} difference: {differences}")
    if result.report:
        console.print(f"{result.report}: how good it is, and where it errs", markup=False, soft_wrap=True)
    console.print(f"{result.archive}: {result.state} ({result.why})", markup=False, soft_wrap=True)


def print_learning_curve(curve: Mapping[str, Any], console: Console) -> None:
    """Print one metric of each run of a learning curve, and of the baselines, by slice."""
    heading, *lines = learning_curve.table(curve)
    table = _table("learning curve", heading)
    for line in lines:
        table.add_row(*line)
    console.print(table)


def _text(value: float | str | None) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    return table
