"""From the bytes of tokens to text that may be shown: whole characters, and nothing of a string that ends the answer.

Both are told from bytes alone, because no character's bytes begin inside another's (UTF-8: RFC 3629, section 1).
"""

import codecs
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from handlers.language.generation import Token


class Shown(NamedTuple):
    """What has become certain.

    Attributes:
        text: valid Unicode; what is no UTF-8 stands as U+FFFD.
        tokens: those that end in it.
    """

    text: str
    tokens: Sequence[Token] = ()


class StoppedText:
    """The text of one answer as its tokens come in.

    Args:
        stop: strings that end the answer, none of them empty; neither they nor what follows is ever shown, not even
            where a string begins in one token and ends in another.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self.stopped = False  # whether one of the strings came
        self._stop = [one.encode() for one in stop]
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = b""  # may be the beginning of a string
        self._start = 0  # position of what is held in the whole answer
        self._tokens: deque[tuple[int, Token]] = deque()  # not shown yet, and the position where each ends

    def add(self, token: Token) -> Shown:
        """Take the next token."""
        self._held += token.piece
        self._tokens.append((self._start + len(self._held), token))
        found = [at for at in map(self._held.find, self._stop) if at >= 0]
        if found:
            self.stopped = True
            return self._show(min(found), last=True)
        return self._show(len(self._held) - max((_overlap(self._held, one) for one in self._stop), default=0))

    def end(self) -> Shown:
        """The rest, when no token follows."""
        return self._show(len(self._held), last=True)

    def _show(self, length: int, last: bool = False) -> Shown:
        text = self._decoder.decode(self._held[:length], last)
        self._held = self._held[length:]
        self._start += length
        tokens: list[Token] = []
        while self._tokens and self._tokens[0][0] <= self._start:
            tokens.append(self._tokens.popleft()[1])
        return Shown(text, tokens)


def _overlap(text: bytes, stop: bytes) -> int:
    """How many bytes at the end of a text are the beginning of a string that is not in it as a whole."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)
