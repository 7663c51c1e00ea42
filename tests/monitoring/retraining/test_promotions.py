"""Promoting and rolling back by hand, each written down."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from monitoring.retraining.promotions import PromotionRefused
from tests.support.monitoring.loops import MODEL, Loop, watched_of
from tests.support.serving.stores import add


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    one = Loop(tmp_path)
    yield one
    one.store.close()


def test_a_version_is_promoted_by_hand(loop: Loop) -> None:
    add(loop.models, MODEL, "1.1", "challenger")
    assert loop.promotions.promote(MODEL, "1.1", "console") == "1.0"
    assert loop.champions() == ["1.1"]
    (decision,) = loop.store.journal.decisions()
    assert decision.kind == "promoted"
    assert decision.details == {"from": "1.0", "to": "1.1", "reason": "asked for by hand", "who": "console"}


def test_what_is_served_or_unknown_cannot_be_promoted(loop: Loop) -> None:
    with pytest.raises(PromotionRefused, match=r"doubling 1\.0 is served already"):
        loop.promotions.promote(MODEL, "1.0", "hand")
    with pytest.raises(KeyError, match=r"doubling has no version '7\.0', only 1\.0"):
        loop.promotions.promote(MODEL, "7.0", "hand")
    with pytest.raises(KeyError, match="there is no model 'nobody', only doubling"):
        loop.promotions.promote("nobody", "1.0", "hand")
    assert loop.store.journal.decisions() == []


def test_a_rollback_goes_to_the_former_champion_and_ends_the_jobs_watch(loop: Loop) -> None:
    add(loop.models, MODEL, "0.9", "retired")
    loop.promote()
    assert loop.promotions.rollback(MODEL, "hand") == "1.0"
    assert loop.champions() == ["1.0"]
    job = loop.job()
    assert (job.state, job.progress) == ("rolled_back", "rolled back: asked for by hand")
    assert not watched_of(job).open
    newest = loop.store.journal.decisions()[0]
    assert (newest.kind, newest.details["from"], newest.details["to"]) == ("rolled_back", "1.1", "1.0")


def test_a_rollback_never_goes_to_what_was_itself_rolled_back(loop: Loop) -> None:
    loop.promote()
    loop.promotions.rollback(MODEL, "hand")
    assert loop.state("1.1") == "retired"
    with pytest.raises(PromotionRefused, match=r"doubling 1\.0 has no former champion"):
        loop.promotions.rollback(MODEL, "hand")
    loop.promotions.promote(MODEL, "1.1", "hand")  # somebody thinks better of it
    add(loop.models, MODEL, "1.2", "challenger")
    loop.promotions.promote(MODEL, "1.2", "hand")
    assert loop.promotions.rollback(MODEL, "hand") == "1.1"


def test_without_a_decision_it_is_the_newest_retired_version(loop: Loop) -> None:
    for number, state in (("1.1", "retired"), ("1.2", "retired"), ("1.3", "refused")):
        add(loop.models, MODEL, number, state)  # type: ignore[arg-type]
    assert loop.promotions.rollback(MODEL, "hand") == "1.2"


def test_a_rollback_of_a_model_without_a_champion_is_refused(loop: Loop) -> None:
    add(loop.models, "new", state="challenger")
    with pytest.raises(PromotionRefused, match="new has no champion"):
        loop.promotions.rollback("new", "hand")
    with pytest.raises(KeyError, match="there is no model 'nobody'"):
        loop.promotions.rollback("nobody", "hand")


def test_a_promotion_by_the_command_line_is_written_down_once_and_counted(loop: Loop) -> None:
    add(loop.models, MODEL, "1.1", "challenger")
    loop.models.promote(MODEL, "1.1", "serving promote", "asked for by hand")
    for _ in range(2):
        loop.look()
        loop.restart()
    (decision,) = loop.store.journal.decisions()
    (promotion,) = loop.models.promotions()
    assert decision.kind == "promoted"
    assert decision.time == datetime.fromisoformat(promotion.time)
    assert decision.details == {
        "from": "1.0",
        "to": "1.1",
        "reason": "asked for by hand",
        "who": "serving promote",
        "promoted": promotion.time,
    }
    assert loop.store.journal.decision_counts() == {(MODEL, "promoted"): 1}


def test_a_rollback_goes_back_to_what_a_promotion_by_the_command_line_replaced(loop: Loop) -> None:
    for number in ("1.1", "1.2"):
        add(loop.models, MODEL, number, "challenger")
    loop.models.promote(MODEL, "1.2", "serving promote")
    loop.models.promote(MODEL, "1.1", "serving promote")  # 1.0 is retired too, but is not what 1.1 replaced
    assert loop.promotions.rollback(MODEL, "hand") == "1.2"
    assert [one.kind for one in loop.store.journal.decisions()] == ["rolled_back", "promoted", "promoted"]
