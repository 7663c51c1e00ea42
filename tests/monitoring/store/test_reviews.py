"""What people decide about captured conversations, and which are learned."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

import pytest

from monitoring.store.predictions import Store, open_store
from monitoring.store.records import Feedback, Label, Prediction
from monitoring.store.retention import Retention
from monitoring.store.reviews import Review, Reviews, key_of, name_of
from tests.support.monitoring.conversations import conversation
from tests.support.monitoring.worlds import NOW

LATER = NOW + timedelta(hours=1)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """Three conversations, on both kinds of database."""
    store = open_store(url, Retention(rows=3))
    store.add_predictions([conversation("a"), conversation("b"), conversation("c", reason="length")])
    yield store
    store.close()


def say(store: Store, request_id: str, label: Label) -> None:
    store.add_feedback([Feedback(request_id, 0, label, NOW, "chat")])


def names(reviews: Reviews, review: Review | None = None) -> list[str]:
    return sorted(found.conversation.request_id for found in reviews.conversations("chat", review))


def test_a_conversation_is_new_until_it_is_approved_or_rejected_and_may_be_new_again(store: Store) -> None:
    reviews = Reviews(store.database)
    assert names(reviews, "new") == names(reviews) == ["a", "b", "c"]
    assert reviews.decide("chat", [("a", 0), ("b", 0)], "approved", LATER) == 2
    assert reviews.decide("chat", [("b", 0), ("b", 0)], "rejected", LATER) == 1
    assert reviews.decide("chat", [("b", 0)], "rejected", LATER) == 0
    by_state: Sequence[Review] = ("approved", "rejected", "new")
    assert [names(reviews, state) for state in by_state] == [["a"], ["b"], ["c"]]
    assert reviews.decide("chat", [("b", 0)], "new", LATER) == 1
    assert names(reviews, "new") == ["b", "c"]


def test_all_are_decided_or_none(store: Store) -> None:
    reviews = Reviews(store.database)
    with pytest.raises(KeyError, match="no conversation nobody/0 of chat"):
        reviews.decide("chat", [("a", 0), ("nobody", 0)], "approved", LATER)
    with pytest.raises(KeyError, match="no conversation a/0 of other"):
        reviews.decide("other", [("a", 0)], "approved", LATER)
    assert names(reviews, "approved") == []


def test_a_thumb_up_is_an_approval_only_where_the_owner_says_so(store: Store) -> None:
    for request_id, label in {"a": "up", "b": "down", "c": "up"}.items():
        say(store, request_id, label)
    careful, trusting = Reviews(store.database), Reviews(store.database, thumbs_approve=True)
    assert names(careful, "approved") == []
    assert names(trusting, "approved") == ["a"]  # the answer of c was cut off
    assert names(trusting, "new") == ["b", "c"]
    trusting.decide("chat", [("a", 0)], "rejected", LATER)
    assert names(trusting, "approved") == []


def test_a_better_answer_is_the_one_to_learn(store: Store) -> None:
    say(store, "c", {"thumb": "up", "answer": "It is a fox."})
    say(store, "b", {"thumb": "down", "answer": "A cat."})
    trusting = Reviews(store.database, thumbs_approve=True)
    (approved,) = trusting.conversations("chat", "approved")
    assert approved.messages == [
        {"role": "user", "content": "Who is c?"},
        {"role": "assistant", "content": "It is a fox."},
    ]
    assert approved.decided == NOW


def test_decisions_are_told_apart_by_their_time(store: Store) -> None:
    reviews = Reviews(store.database)
    reviews.decide("chat", [("a", 0)], "approved", NOW)
    reviews.decide("chat", [("b", 0)], "approved", LATER)
    newer = reviews.conversations("chat", "approved", decided_after=NOW)
    assert [found.conversation.request_id for found in newer] == ["b"]


def test_a_review_goes_with_its_conversation(store: Store) -> None:
    reviews = Reviews(store.database)
    reviews.decide("chat", [("a", 0), ("c", 0)], "approved", NOW)
    store.add_predictions([conversation(f"later{i}", hours=i + 1) for i in range(3)])
    store.prune(NOW, bounded=False)
    assert names(reviews) == ["later0", "later1", "later2"]
    store.add_predictions([conversation("a", hours=9)])  # another request under the id of one that is forgotten
    assert "a" in names(reviews, "new")


@pytest.mark.parametrize("key", [("a", 0), ("a", 3), ("trip/7", 0), ("x/y", 12)])
def test_a_name_tells_the_request_and_the_answer(key: tuple[str, int]) -> None:
    assert key_of(name_of(*key)) == key


def test_a_name_without_a_position_is_the_first_answer() -> None:
    assert key_of("a") == key_of("chatcmpl-a") == key_of("resp_a/0") == ("a", 0)
    assert key_of("chatcmpl-") == ("chatcmpl-", 0)


def test_predictions_of_other_models_are_none(store: Store) -> None:
    store.add_predictions([Prediction("z", 0, "flights", "1.0", NOW, {"x": 1.0}, 2.0)])
    assert "z" not in names(Reviews(store.database))


def test_what_is_removed_is_gone_with_its_label_and_its_review(store: Store) -> None:
    reviews = Reviews(store.database)
    say(store, "a", {"thumb": "down", "answer": "A cat."})
    reviews.decide("chat", [("a", 0)], "approved", NOW)
    assert reviews.remove("other", [("a", 0)]) == 0
    assert reviews.remove("chat", [("a", 0), ("a", 0), ("nobody", 0)]) == 1
    assert names(reviews) == ["b", "c"]
    assert store.waiting([("a", 0)]) == []
    store.add_predictions([conversation("a")])
    assert names(reviews, "new") == ["a", "b", "c"]
