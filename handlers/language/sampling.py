"""Choose the next token from logits, in NumPy: nothing here loops over the vocabulary in Python."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from handlers.contract import Array
from handlers.language.generation import Sampling
from handlers.language.structured.grammars import HeldAnswer

GREEDY = 1e-5  # lower temperatures count as zero


class Sampled(NamedTuple):
    """A chosen token, with its log-probabilities where the request wants them."""

    token: int
    logprob: float | None
    top: list[tuple[int, float]]


class Sampler:
    """Chooses the tokens of one request.

    It has random numbers of its own, one for each token, so the choice does not depend on the rest of the batch.

    Args:
        sampling: the request's parameters.
        held: the answer by its constraint; None for free text.
        prompt: its tokens, which are repetitions too.
    """

    def __init__(self, sampling: Sampling, held: HeldAnswer | None = None, prompt: Sequence[int] = ()) -> None:
        self._sampling, self._held = sampling, held
        self._repeated = set(prompt) if sampling.repetition_penalty != 1 else set()
        self._biased = np.array([token for token, _ in sampling.logit_bias], np.intp)
        self._biases = np.array([bias for _, bias in sampling.logit_bias], np.float32)
        # OpenAI's seeds are signed, NumPy's are not.
        seed = None if sampling.seed is None else sampling.seed % 2**64
        self._random = np.random.default_rng(seed)
        self._generated: Counter[int] = Counter()

    def __call__(self, logits: Array) -> Sampled:
        """Choose the next token.

        Args:
            logits: float32 ``(vocabulary,)``; not changed.

        Raises:
            ValueError: the largest logit is not finite, or no token fits the constraint.
        """
        token = self._allowed(self._penalised(logits))
        self._generated[token] += 1
        if self._sampling.repetition_penalty != 1:
            self._repeated.add(token)
        count = self._sampling.logprobs
        if count is None:
            return Sampled(token, None, [])
        logprobs = log_softmax(logits)
        best = largest(logprobs, count)
        return Sampled(token, float(logprobs[token]), [(int(i), float(logprobs[i])) for i in best])

    def _penalised(self, logits: Array) -> Array:
        """Return logits after repetition, presence and frequency penalties and the bias, in the order of vLLM."""
        presence, frequency = self._sampling.presence_penalty, self._sampling.frequency_penalty
        counted = bool(self._generated) and bool(presence or frequency)
        if not (counted or self._repeated or len(self._biased)):
            return logits
        penalised = logits.copy()
        if self._repeated:
            repeated = np.fromiter(self._repeated, np.intp)
            values, factor = penalised[repeated], self._sampling.repetition_penalty
            penalised[repeated] = np.where(values > 0, values / factor, values * factor)
        if counted:
            tokens = np.fromiter(self._generated.keys(), np.intp)
            counts = np.fromiter(self._generated.values(), np.float32)
            penalised[tokens] -= presence + frequency * counts
        penalised[self._biased] += self._biases
        return penalised

    def _allowed(self, logits: Array) -> int:
        if not self._held:
            return self._choose(logits)
        tokens = self._held.allowed()
        token = int(tokens[self._choose(logits[tokens])])
        self._held.take(token)
        return token

    def _choose(self, logits: Array) -> int:
        likeliest = int(logits.argmax())  # the first NaN, if there is one
        if not np.isfinite(logits[likeliest]):
            raise ValueError("the model's logits are not finite: its weights are damaged")
        if self._sampling.temperature < GREEDY:
            return likeliest
        # A race: each token gets an exponential time at the rate of its weight, and the shortest wins. Last bits of the
        # logits differ with the size of the batch. As each token has its own time, they hardly ever change the winner.
        times = self._random.standard_exponential(len(logits))
        tokens = self._candidates(logits)
        if tokens is not None:
            logits, times = logits[tokens], times[tokens]
        winner = int(np.argmin(times / self._weights(logits)))
        return winner if tokens is None else int(tokens[winner])

    def _candidates(self, logits: Array) -> Array | None:
        """Return the tokens by min_p, top_k and top_p; None for all."""
        top_k, top_p = self._sampling.top_k, self._sampling.top_p
        tokens = largest(logits, top_k) if 0 < top_k < len(logits) else None
        if self._sampling.min_p:
            weights = self._weights(logits if tokens is None else logits[tokens])  # the likeliest has 1
            likely = np.flatnonzero(weights >= self._sampling.min_p)
            tokens = likely if tokens is None else tokens[likely]
        if top_p == 1:
            return tokens
        likeliest = nucleus(self._weights(logits if tokens is None else logits[tokens]), top_p)
        return likeliest if tokens is None else tokens[likeliest]

    def _weights(self, logits: Array) -> Array:
        """Return probabilities up to a factor; none is zero."""
        weights: Array = np.exp((logits - logits.max()) / self._sampling.temperature)
        return weights.clip(np.finfo(np.float32).tiny)


def log_softmax(logits: Array) -> Array:
    """Return the logarithms of the probabilities of logits: float32 ``(n,)`` to the same."""
    shifted = logits - logits.max()
    logprobs: Array = shifted - np.log(np.exp(shifted).sum())
    return logprobs


def largest(values: Array, count: int) -> Array:
    """Return the positions of the ``count`` largest values, largest first."""
    count = min(count, len(values))
    if not count:
        return np.empty(0, np.intp)
    positions = np.argpartition(values, -count)[-count:]
    order: Array = positions[np.argsort(-values[positions], kind="stable")]
    return order


def nucleus(weights: Array, top_p: float) -> Array:
    """Return the positions of the fewest weights with the share ``top_p``, largest first (arXiv:1904.09751).

    Args:
        weights: ``(n,)``, none negative.
        top_p: in [0, 1); 0 for the largest alone.
    """
    total = weights.sum(dtype=np.float64)
    # All n weights below this make up less than 1 - top_p, so none of them is needed and few are left to sort.
    candidates = np.flatnonzero(weights >= total * (1 - top_p) / len(weights))
    order = candidates[np.argsort(-weights[candidates], kind="stable")]
    sums = np.cumsum(weights[order], dtype=np.float64)
    nucleus: Array = order[: int(np.searchsorted(sums, top_p * total)) + 1]
    return nucleus
