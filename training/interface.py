"""How a recipe's archives talk to clients, as far as the recipe and its data tell it without a trained version."""

import importlib
from typing import Any

from handlers.codec import Codec
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


def codec_of(recipe: Recipe[Any]) -> type[Codec]:
    """The wire formats of the recipe's entry point."""
    entry_point = importlib.import_module(f"handlers.{recipe.entry_point}")
    codec: type[Codec] = getattr(entry_point, f"{recipe.entry_point.title()}Service").codec
    return codec
