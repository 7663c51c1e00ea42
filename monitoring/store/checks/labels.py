"""Checks of labels against the contracts of their models, when they are written and when they are read."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from handlers.contract import ModelContract
from monitoring.store.contracts import Contracts, output_fault
from monitoring.store.records import Feedback, Label, Labelled
from serving.registry import ArchiveError
from training.statistics.labels import label_fault

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WrongLabel:
    """A label that its model does not have.

    Attributes:
        expected: what would be right instead.
    """

    request_id: str
    row: int
    label: Label
    expected: str


class WrongLabels(Exception):  # noqa: N818
    """Labels that their models do not have; none of the call was kept."""

    def __init__(self, faults: Sequence[WrongLabel]) -> None:
        super().__init__("labels that the model does not have; none was kept")
        self.faults = [asdict(fault) for fault in faults]


class AmbiguousLabels(Exception):  # noqa: N818
    """Labels that name no model, of requests that several models answered; none of the call was kept.

    Args:
        models: names of the models that answered, by request id.
    """

    def __init__(self, models: dict[str, list[str]]) -> None:
        first, names = next(iter(models.items()))
        super().__init__(
            f"{len(models)} requests were answered by several models, the first, {first!r}, by {', '.join(names)}: "
            'name the one that the label is about, as in "model": "' + names[0] + '"; none was kept'
        )
        self.models = models


class LabelCheck:
    """Finds faults of labels; make a new one for each call, since the registry changes."""

    def __init__(self, contracts: Contracts) -> None:
        self._contracts = contracts
        self._cache: dict[tuple[str, str | None], ModelContract | None] = {}

    def __call__(self, feedback: Feedback, model: str, version: str | None) -> WrongLabel | None:
        """Return the fault of a label; None if it has none, or nothing can be said yet.

        Args:
            model: the one that answered; empty where it is not known.
            version: the one that answered; None where it is not known. The champion stands in for a removed one.
        """
        contract = self._contract(model, version) or self._contract(model, None)
        expected = label_fault(contract, feedback.label) if contract else None
        return WrongLabel(feedback.request_id, feedback.row, feedback.label, expected) if expected else None

    def _contract(self, model: str, version: str | None) -> ModelContract | None:
        if not model:
            return None
        if (model, version) not in self._cache:
            try:
                self._cache[model, version] = self._contracts.of(model, version)
            except ArchiveError as error:  # keep the label: readers leave out what does not fit
                logger.warning("labels of %s are kept unchecked: %s", model, error)
                self._cache[model, version] = None
        return self._cache[model, version]


def measurable(contract: ModelContract, labelled: Sequence[Labelled]) -> list[Labelled]:
    """Return the rows whose label and answer fit a contract; another version may have had other classes."""
    return [
        row
        for row in labelled
        if label_fault(contract, row.label) is None and output_fault(contract, row.prediction.output) is None
    ]
