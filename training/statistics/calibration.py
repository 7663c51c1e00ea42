"""The calibration of probabilities: are 80 % of the answers that have 80 % right?

The expected calibration error measures it. A temperature that logits are divided by corrects it (Guo et al. 2017, "On
Calibration of Modern Neural Networks").
"""

import msgspec
import numpy as np
from scipy.optimize import minimize_scalar

from handlers.contract import Array
from handlers.contract.model_card import Bin, Calibration, Scaled

BINS = 15  # of equal width, as in the paper
LIMITS = (0.05, 20.0)  # bounds of the temperature
SMALLEST = 1e-12  # probabilities below count as this, so that their logarithm is finite


def reliability(probabilities: Array, target: Array) -> list[Bin]:
    """Sort answers into bins by their confidence.

    Args:
        probabilities: ``(n, classes)``.
        target: ``(n,)`` class indices.

    Returns:
        The bins that have rows.
    """
    confidence = probabilities.max(1).astype(np.float64)
    right = probabilities.argmax(1) == target
    index = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    members = [index == i for i in range(BINS)]
    return [Bin(int(m.sum()), float(confidence[m].mean()), float(right[m].mean())) for m in members if m.any()]


def expected_error(bins: list[Bin]) -> float:
    """Return the expected calibration error: the mean gap between confidence and accuracy over the rows."""
    gaps = np.array([(each.confidence, each.accuracy) for each in bins], np.float64)
    apart: list[float] = abs(gaps[:, 0] - gaps[:, 1]).tolist()
    return sum(each.rows * gap for each, gap in zip(bins, apart, strict=True)) / sum(each.rows for each in bins)


def log_loss(probabilities: Array, target: Array) -> float:
    """Return the mean negative log-likelihood of the truth, in nats."""
    likelihood = probabilities[np.arange(len(target)), target].astype(np.float64)
    return float(-np.log(np.maximum(likelihood, SMALLEST)).mean())


def scaled(probabilities: Array, temperature: float) -> Array:
    """Divide the logits of probabilities by a temperature; above 1 they become less sure, and their order stays."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), SMALLEST)) / temperature
    powers = np.exp(logits - logits.max(1, keepdims=True))
    shares: Array = powers / powers.sum(1, keepdims=True)
    return shares


def fit_temperature(probabilities: Array, target: Array) -> float:
    """Return the temperature under which the truth is likeliest; the rows must be neither fitted nor tested."""

    def loss(logarithm: float) -> float:
        return log_loss(scaled(probabilities, float(np.exp(logarithm))), target)

    optimum = minimize_scalar(loss, bounds=np.log(LIMITS), method="bounded")
    return float(np.exp(optimum.x))


def calibration(probabilities: Array, target: Array, temperature: float | None = None) -> Calibration:
    """Measure the calibration of a classification's probabilities, as they are and with a temperature."""
    bins = reliability(probabilities, target)
    measured = Calibration(expected_error(bins), log_loss(probabilities, target), bins)
    if temperature is None:
        return measured
    after = scaled(probabilities, temperature)
    better = Scaled(expected_error(reliability(after, target)), log_loss(after, target))
    return msgspec.structs.replace(measured, temperature=temperature, scaled=better)
