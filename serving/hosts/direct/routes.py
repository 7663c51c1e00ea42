"""The model, version and protocol that a URL names.

The paths of all served versions stand in a table, so that finding one costs a look-up. Any other path is an error whose
text says what would have been right.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from handlers import json_io
from handlers.contract import ModelContract
from handlers.http.kserve import V1, V2
from handlers.language.api.models import split_name
from handlers.language.api.routes import AT_BASE
from handlers.message import InputError
from handlers.observe.telemetry import Telemetry

NATIVE, OPENAI = "", "openai"
EMBEDDINGS = "/v1/embeddings"
INDEX = "/v2/repository/index"
BY_BODY = (*AT_BASE, EMBEDDINGS)  # OpenAI's API, where a body names the model as ``split_name`` reads it
Refused = Callable[[str, int, str], None]  # takes the path, the status and the error's code of a refused request


class _Named(msgspec.Struct):
    """What a body names; its other members are for the model."""

    model: str


_NAMED = msgspec.json.Decoder(_Named)


class Served(Protocol):
    """A version that answers: its ``batches`` whole requests, or its ``streams`` part by part."""

    contract: ModelContract
    instruments: Telemetry | None

    @property
    def idle(self) -> bool:
        """Whether every request was answered."""

    def close(self) -> None:
        """Stop its threads."""


def uncounted(path: str, status: int, reason: str) -> None:
    """Count nothing."""


class Target(NamedTuple):
    """The model that answers a prediction, and the protocol that its URL names.

    Attributes:
        protocol: ``V1``, ``V2`` or ``NATIVE``.
        model: a ``Model``, or in the process of a language model a ``LanguageModel``.
    """

    protocol: str
    model: Any


def paths_of(name: str, versions: Mapping[str, Served], default: str) -> Iterator[tuple[str, Target]]:
    """Yield every path at which a model predicts, and its target.

    Args:
        versions: served versions of the model, by number.
        default: the champion's number.
    """
    for number, model in versions.items():
        yield f"/predictions/{name}/{number}", Target(NATIVE, model)
        yield f"/v1/models/{name}/versions/{number}:predict", Target(V1, model)
        yield f"/v2/models/{name}/versions/{number}/infer", Target(V2, model)
        if number == default:
            yield f"/predictions/{name}", Target(NATIVE, model)
            yield f"/v1/models/{name}:predict", Target(V1, model)
            yield f"/v2/models/{name}/infer", Target(V2, model)


def check_allowed(name: str, allowed: Collection[str] | None) -> None:
    """Check that a key is for a model; None for all.

    Raises:
        InputError: it is not.
    """
    if allowed is not None and name not in allowed:
        raise InputError("forbidden", "this API key is not for this model", "model")


def native_path(model: str) -> str:
    """Return the path at which a model that is named ``NAME`` or ``NAME@VERSION`` predicts."""
    name, at, version = model.partition("@")
    return f"/predictions/{name}/{version}" if at else f"/predictions/{name}"


def behind_version(targets: Mapping[str, Target], path: str) -> tuple[Target | None, str]:
    """Return the target of ``/predictions/MODEL/VERSION/…``, a base URL of clients, and the path behind; else None."""
    parts = path.split("/", 4)
    if len(parts) < 5 or parts[1] != "predictions":
        return None, ""
    return targets.get("/".join(parts[:4])), parts[4]


def model_of(path: str) -> str:
    """Return the model that a path names; empty if it names none."""
    parts = path.split("/")
    if len(parts) > 2 and parts[1] == "predictions":
        return parts[2]
    return parts[3].partition(":")[0] if len(parts) > 3 and parts[1:3] in (["v1", "models"], ["v2", "models"]) else ""


def model_of_body(
    body: bytes, models: Mapping[str, Collection[str]], allowed: Collection[str] | None
) -> tuple[str, str]:
    """Return the language model that a request of OpenAI's API names, and the version, which may be empty.

    Args:
        models: versions by name.
        allowed: the only models that the request's key is for; None for all.

    Raises:
        InputError: the body is no JSON object, or it names none of these, or one that its key is not for.
    """

    def known(path: str = "$.model") -> str:
        names = sorted(name for name in models if allowed is None or name in allowed)
        return ", ".join(names) if path == "$.model" else ""

    model = json_io.decode(_NAMED, body, known).model
    name, _, version = split_name(model)
    check_allowed(name, allowed)
    if name not in models or (version and version not in models[name]):
        raise InputError("model_not_found", f"there is no language model {model!r} here", "model", known())
    return name, version


def protocol_of(path: str) -> str:
    """Return the wire format that a path names, also behind a version, as the metrics have it."""
    if path.endswith(BY_BODY):
        return OPENAI
    is_native = path.startswith("/predictions/")
    behind = path.split("/", 4)[4:] if is_native else [path[1:]]
    named = next((protocol for protocol in (V1, V2) if behind and f"{behind[0]}/".startswith(f"{protocol}/")), "")
    return named or ("native" if is_native else "unknown")
