"""Answers about the models: health, metadata, the index of versions, and the description of all routes."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from handlers import json_io
from handlers.http import kserve
from handlers.language.api.models import model_entry, names_of, split_name
from handlers.message import InputError, Response
from serving.hosts.direct.http.openapi import describe
from serving.hosts.direct.models import Models, Table

READY = "READY"  # state of a version in the index
PAGE = Path(__file__).parent / "http" / "docs.html"
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'"


class IndexRequest(msgspec.Struct):
    """A body of "Repository index" in Triton's extension of the Open Inference Protocol for model repositories.

    Attributes:
        ready: whether the versions that are not ready are left out.
    """

    ready: bool = False


_INDEX_REQUEST = msgspec.json.Decoder(IndexRequest)


class Metadata:
    """Answers GET requests, and those for the index of versions.

    Args:
        health: returns the faults by model or worker; empty where all is well.
        language: returns the versions of each language model that its process serves.
        allowed: the only models to tell of; None for all.
    """

    def __init__(
        self,
        models: Models,
        health: Callable[[], Mapping[str, str]],
        language: Callable[[], Mapping[str, Collection[str]]] = dict,
        allowed: Collection[str] | None = None,
    ) -> None:
        self._models, self._health, self._language, self._allowed = models, health, language, allowed

    def limited(self, allowed: Collection[str]) -> "Metadata":
        """Return the metadata that tells of these models alone."""
        return Metadata(self._models, self._health, self._language, allowed)

    @property
    def _table(self) -> Table:
        table = self._models.table
        if self._allowed is None:
            return table
        return replace(
            table,
            models={name: versions for name, versions in table.models.items() if name in self._allowed},
            defaults={name: number for name, number in table.defaults.items() if name in self._allowed},
            elsewhere={name: versions for name, versions in table.elsewhere.items() if name in self._allowed},
        )

    def get(self, path: str) -> Response | None:
        """Return the answer to a GET; None if nothing is there."""
        if path == "/docs":
            return Response(200, PAGE.read_bytes(), "text/html; charset=utf-8", {"Content-Security-Policy": POLICY})
        answer = self._find(path)
        return Response(answer[0], json.dumps(answer[1]).encode()) if answer else None

    def index(self, body: bytes) -> Response:
        """Return the versions that are served, as Triton's clients ask for them.

        Args:
            body: of the POST; it may be empty.

        Raises:
            InputError: it is no such request.
        """
        asked = json_io.decode_strictly(_INDEX_REQUEST, body) if body.strip() else IndexRequest()
        entries = [entry for entry in self._index() if not asked.ready or entry["state"] == READY]
        return Response(200, json.dumps(entries).encode())

    def unknown(self, path: str) -> InputError:
        """Return the error for a path without a route: why there is none, and what would be right."""
        table = self._table
        parts = path.strip("/").split("/")
        at = {"predictions": 1, "v1": 2, "v2": 2}.get(parts[0])
        if at is not None and len(parts) > at and (at == 1 or parts[1] == "models"):
            name = parts[at].partition(":")[0]
            contracts = [model.contract for model in table.models.get(name, {}).values()]
            if at == 2 and contracts and contracts[0].task == "opaque":
                return kserve.native_only(contracts[0])
            if name not in table.models:
                return InputError(
                    "not_found", f"there is no model {name!r} here", "url", ", ".join(sorted(table.models))
                )
            number = parts[parts.index("versions") + 1].partition(":")[0] if "versions" in parts[:-1] else ""
            number = number or (parts[2] if at == 1 and len(parts) > 2 else "")
            if number and number not in table.models[name]:
                served = ", ".join(sorted(table.models[name]))
                return InputError("not_found", f"there is no version {number!r} of {name} here", "url", served)
        return InputError("not_found", f"there is nothing at {path}", "url", "/predictions/MODEL, /v1/… or /v2/…")

    def _find(self, path: str) -> tuple[int, Any] | None:
        """Return the status and body of a GET; None if nothing is there."""
        table = self._table
        match path.strip("/").split("/"):
            case ["ping"] | ["health"]:
                return 200, {"status": "Healthy"}
            case ["openapi.json"]:
                contracts = {
                    name: {number: model.contract for number, model in versions.items()}
                    for name, versions in table.models.items()
                }
                return 200, describe(contracts, table.defaults, table.elsewhere)
            case ["v2"]:
                return 200, kserve.SERVER
            case ["v2", "health", "live"]:
                return 200, {"live": True}
            case ["v2", "health", "ready"]:
                faults, allowed = self._health(), self._allowed
                told = {name: fault for name, fault in faults.items() if allowed is None or name in allowed}
                return (503 if faults else 200), {"ready": not faults} | ({"faults": told} if told else {})
            case ["v2", "repository", "index"]:
                return 200, self._index()
            case ["v1", "models"]:
                language = [model_entry(name, 0) for model in sorted(table.elsewhere) for name in _names(model, table)]
                names = sorted({*table.models, *table.elsewhere})
                return 200, {"models": names} | ({"object": "list", "data": language} if language else {})
            case ["v1", "models", name] if (model := split_name(name).model) in table.elsewhere:
                if name not in _names(model, table):
                    return None
                loads = "" if self._language().get(model) else "it is not loaded"
                status, ready = self._ready(model, loads)
                return status, ready | model_entry(name, 0)
            case ["v1", "models", name] if name in table.defaults:
                return self._ready(name)
            case ["v2", "models", name] if self._has_tensors(name, table.defaults.get(name, "")):
                return 200, self._metadata(name, table.defaults[name])
            case ["v2", "models", name, "ready"] if name in table.defaults:
                return self._ready(name)
            case ["v2", "models", name, "versions", number] if self._has_tensors(name, number):
                return 200, self._metadata(name, number)
            case ["v2", "models", name, "versions", number, "ready"] if number in table.models.get(name, {}):
                return self._ready(name)
        return None

    def _has_tensors(self, name: str, number: str) -> bool:
        """Tell whether a version is served, and its tensors are known."""
        model = self._table.models.get(name, {}).get(number)
        return model is not None and model.contract.task != "opaque"

    def _metadata(self, name: str, number: str) -> dict[str, Any]:
        versions = self._table.models[name]
        return kserve.model_metadata(versions[number].contract) | {"versions": sorted(versions)}

    def _ready(self, name: str, otherwise: str = "") -> tuple[int, dict[str, Any]]:
        fault = self._health().get(name) or otherwise
        return (503, {"name": name, "ready": False, "error": fault}) if fault else (200, {"name": name, "ready": True})

    def _index(self) -> list[dict[str, str]]:
        table, health = self._table, self._health()
        served = [(name, number) for name, versions in table.models.items() for number in versions]
        index = [_entry(name, number, True, table.faults.get(name, "")) for name, number in served]
        language = self._language()
        for name, contracts in table.elsewhere.items():
            loaded = language.get(name, ())
            index += [_entry(name, number, number in loaded, health.get(name, "")) for number in contracts]
        return sorted(index, key=lambda entry: (entry["name"], entry["version"]))


def _entry(name: str, number: str, ready: bool, reason: str) -> dict[str, str]:
    return {"name": name, "version": number, "state": READY if ready else "UNAVAILABLE", "reason": reason}


def _names(model: str, table: Table) -> list[str]:
    """Return the names of a language model: alone, and with each adapter of its champion."""
    champion = next(iter(table.elsewhere[model].values()))
    return names_of(model, [*champion.lineage.adapters])
