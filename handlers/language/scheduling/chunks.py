"""How many tokens of the prompts that are read a step computes beside the streams."""

from collections.abc import Mapping

EQUAL = 512  # position in a prompt at which a token's attention costs as much as all its other work
PASS = 1  # tokens that cost as much as a chunk's own pass over the weights


class Chunks:
    """Sizes the chunks of prompts.

    Args:
        batch: most tokens of a step.
        chunk: tokens of a prompt in a step for each stream beside it, less one; fewer late in a prompt.
        lone: tokens of a prompt in a step without streams.
        backlog: least tokens of a prompt in a step beside streams while others wait.
    """

    def __init__(self, batch: int, chunk: float, lone: int, backlog: int) -> None:
        self._batch, self._chunk, self._lone, self._backlog = batch, chunk, lone, backlog

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
        size = max(1, round(self._chunk * streams * EQUAL / (EQUAL + position)) - PASS)
        return max(size, self._backlog if waiting else 0)
