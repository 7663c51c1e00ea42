"""How many tokens of the prompts that are read a step computes beside the streams."""

from collections.abc import Mapping
from typing import NamedTuple


class Beside(NamedTuple):
    """The tokens of a prompt that make a step beside streams take some 2.5 times as long as without: a decoder's own.

    The more streams run, the longer a step takes anyway. Late in a prompt a token costs more.

    Attributes:
        each: tokens for each stream at the prompt's begin, less one for all together.
        half: position in the prompt at which they are half as many: a token's attention costs as much as all its other
            work.
        least: tokens that are always read: so few cost hardly more than one.
    """

    each: float
    half: int
    least: int = 1


OWN_PASS = Beside(2.5, 512)  # a chunk is computed in a pass over the weights of its own


class Chunks:
    """Sizes the chunks of prompts.

    Args:
        batch: most tokens of a step.
        beside: tokens of a prompt in a step beside streams.
        lone: tokens of a prompt in a step without streams.
        backlog: least tokens of a prompt in a step beside streams while others wait.
    """

    def __init__(self, batch: int, beside: Beside, lone: int, backlog: int) -> None:
        self._batch, self._beside, self._lone, self._backlog = batch, beside, lone, backlog

    def sizes(
        self, unread: Mapping[int, int], positions: Mapping[int, int], streams: int, waiting: bool
    ) -> dict[int, int]:
        """Return the tokens of the next step by slot: of the prompt with the least left to read, and of the longest.

        Args:
            unread: tokens that are still to be read, by slot.
            positions: tokens that were read, by slot.
            streams: number of requests that get a token in this step.
            waiting: whether others wait.
        """
        if not unread:
            return {}
        *shorter, longest = sorted(unread, key=unread.__getitem__)
        size = min(self._size(positions[longest], streams, waiting), self._batch - streams)
        if not shorter:
            return {longest: size}
        # The long prompt goes on, with as much as one stream would bear.
        share = max(1, min(size, self._size(positions[longest], max(1, streams), waiting)) // 2)
        return {shorter[0]: max(1, size - share), longest: share}

    def _size(self, position: int, streams: int, waiting: bool) -> int:
        """Return the tokens of a prompt in a step beside a number of streams."""
        if not streams:
            return self._lone
        each, half, least = self._beside
        size = max(least, round(each * streams * half / (half + position)) - 1)
        return max(size, self._backlog if waiting else 0)
