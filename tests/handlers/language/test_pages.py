"""Blocks of a cache: what each slot wrote is what it reads, whoever shares its blocks, and none is lost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.language.decoders.pages import Copy, Pages

SLOTS, BLOCKS, SIZE = 4, 12, 3


class Memory:
    """Slots that write numbers which nobody wrote before, and what each should hold."""

    def __init__(self) -> None:
        self.pages = Pages(BLOCKS, SIZE, SLOTS)
        self.blocks = np.zeros((BLOCKS, SIZE), int)
        self.expected: list[list[int]] = [[] for _ in range(SLOTS)]
        self._numbers = iter(range(1, 10**6))

    def write(self, slot: int, count: int) -> None:
        start = len(self.expected[slot])
        free = BLOCKS - self.pages.held(range(SLOTS))
        copies = self.pages.reserve(slot, start, start + count)
        if copies is None:
            assert free < -(-count // SIZE) + 1  # a block of its own may be in the way of nobody else
            return
        for source, target in copies:
            self.blocks[target] = self.blocks[source]
        for position in range(start, start + count):
            number = next(self._numbers)
            self.blocks[self.pages.table(slot)[position // SIZE], position % SIZE] = number
            self.expected[slot].append(number)

    def truncate(self, slot: int, length: int) -> None:
        self.pages.truncate(slot, length)
        del self.expected[slot][length:]

    def share(self, source: int, target: int, length: int) -> None:
        length = min(length, len(self.expected[source]))
        if source != target:
            self.pages.share(source, target, length)
            self.expected[target] = self.expected[source][:length]

    def check(self) -> None:
        for slot, expected in enumerate(self.expected):
            held = self.blocks[self.pages.table(slot)].ravel()[: len(expected)].tolist()
            assert held == expected
            assert len(self.pages.table(slot)) == -(-len(expected) // SIZE)


NUMBER = st.integers(0, 14)
SLOT = st.integers(0, SLOTS - 1)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), SLOT, st.integers(1, 14)),
        st.tuples(st.just("truncate"), SLOT, NUMBER),
        st.tuples(st.just("share"), SLOT, SLOT, NUMBER),
    ),
    max_size=60,
)


@given(STEPS)
def test_each_slot_holds_what_it_wrote_whoever_shares_its_blocks(steps: list[tuple[str, *tuple[int, ...]]]) -> None:
    memory = Memory()
    for name, *numbers in steps:
        getattr(memory, name)(*numbers)
        memory.check()
    for slot in range(SLOTS):
        memory.truncate(slot, 0)
    assert memory.pages.reserve(0, 0, BLOCKS * SIZE) == []  # every block came back


def test_a_block_that_two_slots_share_is_copied_when_one_of_them_writes_behind_its_beginning() -> None:
    pages = Pages(4, 3, 2)
    pages.reserve(0, 0, 5)
    pages.share(0, 1, 4)
    assert pages.table(1) == pages.table(0)
    assert pages.held([0, 1]) == 2
    last = pages.table(0)[1]
    (copy,) = pages.reserve(1, 4, 5) or []
    assert copy == Copy(last, pages.table(1)[1])
    assert pages.table(0)[1] == last != copy.target
    assert pages.reserve(1, 4, 5) == []  # it is its own now


def test_a_block_of_which_nothing_is_kept_is_not_copied() -> None:
    pages = Pages(4, 3, 2)
    pages.reserve(0, 0, 6)
    pages.share(0, 1, 6)
    assert pages.reserve(1, 3, 6) == []
    assert pages.table(1)[0] == pages.table(0)[0]
    assert pages.table(1)[1] != pages.table(0)[1]


def test_too_little_room_changes_nothing() -> None:
    pages = Pages(3, 3, 2)
    pages.reserve(0, 0, 5)
    before = [*pages.table(0)], [*pages.table(1)]
    assert pages.reserve(1, 0, 4) is None
    assert (pages.table(0), pages.table(1)) == before
    assert pages.reserve(1, 0, 3) == []


@pytest.mark.parametrize(("length", "held"), [(0, 0), (1, 1), (3, 1), (4, 2)])
def test_blocks_behind_the_first_tokens_are_given_back(length: int, held: int) -> None:
    pages = Pages(4, 3, 1)
    pages.reserve(0, 0, 12)
    pages.truncate(0, length)
    assert pages.held([0]) == held
