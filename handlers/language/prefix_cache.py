"""Which slot a prompt takes, so that what its beginning has in common with an earlier one is not computed again."""

from collections.abc import Collection, Sequence
from typing import NamedTuple


class Placement(NamedTuple):
    """Where a prompt goes: its slot, the slot that holds its first ``shared`` tokens (the same, or one to copy)."""

    slot: int
    source: int
    shared: int


class PrefixCache:
    """The tokens whose keys and values each slot holds, also after its request is finished.

    Args:
        slots: how many there are.
        worth_copying: tokens; copying a slot costs as much as computing so many.
    """

    def __init__(self, slots: int, worth_copying: int) -> None:
        self.tokens: list[list[int]] = [[] for _ in range(slots)]
        self._worth_copying = worth_copying
        self._taken = [0] * slots  # when, counted in prompts
        self._prompts = 0

    def place(self, prompt: Sequence[int], free: Collection[int]) -> Placement:
        """Give a prompt one of the free slots; what the slot held beyond the shared tokens is forgotten.

        The slot that holds the longest beginning is taken, if it is free and mostly that; else the one that was not
        taken for longest, and the beginning is copied where that is worth it.

        Args:
            prompt: at least one token; the last one is never shared, for its logits are needed.
            free: numbers of slots, at least one.
        """
        shared = self._shared(prompt)
        source = max(range(len(shared)), key=shared.__getitem__)
        slot = min(free, key=lambda number: (self._taken[number], number))
        if source in free and 0 < len(self.tokens[source]) <= 2 * shared[source]:
            slot = source
        elif shared[source] - shared[slot] < self._worth_copying:
            source = slot
        self.tokens[slot] = list(prompt[: shared[source]])
        self._prompts += 1
        self._taken[slot] = self._prompts
        return Placement(slot, source, shared[source])

    def known(self, prompt: Sequence[int]) -> int:
        """How many tokens of a prompt need not be computed, were it placed now."""
        return max(self._shared(prompt))

    def _shared(self, prompt: Sequence[int]) -> list[int]:
        return [min(common(prompt, tokens), len(prompt) - 1) for tokens in self.tokens]


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences have in common from their start."""
    for i, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return i
    return min(len(one), len(other))
