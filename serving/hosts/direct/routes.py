"""The model, version and protocol that a URL names.

The paths of all served versions stand in a table, so that finding one costs a look-up. Any other path is an error whose
text says what would have been right.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from handlers.contract import ModelContract
from handlers.http.kserve import V1, V2
from handlers.language.api.routes import AT_BASE
from handlers.message import InputError
from handlers.observe.telemetry import Telemetry

NATIVE = ""
EMBEDDINGS = "/v1/embeddings"
BY_BODY = (*AT_BASE, EMBEDDINGS)  # OpenAI's API, where a body names the model: ``NAME`` or ``NAME@VERSION``
Refused = Callable[[str, int, str], None]  # takes the path, the status and the error's code of a refused request


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
    name, _, version = model.partition("@")
    return f"/predictions/{name}/{version}" if version else f"/predictions/{name}"


def behind_version(targets: Mapping[str, Target], path: str) -> tuple[Target | None, str]:
    """Return the target of ``/predictions/MODEL/VERSION/…``, a base URL of clients, and the path behind; else None."""
    parts = path.split("/", 4)
    if len(parts) < 5 or parts[1] != "predictions":
        return None, ""
    return targets.get("/".join(parts[:4])), parts[4]
