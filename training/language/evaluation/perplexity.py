"""Perplexity of a language model on a text, by the reference and by an engine."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from handlers.contract import Array
from handlers.language.decoders.decoder import Decoder, Part
from training.language.llama import Llama


class TextPrediction(NamedTuple):
    """A model's predictions of the tokens of a text.

    Attributes:
        logprobs: FP64 ``(n - 1,)``, the natural logarithm of each token's probability, from the second on.
        likeliest: INT64 ``(n - 1,)``, the token with the highest probability.
    """

    logprobs: Array
    likeliest: Array

    @property
    def perplexity(self) -> float:
        """Exponential of the mean negative log-probability; the size of the vocabulary for uniform guesses."""
        return math.exp(-self.logprobs.mean())


def by_reference(module: Llama, tokens: Sequence[int]) -> TextPrediction:
    """Predict a text of at least two tokens by the network in float32."""
    with torch.inference_mode():
        (logits,) = module(torch.tensor([tokens]))
    return _predict(logits[:-1].numpy(), tokens)


def by_engine(decoder: Decoder, tokens: Sequence[int]) -> TextPrediction:
    """Predict a text of at least two tokens by an engine, token by token as when it generates."""
    rows = [decoder.decode([Part(0, place, [token], True)])[0].copy() for place, token in enumerate(tokens[:-1])]
    decoder.truncate(0, 0)
    return _predict(np.stack(rows), tokens)


def compare(engine: TextPrediction, reference: TextPrediction) -> dict[str, int | float]:
    """Compare an engine with the reference on the same text.

    Returns:
        ``rows`` (tokens), ``perplexity`` (relative difference), ``logprob`` (mean absolute difference) and
        ``likeliest`` (share of tokens at which another was the likeliest).
    """
    return {
        "rows": len(reference.logprobs),
        "perplexity": engine.perplexity / reference.perplexity - 1,
        "logprob": float(abs(engine.logprobs - reference.logprobs).mean()),
        "likeliest": float((engine.likeliest != reference.likeliest).mean()),
    }


def _predict(logits: Array, tokens: Sequence[int]) -> TextPrediction:
    """Evaluate float32 ``(n - 1, vocabulary)`` logits on the tokens of the text."""
    wide = logits.astype(np.float64)
    top = wide.max(1, keepdims=True)
    total = np.log(np.exp(wide - top).sum(1)) + top[:, 0]
    return TextPrediction(wide[np.arange(len(wide)), tokens[1:]] - total, logits.argmax(1))
