"""The champion under load: its contract, its archive, and requests for wrk."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from handlers.contract import ModelContract
from loadtests import wrk
from loadtests.requests import payloads
from serving.registry import ArchiveError, Registry

BODIES = 256


@dataclass(frozen=True)
class Champion:
    """A model's served version.

    Attributes:
        archive: content of the file.
    """

    contract: ModelContract
    archive: bytes

    @classmethod
    def of(cls, store: Path, model: str) -> "Champion":
        """Read the champion of a model from its store.

        Raises:
            ArchiveError: the model has none, its archive is not as registered, or it is a language model: its answers
                are streams, which wrk cannot tell apart, and requests join its batch at every token. Nor is a handler
                from elsewhere measured, whose batches are as it was written for.
        """
        registry = Registry(store)
        version = registry.champion(model).version
        contract = registry.contract(version)
        if contract.task == "generation":
            raise ArchiveError(
                f"{model} is a language model, which this cannot measure: `make load MODEL={model}` does, by its tokens"
            )
        if contract.task == "opaque":
            raise ArchiveError(
                f"{model} has a handler from elsewhere, which takes the batches that its archive says: "
                f"`make load MODEL={model}` loads it as it is"
            )
        return cls(contract, registry.verify(version).read_bytes())

    def write_requests(self, path: Path, headers: Mapping[str, str] = MappingProxyType({})) -> Path:
        """Write a script for wrk that sends valid single rows in turn.

        Args:
            headers: of every request, beside those of its format.
        """
        rng = np.random.default_rng(0)
        requests = [payloads.valid(self.contract, rng, "native") for _ in range(BODIES)]
        path.write_text(
            wrk.script("POST", {**requests[0].headers, **headers}, [request.body for request in requests]),
            encoding="utf-8",
        )
        return path
