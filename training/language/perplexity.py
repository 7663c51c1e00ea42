"""How well a language model foresees a text, by the reference and by an engine."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from handlers.contract import Array
from handlers.language.batching import Decoder, Part
from training.language.llama import Llama


class Foreseen(NamedTuple):
    """What was foreseen of a text.

    Attributes:
        logprobs: FP64 ``(n - 1,)``, the natural logarithm of each token's probability, from the second on.
        likeliest: INT64 ``(n - 1,)``, the token that was held the likeliest instead.
    """

    logprobs: Array
    likeliest: Array

    @property
    def perplexity(self) -> float:
        """The exponential of the mean negative log-probability; of one who guesses, the size of the vocabulary."""
        return math.exp(-self.logprobs.mean())


def by_reference(module: Llama, tokens: Sequence[int]) -> Foreseen:
    """What the network in float32 foresees of at least two tokens."""
    with torch.inference_mode():
        (logits,) = module(torch.tensor([tokens]))
    return _foreseen(logits[:-1].numpy(), tokens)


def by_engine(decoder: Decoder, tokens: Sequence[int]) -> Foreseen:
    """What an engine foresees of at least two tokens, given one by one as when it generates."""
    rows = [decoder.decode([Part(0, place, [token], True)])[0].copy() for place, token in enumerate(tokens[:-1])]
    decoder.truncate(0, 0)
    return _foreseen(np.stack(rows), tokens)


def compare(engine: Foreseen, reference: Foreseen) -> dict[str, int | float]:
    """How far an engine is from the reference on the same text.

    Returns:
        ``rows`` (tokens), ``perplexity`` (the relative difference), ``logprob`` (the mean absolute difference) and
        ``likeliest`` (the share of tokens at which another was the likeliest).
    """
    return {
        "rows": len(reference.logprobs),
        "perplexity": engine.perplexity / reference.perplexity - 1,
        "logprob": float(abs(engine.logprobs - reference.logprobs).mean()),
        "likeliest": float((engine.likeliest != reference.likeliest).mean()),
    }


def _foreseen(logits: Array, tokens: Sequence[int]) -> Foreseen:
    """From float32 ``(n - 1, vocabulary)`` logits."""
    wide = logits.astype(np.float64)
    top = wide.max(1, keepdims=True)
    total = np.log(np.exp(wide - top).sum(1)) + top[:, 0]
    return Foreseen(wide[np.arange(len(wide)), tokens[1:]] - total, logits.argmax(1))
