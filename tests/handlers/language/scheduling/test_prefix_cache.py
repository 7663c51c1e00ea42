"""Which slot a prompt takes."""

import pytest

from handlers.language.scheduling.prefix_cache import Placement, PrefixCache, common


def filled(*tokens: list[int], worth_copying: int = 4) -> PrefixCache:
    """A cache whose slots were taken in order, but for the empty ones."""
    cache = PrefixCache(len(tokens), worth_copying)
    for slot, held in enumerate(tokens):
        if held:
            cache.place([0], free=[slot])
            cache.tokens[slot] = list(held)
    return cache


def test_the_first_prompts_take_the_slots_in_order() -> None:
    cache = PrefixCache(3, worth_copying=4)
    placed = [cache.place([i], free=range(i, 3)) for i in range(3)]
    assert placed == [Placement(i, i, 0) for i in range(3)]


def test_a_conversation_goes_on_in_the_slot_that_holds_it() -> None:
    cache = filled([1, 2], [5, 6, 7, 8], [])
    assert cache.place([5, 6, 7, 8, 9], free=range(3)) == Placement(1, 1, 4)
    assert cache.tokens[1] == [5, 6, 7, 8]


def test_what_follows_the_shared_tokens_is_forgotten() -> None:
    cache = filled([5, 6, 7, 1])
    assert cache.place([5, 6, 7, 2], free=[0]) == Placement(0, 0, 3)
    assert cache.tokens == [[5, 6, 7]]


def test_the_last_token_of_a_prompt_is_never_shared() -> None:
    assert filled([5, 6, 7]).place([5, 6], free=[0]) == Placement(0, 0, 1)


def test_the_beginning_of_a_slot_that_is_taken_is_copied() -> None:
    cache = filled([5, 6, 7, 8, 9], [])
    assert cache.place([5, 6, 7, 8, 1], free=[1]) == Placement(1, 0, 4)
    assert cache.tokens == [[5, 6, 7, 8, 9], [5, 6, 7, 8]]


def test_a_short_beginning_is_not_worth_a_copy() -> None:
    cache = filled([5, 6, 7, 8, 9], [5])
    assert cache.place([5, 6, 7, 1], free=[1]) == Placement(1, 1, 1)


def test_a_long_conversation_is_kept_when_another_has_only_its_beginning() -> None:
    cache = filled([5, 6, 7, 8, *range(20)], [])
    assert cache.place([5, 6, 7, 8, 9], free=[0, 1]) == Placement(1, 0, 4)
    assert len(cache.tokens[0]) == 24


def test_the_slot_that_was_not_taken_for_longest_is_given_up_first() -> None:
    cache = PrefixCache(3, worth_copying=4)
    for i in (2, 0, 1):
        cache.place([i], free=[i])
    assert [cache.place([9], free=range(3)).slot for _ in range(3)] == [2, 0, 1]


@pytest.mark.parametrize(
    ("one", "other", "length"),
    [([], [], 0), ([1], [], 0), ([1, 2], [1, 2, 3], 2), ([1, 2, 3], [1, 9, 3], 1), ([2], [1], 0)],
)
def test_common_is_the_length_of_the_shared_beginning(one: list[int], other: list[int], length: int) -> None:
    assert common(one, other) == common(other, one) == length
