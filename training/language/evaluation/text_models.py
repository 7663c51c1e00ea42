"""Language models that are measured, which score and continue tokens: an engine, or a network in float32."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch

from handlers.contract import Array
from handlers.language.generation import Finished, Generate, Sampling, Scored, Token
from handlers.language.scheduling.batching import ContinuousBatching
from handlers.language.template import ChatTemplate
from handlers.language.text import StoppedText
from training.language.gguf_file import Metadata
from training.language.llama import KeyValues, Llama
from training.language.tokenizer import LanguageTokenizer


class TokenScores(NamedTuple):
    """A model's predictions of the tokens of a sequence, from the second on.

    Attributes:
        logprobs: FP64 ``(n - 1,)``, natural logarithms.
        greedy: BOOL ``(n - 1,)``, whether each token is the likeliest.
    """

    logprobs: Array
    greedy: Array


class TextModel(Protocol):
    """A language model that is measured.

    Attributes:
        context: most tokens of a sequence that is scored, and of a prompt with its answer.
        template: writes conversations as tokens.
    """

    context: int
    template: ChatTemplate

    def tokenize(self, text: str) -> list[int]:
        """Split a text, in which names of control tokens are text."""

    def score(self, sequences: Sequence[Sequence[int]]) -> list[TokenScores]:
        """Score sequences of at least two tokens."""

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int, stop: Sequence[str]) -> list[str]:
        """Return the likeliest text after each prompt, up to the model's own end or one of some strings."""


def first_token(model: TextModel) -> int:
    """Return the token that every conversation begins with: what stands before the first token of a plain text."""
    return model.template.tokens([{"role": "user", "content": "?"}])[0]


class EngineTextModel:
    """A model as its engine serves it, with all of its slots.

    Args:
        engine: nobody else uses it.
    """

    def __init__(self, engine: ContinuousBatching, template: ChatTemplate) -> None:
        self.context = engine.context - 1  # the engine keeps room for an answer of one token
        self.template = template
        self._engine = engine

    def tokenize(self, text: str) -> list[int]:
        """Split a text."""
        return self._engine.tokenize(text, False)

    def score(self, sequences: Sequence[Sequence[int]]) -> list[TokenScores]:
        """Score sequences, each alone as a client's prompt with ``echo``.

        Raises:
            RuntimeError: the engine fails.
        """
        asked = Sampling(temperature=0, logprobs=1)
        requests = [Generate(str(i), tokens, 0, asked, scored=True) for i, tokens in enumerate(sequences)]
        scores: dict[str, TokenScores] = {}
        for event in self._run(requests):
            if isinstance(event, Scored):
                tokens = event.tokens[1:]
                logprobs = np.array([token.logprob for token in tokens], np.float64)
                scores[event.id] = TokenScores(
                    logprobs, np.array([token.logprob == token.top[0][2] for token in tokens])
                )
        return [scores[request.id] for request in requests]

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int, stop: Sequence[str]) -> list[str]:
        """Answer prompts.

        Raises:
            RuntimeError: the engine fails.
        """
        asked = Sampling(temperature=0)
        requests = [Generate(str(i), tokens, max_tokens, asked) for i, tokens in enumerate(prompts)]
        texts = {request.id: StoppedText(stop) for request in requests}
        said: dict[str, str] = dict.fromkeys(texts, "")
        for event in self._run(requests):
            text = texts[event.id]
            if isinstance(event, Token) and not text.stopped:
                said[event.id] += text.add(event).text
                if text.stopped:
                    self._engine.cancel(event.id)
            elif isinstance(event, Finished) and not text.stopped:
                said[event.id] += text.end().text
        return list(said.values())

    def _run(self, requests: Sequence[Generate]) -> Iterator[Token | Scored | Finished]:
        """Yield the engine's events until all requests have ended; no more wait than it has slots."""
        engine, waiting = self._engine, list(reversed(requests))
        while waiting or engine.usage.running or engine.usage.waiting:
            while waiting and engine.usage.running + engine.usage.waiting < engine.slots:
                engine.add(waiting.pop())
            for event in engine.step():
                if isinstance(event, Finished) and event.reason == "error":
                    raise RuntimeError(f"the engine failed: {event.error}")
                yield event


class NetworkTextModel:
    """A network in float32, with the tokenizer of its file.

    Args:
        context: tokens of a request, as where it is served.
    """

    def __init__(self, module: Llama, tokenizer: LanguageTokenizer, metadata: Metadata, context: int) -> None:
        self.context = context - 1  # as the engine, whose answer needs room for a token
        self.template = ChatTemplate(metadata.template, tokenizer.tokenize)
        self._module, self._tokenizer, self._end = module, tokenizer, metadata.end

    def tokenize(self, text: str) -> list[int]:
        """Split a text."""
        return self._tokenizer.tokenize(text, False)

    def score(self, sequences: Sequence[Sequence[int]]) -> list[TokenScores]:
        """Score sequences, one after another."""
        return [self._score(tokens) for tokens in sequences]

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int, stop: Sequence[str]) -> list[str]:
        """Answer prompts, one after another."""
        return [self._answer(prompt, max_tokens, stop) for prompt in prompts]

    def _score(self, tokens: Sequence[int]) -> TokenScores:
        with torch.inference_mode():
            logits = self._module(torch.tensor([tokens]))[0, :-1]
            targets = torch.tensor(tokens[1:])
            chosen = logits.gather(1, targets[:, None])[:, 0]
            logprobs = (chosen - logits.logsumexp(1)).double().numpy()
            return TokenScores(logprobs, (chosen == logits.amax(1)).numpy())

    def _answer(self, prompt: Sequence[int], max_tokens: int, stop: Sequence[str]) -> str:
        text, said = StoppedText(stop), ""
        read, unread = KeyValues(), list(prompt)
        with torch.inference_mode():
            for _ in range(min(max_tokens, self.context - len(prompt))):
                token = int(self._module(torch.tensor([unread]), read)[0, -1].argmax())
                if token == self._end:
                    break
                said += text.add(Token("", token, self._tokenizer.piece(token))).text
                if text.stopped:
                    return said
                unread = [token]
        return said + text.end().text
