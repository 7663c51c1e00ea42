"""The changes of `ablate`, one practice at a time, to hyperparameters that have none of them."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from handlers.contract import Task
from training.recipe import Hyperparameters

Changes = Mapping[str, Any]  # of hyperparameters, by name


def practices(hp: Hyperparameters, task: Task) -> dict[str, Changes]:
    """Return the practices that apply to a model's hyperparameters, by name, as changes of them.

    A schedule pays by the higher rate that it allows. Each has five times the rate, and is compared with that rate
    kept constant.
    """
    faster = {"lr": 5 * hp.lr}
    every: dict[str, Changes] = {
        "inputs standardised": {"standardise": True},
        "inputs denoised": {"denoise": True},
        "mirrored": {"mirror": True},
        "mirrored and shifted": {"mirror": True, "shift": 2},
        "batch ÷ 2": {"batch_size": max(1, hp.batch_size // 2)},
        "batch × 4": {"batch_size": hp.batch_size * 4},
        "rate × 5": faster,
        "rate × 5, step decay": faster | {"schedule": "step"},
        "rate × 5, cosine": faster | {"schedule": "cosine"},
        "rate × 5, warm restarts": faster | {"schedule": "restarts"},
        "rate × 5, one cycle": faster | {"schedule": "one_cycle"},
        "L1": {"l1": 1e-4},
        "L2": {"weight_decay": 0.1},
        "dropout": {"dropout": 0.2},
        **({"label smoothing": {"label_smoothing": 0.1}} if task == "classification" else {}),
        "epochs × 3": {"epochs": 3 * hp.epochs},
        "epochs × 3, early stopping": {"epochs": 3 * hp.epochs, "patience": 2},
    }
    current = asdict(hp)
    return {
        name: changes
        for name, changes in every.items()
        if changes.keys() <= current.keys() and any(current[field] != value for field, value in changes.items())
    }


def together(tried: Mapping[str, Changes], gains: Mapping[str, float]) -> dict[str, Changes]:
    """Combine all practices, and those that helped; of two that set the same field, the one that helped more.

    Those that train for longer are left out: their gain is time.

    Args:
        gains: by practice, on the validation rows, so that the test rows choose nothing.
    """
    order = sorted((name for name in tried if "epochs" not in tried[name]), key=gains.__getitem__)
    helped = [name for name in order if gains[name] > 0]
    both = {"all together": order, "those that helped": helped}
    return {title: {k: v for name in names for k, v in tried[name].items()} for title, names in both.items() if names}
