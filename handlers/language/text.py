"""Turn the bytes of tokens into text that may be shown: whole characters, and nothing of a string that ends the answer.

Bytes alone decide both, because no character's bytes begin inside another's (UTF-8: RFC 3629, section 1).
"""

import codecs
from collections import deque
from collections.abc import Sequence
from typing import AnyStr, NamedTuple

from handlers.language.generation import Token


class Shown(NamedTuple):
    """Text that can be sent.

    Attributes:
        text: valid Unicode; bytes that are no UTF-8 stand as U+FFFD.
        tokens: the tokens that end in the text.
        end: the token by which the model ended the text, where it is told.
    """

    text: str
    tokens: Sequence[Token] = ()
    end: Token | None = None


class StoppedText:
    """Collects the text of one answer from its tokens.

    Args:
        stop: strings that end the answer, none of them empty. Neither they nor what follows is shown, even where a
            string begins in one token and ends in another.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self.stopped = False  # whether a stop string came
        self._stop = [string.encode() for string in stop]
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = b""  # bytes that may begin a stop string
        self._start = 0  # position of the held bytes in the answer
        self._tokens: deque[tuple[int, Token]] = deque()  # tokens not shown yet, each with the position of its end

    def add(self, token: Token) -> Shown:
        """Add a token, and return the text that can be sent now."""
        self._held += token.piece
        self._tokens.append((self._start + len(self._held), token))
        positions = [position for position in map(self._held.find, self._stop) if position >= 0]
        if positions:
            self.stopped = True
            return self._show(min(positions), last=True)
        return self._show(len(self._held) - max((overlap(self._held, stop) for stop in self._stop), default=0))

    def end(self) -> Shown:
        """Return the rest of the text, when no token follows."""
        return self._show(len(self._held), last=True)

    def _show(self, length: int, last: bool = False) -> Shown:
        text = self._decoder.decode(self._held[:length], last)
        self._held = self._held[length:]
        self._start += length
        tokens: list[Token] = []
        while self._tokens and self._tokens[0][0] <= self._start:
            tokens.append(self._tokens.popleft()[1])
        return Shown(text, tokens)


def overlap(text: AnyStr, mark: AnyStr) -> int:
    """Return how much of the end of a text begins a mark, which may not be shown before it is known to be none."""
    return next((size for size in range(min(len(text), len(mark) - 1), 0, -1) if text.endswith(mark[:size])), 0)
