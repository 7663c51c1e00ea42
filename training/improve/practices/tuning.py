"""The practices of training: what an ablation and a search found of each."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from training.improve.practices.practice import Effect, Practice

FIT, FASHION, NETWORK = "training/fit.py", "training/recipes/fashion.py", "training/recipes/_simple_cnn.py"


def _ablated(variant: str, beside: str = "") -> Effect:
    """The difference that a variant makes to each start, in points of a share; in brackets that of another variant."""

    def effect(result: Mapping[str, Any]) -> str:
        rows = {(row["start"], row["practice"]): row for row in result["rows"]}
        scale, unit = (100, " points") if result["metric"] == "accuracy" else (1, f" of {result['metric']}")
        parts = []
        for start in dict.fromkeys(start for start, _ in rows):
            if (row := rows.get((start, variant))) is None:
                continue
            other = rows.get((start, beside))
            note = f" (run to its end: {_difference(other, scale)})" if other else ""
            parts.append(f"{_difference(row, scale)}{unit} from `{start}`{note}")
        return ", ".join(parts) or "not tried"

    return effect


def _difference(row: Mapping[str, Any], scale: int) -> str:
    sign = "−" if row["difference"] < 0 else "+"
    return f"{sign}{abs(scale * row['difference']):.2f} ± {scale * row['difference_spread']:.2f}"


def _searched(result: Mapping[str, Any]) -> str:
    found, before = (
        fmean(row["test"] for row in result["rows"] if (row["preset"] == result["preset"]) is is_preset)
        for is_preset in (False, True)
    )
    share = result["metric"] == "accuracy"
    gain = 100 * (found - before) if share else found - before
    unit = f"points of {result['metric']}" if share else result["metric"]
    budget = f"against preset {result['preset']} in the same budget, after {len(result['trials'])} trials"
    return f"{gain:+.2f} {unit} {budget}"


def _row(name: str, variant: str, *code: str, beside: str = "") -> Practice:
    command = "`python -m training ablate fashion`"
    return Practice(name, command, ("training/improve/variants.py", *code), "ablate-fashion", _ablated(variant, beside))


TUNING: tuple[Practice, ...] = (
    _row("Preprocessing: inputs normalised", "inputs standardised", NETWORK),
    _row("Preprocessing: inputs denoised", "inputs denoised", NETWORK),
    _row("Augmentation: mirrored and shifted", "mirrored and shifted", FASHION),
    _row("Tuning: a smaller batch", "batch ÷ 2", FIT),
    _row("Tuning: five times the learning rate", "rate × 5", FIT),
    _row("Schedule at that rate: step decay", "rate × 5, step decay", "training/fit.py"),
    _row("Schedule at that rate: cosine", "rate × 5, cosine", "training/fit.py"),
    _row("Schedule at that rate: warm restarts", "rate × 5, warm restarts", "training/fit.py"),
    _row("Schedule at that rate: one cycle", "rate × 5, one cycle", "training/fit.py"),
    _row("L1 regularisation", "L1", FIT),
    _row("L2 regularisation", "L2", FIT),
    _row("Dropout", "dropout", NETWORK),
    _row("Label smoothing", "label smoothing", "training/recipe.py"),
    _row(
        "Early stopping of a run three times as long",
        "epochs × 3, early stopping",
        FIT,
        beside="epochs × 3",
    ),
    _row("Together: what helped on the watched rows", "those that helped"),
    Practice(
        "Hyperparameter search: TPE, bad trials pruned",
        "`python -m training search fashion`",
        ("training/improve/search.py",),
        "search-fashion",
        _searched,
    ),
)
