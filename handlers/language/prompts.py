"""The tokens of prompts: texts, conversations, or tokens that a client chose."""

from handlers.language.api.requests import Prompt
from handlers.language.api.routes import too_long
from handlers.language.batching import ContinuousBatching
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

    def tokens(self, prompt: Prompt, path: str) -> list[int]:
        """Return the tokens of a prompt.

        Args:
            path: its place in the request.

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
        return self._template.tokens(messages)

    def _check(self, characters: int, path: str) -> None:
        """Refuse a text that cannot fit the context before it is split."""
        if characters > CHARACTERS * self._engine.context:
            # No token of a usual vocabulary has so many characters.
            raise too_long(path, self._engine.context, characters // CHARACTERS, least=True)
