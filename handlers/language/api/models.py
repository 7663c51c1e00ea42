"""The names of a language model: ``NAME`` for the model alone, ``NAME:ADAPTER`` with an adapter beside it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from handlers.message import InputError


class ModelName(NamedTuple):
    """The parts of ``NAME``, ``NAME:ADAPTER``, or either with ``@VERSION`` behind; what is absent is empty."""

    model: str
    adapter: str
    version: str


def split_name(name: str) -> ModelName:
    """Split what a request names by its member ``model``; an ``@`` without a version is part of a name."""
    rest, _, version = name.partition("@") if name[-1:] != "@" else (name, "", "")
    model, _, adapter = rest.partition(":")
    return ModelName(model, adapter, version)


def names_of(model: str, adapters: Sequence[str]) -> list[str]:
    """Return the names by which a model is asked: alone, and with each adapter."""
    return [model, *(f"{model}:{adapter}" for adapter in adapters)]


def model_entry(name: str, created: int) -> dict[str, Any]:
    """Return a model as OpenAI's list of models has it; ``created`` is in seconds since the epoch."""
    return {"id": name, "object": "model", "created": created, "owned_by": "marloop"}


class ModelNames:
    """The names of a served model.

    Args:
        model: the name that the URL has.
        adapters: names of the adapters beside it.
        created: seconds since the epoch.
    """

    def __init__(self, model: str, adapters: Sequence[str], created: int) -> None:
        self._model, self._adapters, self._created = model, adapters, created

    def adapter_of(self, name: str) -> str:
        """Return the adapter that a request names; empty for none.

        The URL names the model already, so the name of any other model asks for this one alone.

        Raises:
            InputError: there is no such adapter.
        """
        model, adapter, _ = split_name(name)
        if model != self._model or ":" not in name:
            return ""
        if adapter not in self._adapters:
            raise self._unknown(f"there is no adapter {adapter!r} of {model} here", "model_not_found")
        return adapter

    def name_with(self, adapter: str) -> str:
        """Return the model's name with an adapter; with none the model's alone."""
        return f"{self._model}:{adapter}" if adapter else self._model

    def body(self, name: str = "") -> bytes:
        """Return the list of the names as OpenAI's API has it, or one of them alone.

        Raises:
            InputError: there is no such name.
        """
        names = names_of(self._model, self._adapters)
        if name and name not in names:
            raise self._unknown(f"there is no model {name!r} here", "not_found")
        entries = [model_entry(each, self._created) for each in names]
        return msgspec.json.encode(entries[names.index(name)] if name else {"object": "list", "data": entries})

    def _unknown(self, message: str, code: str) -> InputError:
        return InputError(code, message, "model", ", ".join(names_of(self._model, self._adapters)))
