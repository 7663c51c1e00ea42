"""Hold an answer to one JSON object, whichever engine computes the logits: the tokens that may come next.

llguidance finds them: it walks a grammar and the vocabulary side by side. Its mask of 49,152 tokens takes 0.05 ms.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from handlers.contract import Array

# Most white space between values: otherwise a small model may go on with it for ever.
SPACE = r"[\x20\x0A\x0D\x09]{0,16}"


class Vocabulary(Protocol):
    """The tokens of a model.

    Attributes:
        vocabulary: number of tokens.
    """

    vocabulary: int

    def tokenize(self, text: str, special: bool) -> list[int]:
        """Split text into tokens, as ``ContinuousBatching.tokenize``."""

    def piece(self, token: int) -> bytes:
        """Return the bytes of a token; none of a control token."""

    def ends(self, token: int) -> bool:
        """Tell whether the token ends the generation."""


class JsonGrammar:
    """Begins answers that are JSON objects (RFC 8259).

    Args:
        vocabulary: of the model; its preparation takes some tenths of a second, once.

    Raises:
        ValueError: llguidance is not installed.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        try:
            import llguidance
        except ModuleNotFoundError as error:
            raise ValueError("an answer in JSON needs the package llguidance where the model is served") from error
        pieces = [vocabulary.piece(token) for token in range(vocabulary.vocabulary)]
        ends = [token for token in range(vocabulary.vocabulary) if vocabulary.ends(token)]
        words = _Words(pieces, ends, lambda text: vocabulary.tokenize(text, False))
        tokens = llguidance.LLTokenizer(llguidance.TokenizerWrapper(words), eos_token=ends)
        schema = {"type": "object"}
        grammar = llguidance.LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_pattern": SPACE})
        self._blank = llguidance.LLMatcher(tokens, grammar)
        self._size = len(pieces)

    def begin(self) -> "JsonAnswer":
        """Return the answer of one request, before its first token."""
        return JsonAnswer(self._blank.deep_copy(), self._size)


class JsonAnswer:
    """An answer so far.

    Args:
        matcher: of llguidance.
        size: of the vocabulary.
    """

    def __init__(self, matcher: Any, size: int) -> None:
        self._matcher, self._size = matcher, size

    def allowed(self) -> Array:
        """Return the tokens that may come next, ascending, int64; once the object is closed, those that end it.

        Raises:
            ValueError: the object is nested deeper than llguidance follows.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        tokens: Array = np.flatnonzero(np.unpackbits(bits, count=self._size, bitorder="little"))
        if self._matcher.is_error() or not len(tokens):
            raise ValueError(f"the answer cannot go on as JSON: {self._matcher.get_error() or 'no token fits'}")
        return tokens

    def take(self, token: int) -> None:
        """Go on with one of the allowed tokens."""
        self._matcher.consume_token(token)


class _Words:
    """A vocabulary in the form of ``TokenizerWrapper``."""

    bos_token_id = None

    def __init__(self, tokens: Sequence[bytes], ends: Sequence[int], split: Callable[[str], list[int]]) -> None:
        self.tokens = tokens
        self.eos_token_id = ends[0]
        self.special_token_ids = [token for token, piece in enumerate(tokens) if not piece]
        self._split = split

    def __call__(self, text: str | bytes) -> list[int]:
        return self._split(text if isinstance(text, str) else text.decode("utf-8", "replace"))
