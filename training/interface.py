"""How a recipe's archives talk to clients, as far as the recipe and its data tell it without a trained version."""

from typing import Any

from handlers.contract import Example, ModelContract
from training.recipe import Data, Recipe


def contract_without_version(recipe: Recipe[Any], data: Data) -> ModelContract:
    """A contract with inputs, outputs and labels; all that only a trained version knows is empty."""
    return ModelContract(
        name=recipe.name,
        version="",
        task=recipe.task,
        inputs=data.inputs,
        outputs=recipe.all_outputs,
        labels=recipe.labels,
        example=Example({}, {}),
        reference={},
        evaluation={},
        lineage={},
    )
