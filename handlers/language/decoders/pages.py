"""Which blocks of a cache hold the tokens of each slot: several slots share a block until one of them writes to it.

After PagedAttention (arXiv:2309.06180): memory follows the tokens that there are, not those that there may be.
"""

from collections.abc import Collection
from typing import NamedTuple


class Copy(NamedTuple):
    """Two blocks: the second one becomes a copy of the first."""

    source: int
    target: int


class Pages:
    """Tables of blocks.

    Args:
        blocks: number of blocks.
        size: tokens of a block.
        slots: number of tables.
    """

    def __init__(self, blocks: int, size: int, slots: int) -> None:
        self.size = size
        self._tables: list[list[int]] = [[] for _ in range(slots)]
        self._uses = [0] * blocks
        self._free = list(range(blocks))[::-1]  # the last is taken first: what was freed last is in memory already

    def table(self, slot: int) -> list[int]:
        """Return the blocks of a slot, in the order of its tokens."""
        return self._tables[slot]

    def held(self, slots: Collection[int]) -> int:
        """Return the number of blocks that these slots hold together; a shared one counts once."""
        return len({block for slot in slots for block in self._tables[slot]})

    def reserve(self, slot: int, start: int, end: int) -> list[Copy] | None:
        """Give a slot blocks of its own for its tokens from ``start`` to ``end``.

        Returns:
            What must be copied before they are written; None if too few blocks are free, and nothing has changed.
        """
        table = self._tables[slot]
        first, count = start // self.size, -(-end // self.size)
        shared = [place for place in range(first, min(count, len(table))) if self._uses[table[place]] > 1]
        if len(shared) + max(0, count - len(table)) > len(self._free):
            return None
        copies = []
        for place in shared:
            block = self._take()
            if place * self.size < start:  # else nothing of it is kept
                copies.append(Copy(table[place], block))
            self._uses[table[place]] -= 1
            table[place] = block
        table += [self._take() for _ in range(count - len(table))]
        return copies

    def truncate(self, slot: int, length: int) -> None:
        """Give back the blocks of a slot behind its first tokens."""
        count = -(-length // self.size)
        self._drop(self._tables[slot][count:])
        del self._tables[slot][count:]

    def share(self, source: int, target: int, length: int) -> None:
        """Let a slot have the first tokens of another one, in the same blocks, instead of its own."""
        blocks = self._tables[source][: -(-length // self.size)]
        for block in blocks:
            self._uses[block] += 1
        self._drop(self._tables[target])
        self._tables[target] = blocks

    def _take(self) -> int:
        block: int = self._free.pop()
        self._uses[block] = 1
        return block

    def _drop(self, blocks: list[int]) -> None:
        for block in reversed(blocks):
            self._uses[block] -= 1
            if not self._uses[block]:
                self._free.append(block)
