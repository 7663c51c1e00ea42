"""Labels against the contracts of the models that they are about, checked where they are written and where they are
read.
"""

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
    """Labels that their models do not have; none of the call was kept.

    Args:
        faults: at least one.
    """

    def __init__(self, faults: Sequence[WrongLabel]) -> None:
        super().__init__("labels that the model does not have; none was kept")
        self.faults = [asdict(fault) for fault in faults]


class AmbiguousLabels(Exception):  # noqa: N818
    """Labels that name no model, of requests that several models answered; none of the call was kept.

    Args:
        models: that answered each of these requests.
    """

    def __init__(self, models: dict[str, list[str]]) -> None:
        first, names = next(iter(models.items()))
        super().__init__(
            f"{len(models)} requests were answered by several models, the first, {first!r}, by {', '.join(names)}: "
            'name the one that the label is about, as in "model": "' + names[0] + '"; none was kept'
        )
        self.models = models


class LabelCheck:
    """Says what is wrong with a label; it is made anew for each call, since what is registered changes."""

    def __init__(self, contracts: Contracts) -> None:
        self._contracts = contracts
        self._known: dict[tuple[str, str | None], ModelContract | None] = {}

    def __call__(self, feedback: Feedback, model: str, version: str | None) -> WrongLabel | None:
        """The fault of a label.

        Args:
            feedback: has the label.
            model: that answered; empty where it is not known, so that nothing can be said yet.
            version: that answered; None where it is not known. One that is gone is judged by the champion.
        """
        contract = self._contract(model, version) or self._contract(model, None)
        expected = label_fault(contract, feedback.label) if contract else None
        return WrongLabel(feedback.request_id, feedback.row, feedback.label, expected) if expected else None

    def _contract(self, model: str, version: str | None) -> ModelContract | None:
        if not model:
            return None
        if (model, version) not in self._known:
            try:
                self._known[model, version] = self._contracts.of(model, version)
            except ArchiveError as error:  # a label is not lost through that: what does not fit is left out when read
                logger.warning("labels of %s are kept unchecked: %s", model, error)
                self._known[model, version] = None
        return self._known[model, version]


def measurable(contract: ModelContract, labelled: Sequence[Labelled]) -> list[Labelled]:
    """The rows whose label and answer are such as a contract has; another version may have had other classes."""
    return [
        row
        for row in labelled
        if label_fault(contract, row.label) is None and output_fault(contract, row.prediction.output) is None
    ]
