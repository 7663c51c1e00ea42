"""What an earlier place foresees, and when it is trusted."""

import numpy as np
import pytest

from handlers.language.scheduling.prompt_lookup import NGRAM, PromptLookup

ONCE = list(range(100, 140))


def repeated(count: int) -> PromptLookup:
    """A text that has begun to repeat so many tokens of ``ONCE``."""
    return PromptLookup([*ONCE, 1, 2, *ONCE[:count]])


def test_a_text_that_repeats_nothing_has_no_draft() -> None:
    lookup = PromptLookup(ONCE)
    for token in range(200, 300):
        assert lookup.draft(3) == []
        lookup.add(token)


def test_what_followed_the_last_tokens_before_is_drafted() -> None:
    assert repeated(NGRAM - 1).draft(3) == []
    assert repeated(NGRAM).draft(3) == ONCE[NGRAM : NGRAM + 3]
    assert repeated(NGRAM + 5).draft(2) == ONCE[NGRAM + 5 : NGRAM + 7]
    assert repeated(NGRAM).draft(0) == []


def test_of_several_places_the_latest_is_followed() -> None:
    first, second = [*ONCE[:NGRAM], 1, 1], [*ONCE[:NGRAM], 2, 2]
    assert PromptLookup([*first, *second, 3, *ONCE[:NGRAM]]).draft(2) == [2, 2]


def test_a_token_that_was_not_foreseen_ends_the_draft() -> None:
    lookup = repeated(9)
    lookup.add(5)
    assert lookup.draft(3) == []


def test_what_goes_round_is_drafted_beyond_its_last_token() -> None:
    assert PromptLookup([1, 2, 3] * 5).draft(7) == [1, 2, 3, 1, 2, 3, 1]


def test_after_rejected_drafts_a_place_must_have_foreseen_tokens_twice_as_many_each_time() -> None:
    for rejected, foreseen in ((1, 1), (2, 2), (3, 4), (4, 8)):
        lookup = repeated(NGRAM)
        for _ in range(rejected):
            lookup.learn(3, 0)
        for token in ONCE[NGRAM : NGRAM + foreseen]:
            assert lookup.draft(3) == []
            lookup.add(token)
        assert lookup.draft(1) == [ONCE[NGRAM + foreseen]]


def test_after_accepted_drafts_a_place_is_trusted_as_at_first() -> None:
    lookup = repeated(NGRAM)
    for _ in range(3):
        lookup.learn(3, 0)
    lookup.learn(3, 2)  # a part changes nothing
    for _ in range(3):
        assert lookup.draft(1) == []
        lookup.learn(3, 3)
    assert lookup.draft(1)


def test_a_prediction_is_drafted_from_the_first_token_on_and_later_where_it_comes_again() -> None:
    lookup = PromptLookup(ONCE, prediction=list(range(30, 50)))
    assert lookup.draft(3) == [30, 31, 32]
    for token in (7, 8, *range(33, 33 + NGRAM)):
        lookup.add(token)
    assert lookup.draft(2) == [33 + NGRAM, 34 + NGRAM]


@pytest.mark.parametrize("seed", range(20))
def test_every_draft_is_a_place_that_has_followed_the_last_tokens_before(seed: int) -> None:
    tokens = np.random.default_rng(seed).integers(0, 3, 120).tolist()
    lookup = PromptLookup(tokens[:10])
    drafts = 0
    for i, token in enumerate(tokens[10:], 10):
        if draft := lookup.draft(1):
            last = [*tokens[i - NGRAM : i], *draft]
            assert any(tokens[k : k + NGRAM + 1] == last for k in range(i - NGRAM))
            drafts += 1
        lookup.add(token)
    assert drafts
