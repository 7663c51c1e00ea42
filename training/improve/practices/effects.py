"""What a practice did, in a few words: the figure of a command's result that stands in the table of practices.

Each takes the result, and what its row in ``practices.yaml`` says of it.
"""

from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Any

from training.figures.text import figure

Result = Mapping[str, Any]


def against(result: Result, baseline: str) -> str:
    """The deciding metric with its interval, and a baseline's."""
    name = result["primary"]
    low, high = result["intervals"].get(name) or (None, None)
    model, *others = result["rows"]
    (other,) = [row for row in others if row["model"] == baseline]
    interval = f"{figure(low)} to {figure(high)}"
    return f"{name} {figure(model[name])} ({interval}) against {figure(other[name])} of the {baseline}"


def calibrated(result: Result) -> str:
    """The calibration error, as it is and with a temperature."""
    measured = result["calibration"]
    scaled = f"{measured['scaled']['ece']:.4f} with temperature {measured['temperature']:.2f}"
    return f"ECE {measured['ece']:.4f} → {scaled}"


def parity(result: Result) -> str:
    """How far the served graph is from PyTorch."""
    measured = result["parity"]
    return f"largest difference from PyTorch {measured['onnxruntime']:.1e}, over {measured['rows']:,} rows"


def by_slice(result: Result, metric: str, baseline: str) -> str:
    """A metric of each slice, and a baseline's."""
    rows = {(row["slice"], row["model"]): row[metric] for row in result["slices"]}
    model = result["rows"][0]["model"]
    each = (
        f"{name} {figure(rows[name, model])} against {figure(rows[name, baseline])}"
        for name in dict.fromkeys(row["slice"] for row in result["slices"])
    )
    return f"{metric}: {', '.join(each)} of {baseline}"


def ablated(result: Result, variant: str, beside: str = "") -> str:
    """The difference that a variant makes to each start, in points of a share; in brackets that of another variant."""

    def difference(row: Result) -> str:
        sign = "−" if row["difference"] < 0 else "+"
        return f"{sign}{abs(scale * row['difference']):.2f} ± {scale * row['difference_spread']:.2f}"

    rows = {(row["start"], row["practice"]): row for row in result["rows"]}
    scale, unit = (100, " points") if result["metric"] == "accuracy" else (1, f" of {result['metric']}")
    parts = []
    for start in dict.fromkeys(start for start, _ in rows):
        if (row := rows.get((start, variant))) is not None:
            other = rows.get((start, beside))
            note = f" (run to its end: {difference(other)})" if other else ""
            parts.append(f"{difference(row)}{unit} from `{start}`{note}")
    return ", ".join(parts) or "not tried"


def searched(result: Result) -> str:
    """How much better the best trial of a search is than the preset, on held-out rows."""
    best, before = (
        fmean(row["test"] for row in result["rows"] if (row["preset"] == result["preset"]) is is_preset)
        for is_preset in (False, True)
    )
    share = result["metric"] == "accuracy"
    gain = 100 * (best - before) if share else best - before
    unit = f"points of {result['metric']}" if share else result["metric"]
    budget = f"against preset {result['preset']} in the same budget, after {len(result['trials'])} trials"
    return f"{gain:+.2f} {unit} {budget}"


def pretraining(result: Result, name: str) -> str:
    """The shown metric of one slice with the fewest and with the most rows, from both starts."""
    rows = [row for row in result["rows"] if row["slice"] == name]
    values = {(row["rows"], row["start"]): row[result["metric"]] for row in rows}
    each = (
        f"{figure(values[size, 'pretrained'])} against {figure(values[size, 'from scratch'])} with {size:,} rows"
        for size in (min(row["rows"] for row in rows), max(row["rows"] for row in rows))
    )
    return f"{result['metric']}, {name}, pretrained against from scratch: {'; '.join(each)}"


def exported(result: Result) -> str:
    """How far each format is from PyTorch."""
    each = ", ".join(f"{row['format']} {row['max_abs_difference']:.1e}" for row in result["rows"])
    return f"largest difference from PyTorch over {result['compared_rows']:,} rows: {each}"


def variant(result: Result, name: str) -> str:
    """What one variant of an optimization gains and loses."""
    row = next((row for row in result["rows"] if row["variant"] == name), None)
    if row is None:
        return f"not made: {result['left_out'][name]}"
    return (
        f"{row['bytes'] / result['rows'][0]['bytes']:.0%} of the size, {row['speedup']:.2f} times as fast, "
        f"{row['drop']:+.2f} points of {result['primary']} lost ({row['drop_low']:+.2f} to {row['drop_high']:+.2f})"
    )


def distilled(result: Result) -> str:
    """What a teacher is worth to a small network."""
    rows = {row["variant"]: row for row in result["rows"]}
    taught, alone = (figure(rows[name][result["primary"]]) for name in ("distilled", "small"))
    return f"{result['primary']} {taught} taught, {alone} alone; {variant(result, 'distilled')}"


def drift(result: Result) -> str:
    """How many windows alarm before the world moves on, and after."""
    known, _, later, *_ = result["rows"]
    share = f"{later['alarm']:.1%} of those from {later['period']}"
    return f"{known['alarm']:.1%} of the windows from the known months alarm, {share}"


def replayed(result: Result) -> str:
    """How much error the loop saves, with how many retrainings."""
    goals = result["goals"]
    if goals["saved"] is None:
        return "not known: neither arm lived through a month from April to October"
    return (
        f"{goals['saved']:.0%} less error from April to October than a version that is never retrained, with "
        f"{goals['retrainings']} retrainings from March to December and {goals['retrainings_known']} before"
    )


EFFECTS: dict[str, Callable[..., str]] = {
    effect.__name__: effect
    for effect in (against, calibrated, parity, by_slice, ablated, searched, pretraining, exported, variant, distilled,
                   drift, replayed)
}  # fmt: skip
