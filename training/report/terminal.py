"""What a training ends with on the terminal: metrics beside the baselines', by slice and per class."""

from rich.console import Console

from training.figures.text import terminal_table
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
    metrics = [*evaluation["metrics"]]
    cells = [[name, *map(_text, values.values())] for name, values in rows.items()]
    console.print(terminal_table(title, ["model", *metrics], cells))
    for name, reason in evaluation.get("unmeasured", {}).items():
        console.print(f"{name} could not be measured: {reason}", markup=False)
    if slices := evaluation.get("slices"):
        cells = [
            [name, f"{part['rows']:,}", answered_by, *map(_text, values.values())]
            for name, part in slices.items()
            for answered_by, values in {model: part["metrics"], **part["baselines"]}.items()
        ]
        console.print(terminal_table("by slice", ["slice", "rows", "model", *metrics], cells))
    if per_class := evaluation.get("per_class"):
        cells = [[*map(_text, row.values())] for row in per_class]
        console.print(terminal_table("per class", list(per_class[0]), cells))
    if tuned := evaluation.get("instructions"):
        change = f"{tuned['before']:.2f} before, {tuned['after']:.2f} after"
        console.print(f"fine-tuning: perplexity of {tuned['rows']:,} held-out answers {change}")
    if speed := evaluation.get("speed"):
        rates = ", ".join(f"{rate:.0f} tokens/s ({n} at once)" for n, rate in speed["tokens_per_second"].items())
        console.print(f"{speed['engine']}: {rates}, first token after {speed['first_token_seconds']:.2f} s")
    parity = contract.lineage["parity"]
    module, which = ("float32 weights", "relative or mean") if contract.task == "generation" else ("module", "largest")
    differences = ", ".join(f"{name} {value:.1e}" for name, value in parity.items() if name != "rows")
    console.print(f"parity with the {module} on {parity['rows']:,} rows, {which} difference: {differences}")
    if result.report:
        console.print(f"{result.report}: how good it is, and where it errs", markup=False, soft_wrap=True)
    console.print(f"{result.archive}: {result.state} ({result.why})", markup=False, soft_wrap=True)


def _text(value: float | str | None) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
