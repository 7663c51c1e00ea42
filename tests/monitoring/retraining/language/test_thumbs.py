"""Thumbs tell that a version is worse only beyond the error of both shares."""

import pytest

from monitoring.retraining.language.thumbs import Thumbs, compare_thumbs, count_thumbs
from monitoring.store.records import Label, Labelled
from tests.support.monitoring.conversations import conversation
from tests.support.monitoring.worlds import NOW
from training.statistics.pair import Pair

VERSIONS = Pair("1.0", "1.1")


@pytest.mark.parametrize(
    ("former", "new", "worse"),
    [
        (Thumbs(90, 100), Thumbs(60, 100), True),
        (Thumbs(90, 100), Thumbs(85, 100), False),  # no more than chance
        (Thumbs(60, 100), Thumbs(90, 100), False),
        (Thumbs(100, 100), Thumbs(0, 49), False),  # too few
        (Thumbs(49, 49), Thumbs(0, 100), False),
        (Thumbs(50, 50), Thumbs(0, 50), True),
        (Thumbs(0, 50), Thumbs(0, 50), False),
        (Thumbs(50, 50), Thumbs(50, 50), False),
    ],
)
def test_fewer_thumbs_up_beyond_chance_are_worse(former: Thumbs, new: Thumbs, worse: bool) -> None:
    assert bool(compare_thumbs(Pair(former, new), VERSIONS, 50)) is worse


def test_the_interval_is_newcombes() -> None:
    """The example of Newcombe (1998), table II, (a): 56/70 - 48/80, of which method 10 gives 0.0524 to 0.3339."""
    reason = compare_thumbs(Pair(Thumbs(56, 70), Thumbs(48, 80)), VERSIONS, 50)
    assert reason
    assert "60% of 80 thumbs of 1.1 are up, and 80% of 70 of 1.0" in reason
    assert "at least 5% of all fewer" in reason


def test_a_better_answer_has_a_thumb_and_other_labels_have_none() -> None:
    labels: list[Label] = [
        "up",
        "down",
        {"thumb": "up", "answer": "x"},
        {"thumb": "down", "answer": "x"},
        "sideways",
        1.0,
    ]
    rows = [Labelled(conversation(f"a{i}"), label, NOW) for i, label in enumerate(labels)]
    assert count_thumbs(rows) == Thumbs(2, 4)
