"""The result of a training on the terminal: metrics beside the baselines', by slice and per class."""

import msgspec
from rich.console import Console

from handlers.contract.model_card import ClassMetrics
from training.figures.text import terminal_table
from training.language.evaluation.scores import task_table
from training.packaging.registration import Result


def print_result(result: Result, console: Console) -> None:
    """Print the tables of one training and the state of its version."""
    contract = result.contract
    evaluation = contract.evaluation
    unit = contract.outputs[0].unit
    model = f"{contract.name} {contract.version}"
    rows = evaluation.compared(model)
    held_out = "rows held out of the newest feedback" if evaluation.held_out_since else "held-out rows"
    if contract.task == "generation":
        held_out = "tokens of a plain text"
    title = f"{evaluation.rows or 0:,} {held_out}" + (f", in {unit}" if unit else "")
    metrics = [*evaluation.metrics]
    cells = [[name, *map(_text, values.values())] for name, values in rows.items()]
    console.print(terminal_table(title, ["model", *metrics], cells))
    for name, reason in evaluation.unmeasured.items():
        console.print(f"{name} could not be measured: {reason}", markup=False)
    if evaluation.slices:
        cells = [
            [name, f"{part.rows or 0:,}", answered_by, *map(_text, values.values())]
            for name, part in evaluation.slices.items()
            for answered_by, values in part.compared(model).items()
        ]
        console.print(terminal_table("by slice", ["slice", "rows", "model", *metrics], cells))
    if evaluation.per_class:
        cells = [[*map(_text, msgspec.structs.astuple(row))] for row in evaluation.per_class]
        console.print(terminal_table("per class", ClassMetrics.__struct_fields__, cells))
    if evaluation.tasks:
        console.print(terminal_table("tasks", *task_table(evaluation.tasks), left=(0, 1, 2)))
    if tuned := evaluation.instructions:
        change = f"{tuned.before:.2f} before, {tuned.after:.2f} after"
        console.print(f"fine-tuning: perplexity of {tuned.rows:,} held-out answers {change}")
    if speed := evaluation.speed:
        rates = ", ".join(f"{rate:.0f} tokens/s ({n} at once)" for n, rate in speed.tokens_per_second.items())
        console.print(f"{speed.engine}: {rates}, first token after {speed.first_token_seconds:.2f} s")
    module, which = ("float32 weights", "relative or mean") if contract.task == "generation" else ("module", "largest")
    lineage = contract.lineage
    differences = ", ".join(f"{name} {value:.1e}" for name, value in lineage.differences.items())
    console.print(f"parity with the {module} on {lineage.parity['rows']:,} rows, {which} difference: {differences}")
    if result.report:
        console.print(f"{result.report}: how good it is, and where it errs", markup=False, soft_wrap=True)
    console.print(f"{result.archive}: {result.state} ({result.why})", markup=False, soft_wrap=True)


def _text(value: float | str | None) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
