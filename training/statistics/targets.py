"""The targets of a regression that has several: each is measured as a regression of its own.

The judge, alarms of quality and the promotion of what is trained or imported look at all of them. A search and the
baselines of a recipe go by the first. Its figures have plain names, such as ``rmse``, those of another the target's,
such as ``rmse of delay``.
"""

from typing import Any, NamedTuple

from msgspec.structs import replace

from handlers.contract import ModelContract
from handlers.contract.model_card import Evaluation, Metrics, Reference


class Target(NamedTuple):
    """A target.

    Attributes:
        contract: as if the target were the only one.
        suffix: of the names of its figures; empty for the first.
        name: of its value in answers and labels; empty where these are the value itself.
    """

    contract: ModelContract
    suffix: str = ""
    name: str = ""

    def value(self, values: Any) -> Any:
        """Return the target's part of an answer or a label."""
        return values[self.name] if self.name else values


def targets_of(contract: ModelContract) -> list[Target]:
    """Return the targets; the contract itself is the only one where there are not several."""
    if not contract.has_targets:
        return [Target(contract)]
    (first, *others), reference = contract.outputs, contract.reference
    alone = replace(contract, outputs=(first,), reference=replace(reference, targets={}))
    targets = [Target(alone, name=first.name)]
    for spec in others:
        suffix = suffix_of(spec.name)
        own = replace(
            contract,
            outputs=(spec,),
            reference=reference.targets.get(spec.name, Reference()),
            evaluation=_of(contract.evaluation, suffix),
            label_range=None,
        )
        targets.append(Target(own, suffix, spec.name))
    return targets


def suffix_of(name: str) -> str:
    """Return the suffix of the names of a target's figures; it is not the first."""
    return f" of {name}"


def _of(evaluation: Evaluation, suffix: str) -> Evaluation:
    learned = evaluation.learned and Evaluation(metrics=_named(evaluation.learned.metrics, suffix))
    return Evaluation(metrics=_named(evaluation.metrics, suffix), learned=learned)


def _named(metrics: Metrics, suffix: str) -> Metrics:
    return {name.removesuffix(suffix): value for name, value in metrics.items() if name.endswith(suffix)}
