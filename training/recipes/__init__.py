"""One file a model. Each ends with ``recipe = …``; its file name is the model's name."""

import importlib
import pkgutil
from typing import Any

from training.recipe import Recipe


def names() -> list[str]:
    """The names of all recipes."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name: str) -> Recipe[Any]:
    """The recipe of a model.

    Raises:
        KeyError: there is none; the message lists those that there are.
    """
    if name not in names():
        raise KeyError(f"there is no recipe {name!r}; there are {', '.join(names())}")
    recipe: Recipe[Any] = importlib.import_module(f"{__name__}.{name}").recipe
    return recipe
