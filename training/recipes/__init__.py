"""The recipes, a file for each model. It ends with ``recipe = …``; its name is the model's.

They lie here and in the folders of ``MARLOOP_RECIPES``, each of which is imported as a package of its own.
"""

import hashlib
import importlib
import importlib.metadata
import os
import pkgutil
import re
import sys
import tomllib
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from serving.settings import RecipeSettings
from training.data import DataError, install
from training.language.recipe import LanguageRecipe
from training.recipe import Recipe
from training.recipes._faults import RecipeError, passes, sentence, shown, unfinished

__all__ = [
    "RecipeError",
    "check_packages",
    "explain",
    "extra",
    "file_of",
    "find",
    "find_any",
    "missing",
    "names",
    "ready",
    "told",
]
PROJECT = Path(__file__).parent.parent.parent / "pyproject.toml"


def names() -> list[str]:
    """Return the names of all recipes; a file whose name begins with ``_`` is shared by recipes.

    Raises:
        RecipeError: ``MARLOOP_RECIPES`` names no folder.
    """
    return sorted(_places())


def _places() -> dict[str, list[Path]]:
    """Return by recipe the folders that have a file of its name: one, where names do not clash."""
    places: dict[str, list[Path]] = {}
    for folder in _folders():
        for module in pkgutil.iter_modules([str(folder)]):
            if not module.name.startswith("_"):
                places.setdefault(module.name, []).append(folder)
    return places


def file_of(name: str) -> Path | None:
    """Return the file of a recipe; None if there is none."""
    files = (folder / file for folder in _places().get(name, []) for file in (f"{name}.py", f"{name}/__init__.py"))
    return next((file for file in files if file.is_file()), None)


def _folders() -> list[Path]:
    outside = RecipeSettings.from_environment(os.environ).folders
    if missing := [folder for folder in outside if not folder.is_dir()]:
        raise RecipeError(f"MARLOOP_RECIPES names {missing[0]}, which is no folder")
    return list(dict.fromkeys([Path(path) for path in __path__] + [folder.resolve() for folder in outside]))


def _package(folder: Path) -> str:
    """Return the name of a folder's package, by which its recipes import what they share; it runs no file."""
    if str(folder) in __path__:
        return __name__
    name = f"recipes_{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
    if name not in sys.modules:
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        sys.modules[name] = module_from_spec(spec)
    return name


def find(name: str) -> Recipe[Any]:
    """Return the recipe of a model that is fitted.

    Raises:
        KeyError: there is no such recipe; the message lists the names.
        RecipeError: its file cannot be imported, or is no whole recipe.
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
        RecipeError: its file cannot be imported, is no whole recipe, or is there twice.
        DataError: its file imports a package of the recipe's extra that is not installed.
    """
    places = _places()
    if name not in places:
        known = f"there are {', '.join(sorted(places))}"
        raise KeyError(f"there is no recipe {name!r}; {known}. A model that was imported has none")
    folder, *others = places[name]
    if others:
        raise RecipeError(f"{name} is the name of two recipes, in {shown(folder)} and {shown(others[0])}: rename one")
    importlib.invalidate_caches()  # a file may be new since the last look
    try:
        module = importlib.import_module(f"{_package(folder)}.{name}")
    except ImportError as error:
        if missing(name):
            raise DataError(missing(name)) from error
        raise RecipeError(explain(error)) from error
    except (Exception, SystemExit) as error:  # a recipe is a program, which may end in any way
        raise RecipeError(explain(error)) from error
    recipe = _recipe_of(module, name)
    if isinstance(recipe, Recipe) and str(folder) not in __path__:
        type(recipe).found_folder = folder / "presets"  # what a search finds lies beside the recipe
    return recipe


def _recipe_of(module: ModuleType, name: str) -> Recipe[Any] | LanguageRecipe:
    """Return the recipe of a file.

    Raises:
        RecipeError: it has none, or one that lacks something.
    """
    recipe: object = getattr(module, "recipe", None)
    file = shown(module.__file__ or name)
    if recipe is None:
        raise RecipeError(f"{file} has no `recipe = …`; the name of a file without, which recipes share, begins with _")
    if not isinstance(recipe, Recipe | LanguageRecipe):
        what = f"the class {recipe.__name__}" if isinstance(recipe, type) else f"of the type {type(recipe).__name__}"
        raise RecipeError(f"{file}: its `recipe` is {what}; it must be an object of a recipe's class, such as Mine()")
    if isinstance(recipe, Recipe) and (fault := unfinished(recipe)):
        raise RecipeError(f"{file}: {fault}")
    if recipe.name != name:
        raise RecipeError(f"{file}: the recipe's name is {recipe.name!r}; it must be the file's, {name!r}")
    return recipe


def explain(error: BaseException) -> str:
    """Return file, line and cause of an error: of the last line of a recipe that led to it, else of the last one."""
    return sentence(error, _folders())


def told(error: Exception) -> Exception:
    """Return an error as it is, or as a ``RecipeError`` with file and line where Python raised it in a recipe."""
    raised_by_python = isinstance(error, KeyError | ValueError) and not isinstance(error, RecipeError)
    return RecipeError(explain(error)) if raised_by_python and passes(error, _folders()) else error


def ready(name: str) -> Recipe[Any]:
    """Return the recipe of a model that is fitted and whose packages are installed.

    Raises:
        KeyError: there is no such recipe.
        RecipeError: its file cannot be imported, or is no whole recipe.
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
    declared = tomllib.loads(path.read_text("utf-8"))["project"].get("optional-dependencies", {})
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
