"""A champion's graphs published once more, as if another training had made them: promotion without a training."""

import msgspec

from serving.registry import Registry
from training import pipeline
from training.champion import FittedChampion
from training.packaging.registration import Promote, Result


def publish_again(champion: FittedChampion, registry: Registry, promote: Promote = "auto", **metrics: float) -> Result:
    """Publish an opened champion as training does, with some of its held-out metrics changed."""
    evaluation = champion.contract.evaluation
    evaluation = msgspec.structs.replace(evaluation, metrics={**evaluation.metrics, **metrics})
    draft = msgspec.structs.replace(champion.contract, evaluation=evaluation)
    return pipeline.publish(champion.trained, draft, champion.graphs, registry, promote)
