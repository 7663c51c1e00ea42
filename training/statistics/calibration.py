"""Whether probabilities mean what they say: of the answers given with 80 %, are 80 % right?

Measured by the expected calibration error and put right by one number, the temperature that logits are divided by
(Guo et al. 2017, "On Calibration of Modern Neural Networks").
"""

import msgspec
import numpy as np
from scipy.optimize import minimize_scalar

from handlers.contract import Array
from handlers.contract.model_card import Bin, Calibration, Scaled

BINS = 15  # of equal width, as in the paper
LIMITS = (0.05, 20.0)  # of the temperature
SMALLEST = 1e-12  # probability that a logarithm is taken of


def reliability(probabilities: Array, target: Array) -> list[Bin]:
    """Bins of answers by how sure they are.

    Args:
        probabilities: ``(n, classes)``.
        target: ``(n,)`` class indices.

    Returns:
        Those that have rows.
    """
    confidence = probabilities.max(1).astype(np.float64)
    right = probabilities.argmax(1) == target
    index = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    members = [index == i for i in range(BINS)]
    return [Bin(int(m.sum()), float(confidence[m].mean()), float(right[m].mean())) for m in members if m.any()]


def expected_error(bins: list[Bin]) -> float:
    """The expected calibration error: how far confidence and accuracy are apart, on average over the rows."""
    gaps = np.array([(each.confidence, each.accuracy) for each in bins], np.float64)
    apart: list[float] = abs(gaps[:, 0] - gaps[:, 1]).tolist()
    return sum(each.rows * gap for each, gap in zip(bins, apart, strict=True)) / sum(each.rows for each in bins)


def log_loss(probabilities: Array, target: Array) -> float:
    """The mean negative log-likelihood of the truth, in nats."""
    likelihood = probabilities[np.arange(len(target)), target].astype(np.float64)
    return float(-np.log(np.maximum(likelihood, SMALLEST)).mean())


def scaled(probabilities: Array, temperature: float) -> Array:
    """The probabilities if their logits were divided by a temperature: over 1 they are less sure, the order stays."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), SMALLEST)) / temperature
    powers = np.exp(logits - logits.max(1, keepdims=True))
    shares: Array = powers / powers.sum(1, keepdims=True)
    return shares


def fit_temperature(probabilities: Array, target: Array) -> float:
    """The temperature under which the truth is likeliest; fit it on rows that were neither fitted nor tested."""

    def loss(logarithm: float) -> float:
        return log_loss(scaled(probabilities, float(np.exp(logarithm))), target)

    optimum = minimize_scalar(loss, bounds=np.log(LIMITS), method="bounded")
    return float(np.exp(optimum.x))


def calibration(probabilities: Array, target: Array, temperature: float | None = None) -> Calibration:
    """What a classification's evaluation says of its probabilities, and how a temperature would change it."""
    bins = reliability(probabilities, target)
    measured = Calibration(expected_error(bins), log_loss(probabilities, target), bins)
    if temperature is None:
        return measured
    after = scaled(probabilities, temperature)
    better = Scaled(expected_error(reliability(after, target)), log_loss(after, target))
    return msgspec.structs.replace(measured, temperature=temperature, scaled=better)
