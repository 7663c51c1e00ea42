"""Choose a prompt's slot so that a beginning that it shares with an earlier prompt is not computed again."""

from collections.abc import Collection, Sequence
from typing import NamedTuple


class Placement(NamedTuple):
    """A prompt's slot, and the slot with its first ``shared`` tokens: the same, or one to copy from."""

    slot: int
    source: int
    shared: int


class PrefixCache:
    """Knows the tokens whose keys and values each slot holds, also after its request is finished.

    Args:
        worth_copying: tokens that take as long to compute as a slot takes to copy.
    """

    def __init__(self, slots: int, worth_copying: int) -> None:
        self.tokens: list[list[int]] = [[] for _ in range(slots)]
        self._adapters = [""] * slots  # with which the keys and values of each slot were computed
        self._worth_copying = worth_copying
        self._taken = [0] * slots  # number of the prompt that took each slot last
        self._prompts = 0

    def place(self, prompt: Sequence[int], free: Collection[int], anew: bool = False, adapter: str = "") -> Placement:
        """Give a prompt one of the free slots; the slot forgets all but the shared tokens.

        The slot with the longest shared beginning is taken if it is free and holds little else. Otherwise the slot
        that was not taken for longest is, and the beginning is copied where that is worth it.

        Args:
            prompt: at least one token; the last one is never shared, for its logits are needed.
            free: numbers of slots, at least one.
            anew: whether nothing is to be shared.
            adapter: of the prompt: with another one each token has other keys and values.
        """
        shared = [0] * len(self.tokens) if anew else self._shared(prompt, adapter)
        source = max(range(len(shared)), key=shared.__getitem__)
        slot = self.oldest(free)
        source = slot if anew else source
        if source in free and 0 < len(self.tokens[source]) <= 2 * shared[source]:
            slot = source
        elif shared[source] - shared[slot] < self._worth_copying:
            source = slot
        self.tokens[slot] = list(prompt[: shared[source]])
        self._adapters[slot] = adapter
        self._prompts += 1
        self._taken[slot] = self._prompts
        return Placement(slot, source, shared[source])

    def cached(self, prompt: Sequence[int], adapter: str = "", slots: Collection[int] | None = None) -> int:
        """Return the number of tokens at the beginning of a prompt that one of some slots, or of all, holds."""
        shared = self._shared(prompt, adapter)
        return max(shared if slots is None else (shared[slot] for slot in slots), default=0)

    def oldest(self, slots: Collection[int]) -> int:
        """Return that of some slots which was taken longest ago."""
        return min(slots, key=lambda slot: (self._taken[slot], slot))

    def _shared(self, prompt: Sequence[int], adapter: str) -> list[int]:
        return [
            min(common(prompt, tokens), len(prompt) - 1) if adapter == other else 0
            for tokens, other in zip(self.tokens, self._adapters, strict=True)
        ]


def common(first: Sequence[int], second: Sequence[int]) -> int:
    """Return the number of tokens that two sequences have in common from their start."""
    for i, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return i
    return min(len(first), len(second))
