"""Versions that a rule of the test's own answers for, and the rows that they are asked."""

from collections.abc import Callable, Mapping

import numpy as np

from handlers.contract import Array, Example, ModelContract
from handlers.formats.codec import Codec
from monitoring.retraining.judging.archived import Archived
from tests.support.documents import document, replaced

Rule = Callable[[Mapping[str, Array]], Array]  # the graph's inputs -> its output
EXAMPLE = {"distance": 1.0, "carrier": "AA"}


class Clock:
    """Goes forward when an engine computes."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Engine:
    """Computes a rule, which takes its time."""

    def __init__(self, contract: ModelContract, rule: Rule, seconds: Callable[[], float], clock: Clock) -> None:
        self._output, self._rule, self._seconds, self._clock = contract.graph_outputs[0], rule, seconds, clock

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        self._clock.now += self._seconds()
        return {self._output: self._rule(tensors).astype(np.float32)}


def version(contract: ModelContract, rule: Rule, seconds: Callable[[], float] = lambda: 0.001) -> Archived:
    """A version with parity and an example that it answers.

    Args:
        contract: of a model of ``drifting``.
        rule: what its graph computes.
        seconds: that it takes for each batch.
    """
    output = rule({"distance": np.ones(1, np.float32), "carrier": np.zeros(1, np.int64)})[0]
    answer = float(output) if contract.task == "regression" else _likeliest(contract, output)
    lineage = {"parity": {"rows": 1000, "onnxruntime": 1e-6, "torch": 0.0}} | document(contract.lineage)
    complete = replaced(contract, example=Example(EXAMPLE, {"prediction": answer}), lineage=lineage)
    return opened(complete, rule, seconds)


def opened(contract: ModelContract, rule: Rule, seconds: Callable[[], float] = lambda: 0.001) -> Archived:
    """A version whose contract says what it says."""
    clock = Clock()
    return Archived(contract, Engine(contract, rule, seconds, clock), Codec(contract, 1024), clock)


def _likeliest(contract: ModelContract, output: Array) -> dict[str, object]:
    index = int(output.argmax())
    return {"label": contract.labels[index], "index": index, "probability": float(output[index])}
