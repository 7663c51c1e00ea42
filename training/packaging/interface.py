"""The interface of a recipe's archives to clients, as far as recipe and data define it without a trained version."""

from typing import Any

import numpy as np

from handlers.contract import Example, ModelContract
from handlers.contract.model_card import Evaluation, Lineage, Reference
from training.recipe import Data, Recipe
from training.statistics.labels import widened


def contract_without_version(recipe: Recipe[Any], data: Data) -> ModelContract:
    """Return a contract with inputs, outputs and labels; the parts that need a trained version are empty."""
    return ModelContract(
        name=recipe.name,
        version="",
        task=recipe.task,
        inputs=data.inputs,
        outputs=recipe.all_outputs,
        labels=recipe.labels,
        example=Example({}, {}),
        reference=Reference(),
        evaluation=Evaluation(),
        lineage=Lineage(),
        label_range=_label_range(recipe, data),
    )


def _label_range(recipe: Recipe[Any], data: Data) -> tuple[float, float] | None:
    """Return the range that the recipe declares for its first output, else the known labels', widened."""
    if recipe.task != "regression":
        return None
    if declared := recipe.outputs[0].range:
        return declared
    target = np.concatenate([data.train.target, data.test.target])
    target = target[:, 0] if recipe.scoring.targets else target
    return widened(float(target.min()), float(target.max())) if len(target) else None
