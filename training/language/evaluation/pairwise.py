"""Two language models on held-out conversations: how often one finds the given answer likelier than the other.

No judge reads their own answers. What people answered stands in its place: the better model foresees it better. The
log-likelihood of the whole text is compared, so that models of other vocabularies compare as well.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from handlers.contract import Array
from handlers.message import InputError
from training.data import DataError
from training.language.evaluation.text_models import TextModel
from training.statistics.intervals import wilson

ROUNDING = 1e-4  # relative difference of two log-likelihoods that counts as none


class WinRate(NamedTuple):
    """The share of conversations that the challenger wins; a tie is half a win.

    Attributes:
        low: end of Wilson's interval of 95 %, as is ``high``.
    """

    rows: int
    share: float
    low: float
    high: float

    def __str__(self) -> str:
        ends = f"95 % from {self.low:.0%} to {self.high:.0%}"
        return f"it finds the given answer likelier in {self.share:.0%} of {self.rows} conversations ({ends})"


def answer_logprobs(model: TextModel, conversations: Sequence[Sequence[dict[str, str]]]) -> Array:
    """Return the log-likelihood of the last message of each conversation, FP64 ``(n,)``.

    Raises:
        DataError: one is too long for the model, or its template refuses it.
    """
    sequences, lengths = [], []
    for number, messages in enumerate(conversations, 1):
        try:
            prompt = model.template.tokens(messages[:-1])
        except InputError as error:
            raise DataError(f"conversation {number}: {error.message}") from error
        answer = model.tokenize(messages[-1]["content"])
        if len(prompt) + len(answer) > model.context:
            raise DataError(
                f"conversation {number} has {len(prompt) + len(answer)} tokens; the model takes {model.context}"
            )
        sequences.append([*prompt, *answer])
        lengths.append(len(answer))
    scores = zip(model.score(sequences), lengths, strict=True)
    return np.array([own.logprobs[-length:].sum() for own, length in scores])


def fits(model: TextModel, messages: Sequence[dict[str, str]]) -> bool:
    """Tell whether a model's template and context take a conversation."""
    try:
        prompt = model.template.tokens(messages[:-1])
    except InputError:
        return False
    return len(prompt) + len(model.tokenize(messages[-1]["content"])) <= model.context


def win_rate(champion: Array, challenger: Array) -> WinRate:
    """Compare the log-likelihoods of the same answers, ``(n,)`` each."""
    difference = challenger - champion
    ties = np.abs(difference) <= ROUNDING * np.abs(champion)
    share = float(np.where(ties, 0.5, difference > 0).mean())
    low, high = wilson(np.array([share]), np.array([len(difference)]))
    return WinRate(len(difference), share, float(low[0]), float(high[0]))
