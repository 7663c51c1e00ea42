"""The tokens of prompts: texts, conversations, or tokens that a client chose."""

from collections.abc import Sequence

import msgspec

from handlers.language.api import tokens
from handlers.language.api.requests import Prompt
from handlers.language.api.routes import too_long
from handlers.language.scheduling.batching import ContinuousBatching
from handlers.language.template import ChatTemplate
from handlers.message import InputError

CHARACTERS = 32  # a token of the context; no usual text has so many, and to split one would halt the others


class Prompts:
    """Makes tokens of prompts.

    Args:
        template: writes conversations as tokens.
    """

    def __init__(self, engine: ContinuousBatching, template: ChatTemplate) -> None:
        self._engine, self._template = engine, template

    def tokens(self, prompt: Prompt, path: str, goes_on: bool = False) -> list[int]:
        """Return the tokens of a prompt.

        Args:
            path: its place in the request.
            goes_on: whether the answer goes on with the last message of a conversation.

        Raises:
            InputError: it is empty, or too long.
        """
        if isinstance(prompt, str):
            self._check(len(prompt), path)
            if not prompt:
                raise InputError("empty", "the prompt is empty", path, "a text")
            return self._engine.tokenize(prompt, False)
        tokens = [one for one in prompt if isinstance(one, int)]
        messages = [one for one in prompt if not isinstance(one, int)]
        if not messages:
            if not tokens:
                raise InputError("empty", "the prompt is empty", path, "tokens")
            return tokens
        self._check(sum(len(message["content"]) for message in messages), path)
        return self._template.tokens(messages, path, goes_on)

    def prediction(self, text: str) -> list[int]:
        """Return the tokens of what an answer probably says, as far as the context could hold them."""
        if not text:
            return []
        return self._engine.tokenize(text[: CHARACTERS * self._engine.context], False)[: self._engine.context]

    def tokenized(self, body: bytes) -> bytes:
        """Answer a request of ``/tokenize``.

        Raises:
            InputError: the body has another form, or its prompt is empty or too long.
        """
        asked = tokens.tokenize(body)
        numbers = self.tokens(asked.prompt, asked.path, asked.goes_on)
        pieces = [self._engine.piece(token).decode("utf-8", "replace") for token in numbers] if asked.pieces else None
        answer = {"count": len(numbers), "max_model_len": self._engine.context, "tokens": numbers, "token_strs": pieces}
        return msgspec.json.encode(answer)

    def detokenized(self, body: bytes) -> bytes:
        """Answer a request of ``/detokenize``; bytes that are no UTF-8 become U+FFFD.

        Raises:
            InputError: the body has another form, or the vocabulary lacks a token.
        """
        try:
            return msgspec.json.encode({"prompt": self.text(tokens.detokenize(body))})
        except ValueError as error:
            raise InputError("out_of_range", str(error), "$.tokens", "tokens of this model") from error

    def text(self, numbers: Sequence[int]) -> str:
        """Return the text of tokens, with U+FFFD for bytes that are no UTF-8.

        Raises:
            ValueError: the vocabulary lacks a token.
        """
        return b"".join(map(self._engine.piece, numbers)).decode("utf-8", "replace")

    def _check(self, characters: int, path: str) -> None:
        """Refuse a text that cannot fit the context before it is split."""
        if characters > CHARACTERS * self._engine.context:
            # No token of a usual vocabulary has so many characters.
            raise too_long(path, self._engine.context, characters // CHARACTERS, least=True)
