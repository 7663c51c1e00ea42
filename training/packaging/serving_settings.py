"""The settings of serving: a recipe's own, or those that were chosen for it since.

Choices, by hand or by `make tune`, lie in the model store's ``serving.json``: they depend on the machine, and the next
training keeps them.
"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from serving import documents
from training.recipe import Serving

FILE = "serving.json"


class Served(Protocol):
    """A model with settings of its own: a recipe, or the parts of an archive."""

    @property
    def name(self) -> str:
        """Name of the model."""

    @property
    def serving(self) -> Serving:
        """Its own settings."""


def serving_of(model: Served, store: Path) -> Serving:
    """Return a model's settings with the choices for it.

    Raises:
        ValueError: the file is damaged; names it.
    """
    changes = _read(store / FILE).get(model.name, {})
    try:
        return replace(model.serving, **changes)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{store / FILE}, {model.name}: {error}") from error


def choose(model: Served, changes: dict[str, Any], store: Path) -> Serving:
    """Store a choice; settings that it does not name stay.

    Raises:
        ValueError: the file is damaged, or a number is out of its range; names it.
    """
    serving = replace(serving_of(model, store), **changes)
    differs = {name: value for name, value in asdict(serving).items() if value != getattr(model.serving, name)}
    entries = {name: entry for name, entry in _read(store / FILE).items() if name != model.name}
    entries |= {model.name: differs} if differs else {}
    store.mkdir(parents=True, exist_ok=True)
    documents.write_json(store / FILE, dict(sorted(entries.items())), dict[str, dict[str, Any]])
    return serving


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        entries: dict[str, dict[str, Any]] = documents.read_json(path, dict[str, dict[str, Any]])
    except FileNotFoundError:
        return {}
    return entries
