"""A language model as lm-eval asks it (EleutherAI's evaluation harness): the tasks are its own, only the model is ours.

It imports ``lm_eval``, of the extra ``evaluate``: whoever imports this module checks first that it is there.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from training.data import DataError
from training.language.evaluation.text_models import TextModel, first_token

LONGEST = 256  # tokens of an answer where a task names no other number, as in lm-eval's own models


class HarnessModel(TemplateLM):  # type: ignore[misc]
    """A model, for lm-eval's ``evaluate``."""

    def __init__(self, model: TextModel) -> None:
        super().__init__()
        self._model, self._first = model, first_token(model)

    @property
    def eot_token_id(self) -> int:
        """Token that stands before a text without a context."""
        return self._first

    @property
    def tokenizer_name(self) -> str:
        """Name for lm-eval's caches, which are not used."""
        return "marloop"

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Split a text; nothing stands before it."""
        return self._model.tokenize(string)

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Return the log-likelihood of each continuation, and whether it is what greedy decoding says; no bar shows."""
        return super().loglikelihood(requests, disable_tqdm=True)  # type: ignore[no-any-return]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Return the log-likelihood of whole texts, the first token of which follows on ``eot_token_id``."""
        return [self._text(request.args[0]) for request in requests]

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Answer prompts greedily.

        Raises:
            DataError: a task samples, or an answer leaves no room for its prompt.
        """
        alike: dict[tuple[int, tuple[str, ...]], list[int]] = defaultdict(list)
        for place, request in enumerate(requests):
            alike[_limits(request.args[1])].append(place)
        answers = [""] * len(requests)
        for (most, stop), places in alike.items():
            room = self._model.context - most
            if room < 1:
                raise DataError(f"max_gen_toks is {most}, and the context has {self._model.context} tokens")
            prompts = [(self.tok_encode(requests[place].args[0]) or [self._first])[-room:] for place in places]
            for place, answer in zip(places, self._model.generate(prompts, most, stop), strict=True):
                answers[place] = answer
        return answers

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        sequences = [[*context, *continuation][-self._model.context :] for _, context, continuation in requests]
        results = []
        for (_, _, continuation), scores in zip(requests, self._model.score(sequences), strict=True):
            logprobs, greedy = (values[-len(continuation) :] for values in scores)
            results.append((float(logprobs.sum()), bool(greedy.all())))
        return results

    def _text(self, text: str) -> float:
        windows = get_rolling_token_windows(
            token_list=self.tok_encode(text),
            prefix_token=self._first,
            max_seq_len=self._model.context - 1,
            context_len=1,
        )
        requests = [(None, *make_disjoint_window(window)) for window in windows]
        return sum(logprob for logprob, _ in self._loglikelihood_tokens(requests))


def _limits(settings: dict[str, Any]) -> tuple[int, tuple[str, ...]]:
    """Return the most tokens of an answer, and the strings that end it."""
    if settings.get("do_sample") and settings.get("temperature") != 0:
        raise DataError("a task samples its answers (do_sample), which are compared greedily here")
    until = settings.get("until") or []
    most = settings.get("max_gen_toks", settings.get("max_tokens", LONGEST))
    return int(most), (until,) if isinstance(until, str) else tuple(until)
