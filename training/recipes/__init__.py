"""The recipes, a file for each model. It ends with ``recipe = …``; its name is the model's."""

import importlib
import importlib.metadata
import pkgutil
import re
import tomllib
from pathlib import Path
from typing import Any

from training.data import DataError, install
from training.language.recipe import LanguageRecipe
from training.recipe import Recipe

PROJECT = Path(__file__).parent.parent.parent / "pyproject.toml"


def names() -> list[str]:
    """Return the names of all recipes; a file whose name begins with ``_`` is shared by recipes."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def find(name: str) -> Recipe[Any]:
    """Return the recipe of a model that is fitted.

    Raises:
        KeyError: there is no such recipe; the message lists the names.
    """
    recipe = find_any(name)
    if isinstance(recipe, LanguageRecipe):
        raise KeyError(
            f"{name} is a language model: it can be trained, which packages it, and not be fitted or changed"
        )
    return recipe


def find_any(name: str) -> Recipe[Any] | LanguageRecipe:
    """Return the recipe of a model, fitted or published.

    Raises:
        KeyError: there is no such recipe; the message lists the names.
    """
    if name not in names():
        raise KeyError(f"there is no recipe {name!r}; there are {', '.join(names())}")
    recipe: Recipe[Any] | LanguageRecipe = importlib.import_module(f"{__name__}.{name}").recipe
    return recipe


def ready(name: str) -> Recipe[Any]:
    """Return the recipe of a model that is fitted and whose packages are installed.

    Raises:
        KeyError: there is no such recipe.
        DataError: packages of its extra are not installed; says how to install them.
    """
    recipe = find(name)
    check_packages(name)
    return recipe


def check_packages(name: str) -> None:
    """Check that the packages of the recipe's extra are installed.

    Raises:
        DataError: one is not; says how to install it.
    """
    if message := missing(name):
        raise DataError(message)


def extra(name: str, project: Path | None = None) -> list[str]:
    """Return the packages that only this recipe needs: the project's optional dependencies of its name."""
    path = project or PROJECT
    if not path.exists():  # the packages were copied without the project around them
        return []
    declared = tomllib.loads(path.read_text())["project"].get("optional-dependencies", {})
    return [re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in declared.get(name, [])]


def missing(name: str, project: Path | None = None) -> str:
    """Return the remedy where packages of a recipe's extra are not installed; else an empty text."""
    absent = []
    for package in extra(name, project):
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            absent.append(package)
    remedy = f"{install(name)}, as `make train MODEL={name}` does"
    return f"{name} needs {', '.join(absent)}: {remedy}" if absent else ""
