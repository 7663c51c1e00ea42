"""Challenges: who may ask, what decides, that a kill loses nothing, and what the loop's other rules make of them."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from handlers.contract import ModelContract, TensorSpec
from monitoring.retraining.challenge import ChallengeRefused
from monitoring.retraining.queue import RetrainRefused
from tests.support.documents import replaced
from tests.support.monitoring.loops import MODEL, START, Killed, Loop, shadowed_of, verdict_of, watched_of
from tests.support.serving.stores import add, add_contract, contract_of_doubling

MANY = [-i / 20 for i in range(1, 401)]  # hours, all within a day


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    loop = Loop(tmp_path)
    add(loop.models, MODEL, "1.1", "challenger")
    yield loop
    loop.store.close()


def challenge(loop: Loop, version: str = "1.1") -> int:
    return loop.challenges.request(MODEL, version, "a test").id


def refusal(loop: Loop, version: str = "1.1", model: str = MODEL) -> str:
    with pytest.raises(ChallengeRefused) as caught:
        loop.challenges.request(model, version, "a test")
    return str(caught.value)


def forget_labels(loop: Loop) -> None:
    """As if no labelled row were young enough."""
    loop.now += timedelta(days=40)


def test_a_registered_version_is_judged_on_labelled_rows_shadowed_promoted_and_watched(loop: Loop) -> None:
    loop.label(MANY)
    id = challenge(loop)
    assert (loop.job(id).state, loop.job(id).trigger, loop.job(id).result.kind) == ("queued", "hand", "challenge")
    loop.look()
    assert loop.job(id).result.stage == "shadow"  # the same look begins and judges it
    loop.look(2)
    job = loop.job(id)
    assert (job.state, job.progress) == ("promoted", "promoted: its RMSE is lower")
    assert loop.versions.judged == [("1.0", "1.1", 401)]
    assert not loop.versions.decided
    assert loop.trainings.started == []
    assert (watched_of(job).former, watched_of(job).open) == ("1.0", True)
    assert loop.rollout.serving == {MODEL: ["1.1"]}
    assert loop.store.journal.decisions(MODEL)[0].details["who"] == "judge"
    assert loop.kinds() == ["requested", "promoted"]


def test_without_labels_the_answers_to_recent_requests_decide(loop: Loop) -> None:
    forget_labels(loop)
    id = challenge(loop)
    loop.look(4)
    job = loop.job(id)
    assert job.state == "promoted"
    assert verdict_of(job).rows == 0
    assert loop.versions.decided
    assert shadowed_of(job).requests == 20
    assert job.progress == "promoted: a client can go on: as good"
    assert loop.store.journal.decisions(MODEL)[0].details["who"] == "shadow"
    assert watched_of(job).open


@pytest.mark.parametrize("labelled", [True, False])
def test_a_worse_version_is_refused_and_marked(loop: Loop, labelled: bool) -> None:
    loop.label(MANY)
    if not labelled:
        forget_labels(loop)
    loop.versions.better = False
    id = challenge(loop)
    loop.look(3)
    assert loop.job(id).state == "refused"
    assert (loop.state("1.1"), loop.champions()) == ("refused", ["1.0"])
    assert loop.kinds() == ["requested", "refused"]


def test_a_version_that_answers_otherwise_is_refused_by_the_shadow_and_no_longer_served_beside(loop: Loop) -> None:
    forget_labels(loop)
    loop.versions.alike = False
    id = challenge(loop)
    loop.look(4)
    assert loop.job(id).progress == "refused: 3 of 20 requests failed"
    assert loop.rollout.serving == {MODEL: ["1.0"]}


def test_a_refused_and_a_retired_version_may_challenge_again(loop: Loop) -> None:
    loop.label(MANY)
    loop.versions.better = False
    challenge(loop)
    loop.look(3)
    loop.versions.better = True
    challenge(loop)
    loop.look(4)
    assert loop.champions() == ["1.1"]
    loop.promotions.rollback(MODEL, "hand")
    challenge(loop)
    loop.look(4)
    assert (loop.champions(), loop.job(3).state) == (["1.1"], "promoted")


def test_few_labels_are_too_few_and_say_the_way_out(loop: Loop) -> None:
    assert refusal(loop) == (
        "doubling has 20 labelled rows of the last 28 days that neither 1.0 nor 1.1 is known to have learned, and the "
        "judge needs 200: send more feedback; `marloop promote doubling 1.1` promotes it unjudged"
    )
    assert loop.kinds() == ["refused_request"]
    assert loop.store.journal.jobs() == []


def test_of_an_archive_with_code_the_answers_decide_though_there_are_labels(loop: Loop) -> None:
    loop.label(MANY)
    loop.versions.code = "doubling 1.1 holds hooks.py, code that the monitor does not run"
    challenge(loop)
    loop.look(4)
    assert (loop.job().state, loop.versions.judged, loop.versions.decided) == ("promoted", [("1.0", "1.1", 0)], True)
    loop.versions.sendable = (3, 20)
    assert refusal(loop, "1.0").startswith(f"{loop.versions.code}, and only 3 captured requests")


@pytest.mark.parametrize(
    ("sendable", "why"),
    [
        ((0, 20), "has no labelled rows, and only 0 captured requests of 20 can be sent again"),
        ((19, 20), "only 19 captured requests of 20 can be sent again"),
        ((0, 0), "MARLOOP_SHADOW_REQUESTS is 0"),
    ],
)
def test_where_nothing_can_be_compared_it_is_refused_with_the_way_out(
    loop: Loop, sendable: tuple[int, int], why: str
) -> None:
    forget_labels(loop)
    loop.versions.sendable = sendable
    said = refusal(loop)
    assert why in said
    assert said.endswith("`marloop promote doubling 1.1` promotes it unjudged")


def test_there_must_be_a_champion_and_another_version(loop: Loop) -> None:
    with pytest.raises(KeyError, match="there is no model 'none', only doubling"):
        loop.challenges.request("none", "1.0", "a test")
    with pytest.raises(KeyError, match=r"doubling has no version '7\.0', only 1\.0, 1\.1"):
        challenge(loop, "7.0")
    assert refusal(loop, "1.0") == "doubling 1.0 is the champion itself: name another version"
    add(loop.models, "new", state="challenger")
    assert refusal(loop, "1.0", "new") == "new has no champion to challenge: `marloop promote new 1.0` makes one"


def test_there_is_one_job_a_model_at_a_time(loop: Loop) -> None:
    loop.label(MANY)
    id = loop.request()
    assert refusal(loop) == f"job {id} of doubling is queued: one at a time"
    loop.retraining.cancel(id)
    loop.look()
    other = challenge(loop)
    with pytest.raises(RetrainRefused, match=f"job {other} of doubling is queued: one at a time"):
        loop.request()


def test_an_archive_that_cannot_be_read_is_refused(loop: Loop) -> None:
    loop.models.verify(loop.models.models()[MODEL]["1.1"]).unlink()
    assert "is not there" in refusal(loop)


@pytest.mark.parametrize(
    ("task", "why"),
    [("opaque", "has a handler from elsewhere"), ("generation", "is a language model")],
)
def test_models_whose_answers_are_not_captured_are_promoted_by_hand(loop: Loop, task: Any, why: str) -> None:
    for number, state in (("1.0", "champion"), ("1.1", "challenger")):
        contract = msgspec.structs.replace(contract_of_doubling("told", number), task=task)
        add_contract(loop.models, contract, state)  # type: ignore[arg-type]
    said = refusal(loop, "1.1", "told")
    assert why in said
    assert said.endswith("`marloop promote told 1.1` promotes it unjudged")


def of_pictures(version: str) -> ModelContract:
    return msgspec.structs.replace(
        contract_of_doubling("pictures", version), inputs=(TensorSpec("image", "UINT8", (-1, 28, 28)),)
    )


def test_pictures_cannot_be_sent_again_which_is_said(loop: Loop) -> None:
    add_contract(loop.models, of_pictures("1.0"))
    add_contract(loop.models, of_pictures("1.1"), "challenger")
    loop.versions.sendable = (0, 20)
    said = refusal(loop, "1.1", "pictures")
    assert said.startswith("pictures has no labelled rows, and of image only the mean is captured")


@pytest.mark.parametrize(
    ("lineage", "rows"),
    [
        ({}, 401),
        ({"until": (START - timedelta(hours=15)).isoformat()}, 300),
        (
            {
                "until": START.isoformat(),
                "feedback": {
                    "rows": 9,
                    "held_out": 3,
                    "since": (START - timedelta(days=2)).isoformat(),
                    "until": START.isoformat(),
                    "held_out_since": (START - timedelta(hours=16)).isoformat(),
                    "sha256": "",
                    "refused": 0,
                },
            },
            321,
        ),
    ],
)
@pytest.mark.parametrize("learned", ["1.0", "1.1"])
def test_rows_that_a_version_is_known_to_have_learned_judge_nothing(
    loop: Loop, learned: str, lineage: dict[str, Any], rows: int
) -> None:
    contract = replaced(contract_of_doubling(version=learned), lineage=lineage)
    add_contract(loop.models, contract, "champion" if learned == "1.0" else "challenger")
    loop.label(MANY)
    challenge(loop)
    loop.look()
    assert loop.versions.judged == [("1.0", "1.1", rows)]


@pytest.mark.parametrize("looks", range(4))
def test_a_monitor_that_is_killed_between_two_stages_goes_on_where_it_was(loop: Loop, looks: int) -> None:
    loop.label(MANY)
    challenge(loop)
    for number in range(5):
        if number == looks:
            loop.restart()
        loop.look()
    assert loop.job().state == "promoted"
    assert len(loop.versions.judged) == 1
    assert loop.kinds() == ["requested", "promoted"]


def test_a_monitor_that_is_killed_in_the_shadow_sends_the_requests_again(loop: Loop) -> None:
    def kill() -> None:
        loop.versions.shadowing = lambda: None
        raise Killed

    forget_labels(loop)
    loop.versions.shadowing = kill
    challenge(loop)
    with pytest.raises(Killed):
        loop.look(4)
    loop.restart()
    loop.look(3)
    assert loop.job().state == "promoted"
    assert loop.versions.decided


@pytest.mark.parametrize("looks", range(2))
def test_it_can_be_cancelled_until_it_is_promoted(loop: Loop, looks: int) -> None:
    loop.label(MANY)
    id = challenge(loop)
    loop.look(looks)
    loop.retraining.cancel(id)
    loop.look()
    assert loop.job(id).state == "cancelled"
    assert (loop.state("1.1"), loop.champions()) == ("challenger", ["1.0"])


def test_a_version_that_is_promoted_by_hand_meanwhile_is_judged_against(loop: Loop) -> None:
    loop.label(MANY)
    challenge(loop)
    loop.look()
    assert loop.job().result.stage == "shadow"
    add(loop.models, MODEL, "1.2", "challenger")
    loop.promotions.promote(MODEL, "1.2", "hand")
    loop.look(4)
    assert loop.versions.judged == [("1.0", "1.1", 401), ("1.2", "1.1", 401)]
    assert watched_of(loop.job()).former == "1.2"


def test_what_it_was_to_be_judged_on_may_be_gone_which_fails_it_and_refuses_no_version(loop: Loop) -> None:
    loop.label(MANY)
    id = challenge(loop)
    forget_labels(loop)
    loop.versions.sendable = (0, 20)
    loop.look(2)
    assert loop.job(id).state == "failed"
    assert "only 0 captured requests" in loop.job(id).result.error
    assert loop.state("1.1") == "challenger"


def test_no_cooldown_holds_a_challenge_back_and_a_refused_one_holds_no_retraining_back(loop: Loop) -> None:
    loop.label(MANY)
    loop.versions.better = False
    loop.promote("1.2")
    assert "none before" in str(pytest.raises(RetrainRefused, loop.retraining.request, MODEL, "alert", "it errs").value)
    loop.now += timedelta(hours=23)
    challenge(loop)
    loop.look(3)
    assert loop.job(2).state == "refused"
    loop.now += timedelta(hours=1)
    loop.retraining.request(MODEL, "alert", "it errs")


def test_after_a_challenge_that_promoted_automatic_retrainings_wait(loop: Loop) -> None:
    loop.label(MANY)
    challenge(loop)
    loop.look(4)
    assert loop.champions() == ["1.1"]
    assert "none before" in str(pytest.raises(RetrainRefused, loop.retraining.request, MODEL, "alert", "it errs").value)


def test_a_challenge_does_not_put_the_schedule_off(loop: Loop) -> None:
    loop.policy = msgspec.structs.replace(loop.policy, every_hours=10, cooldown_hours=0)
    loop.restart()
    loop.label(MANY)
    loop.versions.better = False
    challenge(loop)
    assert loop.retraining.request_due() == []
    loop.look(2)
    assert loop.job(2).trigger == "schedule"
