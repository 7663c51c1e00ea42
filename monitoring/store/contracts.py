"""The contracts of the registered models, read once, and checks of outputs against them."""

import logging
from typing import Any

from handlers.contract import ModelContract
from serving.registry import ArchiveError, Registry, Version, champion_of
from training.statistics.labels import is_number

logger = logging.getLogger(__name__)
_ROUNDING = 1e-2  # greatest error of a probability from a graph of low precision


class Contracts:
    """Contracts by model and version."""

    def __init__(self, models: Registry) -> None:
        self.models = models
        self._read: dict[str, ModelContract] = {}

    def of(self, model: str, number: str | None = None) -> ModelContract | None:
        """Return the contract of a version, else of the champion, else of the newest; None without such an archive."""
        versions = self.models.models().get(model, {})
        version = versions.get(number) if number is not None else _served(versions)
        if version is None:
            return None
        if version.sha256 not in self._read:  # reading it checks the whole archive
            try:
                self._read[version.sha256] = self.models.contract(version)
            except ArchiveError as error:
                logger.warning("no contract of %s: %s", model, error)
                return None
        return self._read[version.sha256]


def output_fault(contract: ModelContract, output: Any) -> str | None:
    """Return what would be right instead of a captured output; None if it is right."""
    if contract.task == "tensors" or contract.has_targets:
        names = [spec.name for spec in contract.outputs]
        right = isinstance(output, dict) and output.keys() == set(names)
        right = right and (contract.task == "tensors" or all(map(is_number, output.values())))
        return None if right else f"an object with {', '.join(names)}" + ", each a finite number" * contract.has_targets
    if contract.task != "classification":
        return None if is_number(output) else "a finite number"
    match output:
        case {"label": str(label), "probabilities": list(shares)}:
            if label in contract.labels and len(shares) == len(contract.labels) and all(map(_is_share, shares)):
                return None
    return f"a label of the contract and {len(contract.labels)} probabilities"


def _is_share(value: Any) -> bool:
    return is_number(value) and -_ROUNDING <= value <= 1 + _ROUNDING


def unmeasured(contract: ModelContract) -> str | None:
    """Return why neither quality nor drift of a model can be measured; None if they can."""
    if contract.task == "opaque":
        return f"{contract.name} has a handler from elsewhere and no contract: nobody knows its inputs and answers"
    if contract.task != "generation":
        return None
    return f"{contract.name} is a language model: no truth comes for its answers, only thumbs"


def _served(versions: dict[str, Version]) -> Version | None:
    champion = champion_of(versions)
    return champion.version if champion else next(reversed(versions.values()), None)
