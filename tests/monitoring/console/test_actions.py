"""The buttons, and who may press them."""

from pathlib import Path

import pytest

from tests.support.monitoring.console_worlds import BY_HTMX, ORIGIN, World, busy, registered

ACTIONS = (
    "/console/models/air/retrain",
    "/console/models/air/versions/1.2/promote",
    "/console/models/air/rollback",
    "/console/models/air/versions/1.2/challenge",
    "/console/models/air/try",
    "/console/jobs/1/cancel",
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return registered(tmp_path)


def untouched(world: World) -> bool:
    return (
        world.models.champions()["air"][0] == "1.1"
        and not world.sent
        and not world.store.journal.jobs(states=["queued"])
    )


def test_a_form_of_another_site_can_press_no_button(world: World) -> None:
    rebound = world.client_from("127.0.0.1", "http://rebound.example:8090")
    for path in ACTIONS:
        plain = world.client.post(path, data={"reason": "theirs"})
        assert plain.status_code == 403
        assert "must come from the console&#39;s own page" in plain.text
        for origin in ("http://elsewhere.example", "null", "http://127.0.0.1:8091"):
            assert world.client.post(path, headers=BY_HTMX | {"Origin": origin}).status_code == 403
        assert rebound.post(path, headers=BY_HTMX).status_code == 403
    assert untouched(world)


def test_where_a_token_is_configured_no_button_works_without_it(tmp_path: Path) -> None:
    world = registered(tmp_path, "secret")
    for path in ACTIONS:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            refused = world.client.post(path, headers=BY_HTMX | headers)
            assert refused.status_code == 401
            assert refused.headers["hx-retarget"] == "#message"
            assert "MARLOOP_TOKEN" in refused.text
    assert untouched(world)


def test_with_the_token_the_buttons_work_from_anywhere(tmp_path: Path) -> None:
    world = registered(tmp_path, "secret")
    client = world.client_from("192.0.2.7", "http://monitor:8090")
    done = client.post(
        ACTIONS[1], headers=BY_HTMX | {"Authorization": "Bearer secret", "Origin": "http://monitor:8090"}
    )
    assert done.status_code == 200
    assert world.models.champions()["air"][0] == "1.2"


def test_a_retraining_is_queued_and_its_page_shown(world: World) -> None:
    headers = BY_HTMX | {"Origin": ORIGIN}
    asked = world.client.post("/console/models/air/retrain", data={"reason": "  "}, headers=headers)
    (job,) = world.store.journal.jobs("air")
    assert asked.headers["hx-redirect"] == f"/console/jobs/{job.id}"
    assert (job.trigger, job.reason) == ("hand", "asked for in the console")
    again = world.client.post("/console/models/air/retrain", data={"reason": "x" * 999}, headers=headers)
    assert again.status_code == 409
    assert again.text.startswith(f'<p class="fault">job {job.id} of air is queued: one at a time')
    world.end(job.id)
    world.client.post("/console/models/air/retrain", data={"reason": "x" * 999}, headers=headers)
    assert world.store.journal.jobs("air")[0].reason == "x" * 200


def test_a_challenge_is_queued_and_its_page_shown_without_a_training(tmp_path: Path) -> None:
    world = busy(tmp_path)
    asked = world.client.post("/console/models/air/versions/1.2/challenge", headers=BY_HTMX | {"Origin": ORIGIN})
    assert asked.status_code == 200, asked.text
    (job,) = world.store.journal.jobs("air")
    assert asked.headers["hx-redirect"] == f"/console/jobs/{job.id}"
    assert (job.result.kind, job.result.version) == ("challenge", "1.2")
    page = world.client.get(f"/console/jobs/{job.id}").text
    assert "Challenge by air 1.2, job" in page
    assert "<li>judge</li>" in page
    assert "<li>train</li>" not in page


def test_promote_and_roll_back_tell_what_is_served_and_the_page_to_look_again(world: World) -> None:
    promoted = world.client.post("/console/models/air/versions/1.2/promote", headers=BY_HTMX)
    assert "air 1.2 is champion now." in promoted.text
    assert promoted.headers["hx-trigger"] == "changed"
    assert world.models.champions()["air"][0] == "1.2"
    back = world.client.post("/console/models/air/rollback", headers=BY_HTMX)
    assert "air went back to 1.1" in back.text
    assert world.models.champions()["air"][0] == "1.1"
    assert [one.details["who"] for one in world.store.journal.decisions("air")] == ["console", "console"]


def test_what_cannot_be_done_is_a_sentence(world: World) -> None:
    for path, status, sentence in (
        ("models/air/versions/1.1/promote", 409, "air 1.1 is served already"),
        ("models/air/versions/9.9/promote", 404, "air has no version"),
        ("models/none/rollback", 404, "there is no model"),
        ("models/mood/rollback", 409, "has no former champion"),
        ("models/none/retrain", 409, "has no champion"),
        ("models/none/try", 404, "There is no archive of"),
        ("models/air/versions/1.1/challenge", 409, "is the champion itself"),
        ("models/air/versions/9.9/challenge", 404, "air has no version"),
        ("jobs/99/cancel", 404, "there is no job 99"),
    ):
        refused = world.client.post(f"/console/{path}", headers=BY_HTMX)
        assert refused.status_code == status
        assert sentence in refused.text
        assert refused.headers["hx-retarget"] == "#message"


def test_a_torchserve_that_refuses_a_version_is_a_sentence(world: World) -> None:
    world.rollout.refuses = True
    refused = world.client.post("/console/models/air/versions/1.2/promote", headers=BY_HTMX)
    assert refused.status_code == 503
    assert "broken archive" in refused.text


def test_a_job_is_cancelled(world: World) -> None:
    job = world.retraining.request("air", "hand", "a reason")
    assert (
        f"Job {job.id} is being cancelled." in world.client.post(f"/console/jobs/{job.id}/cancel", headers=BY_HTMX).text
    )
    assert world.store.journal.job(job.id).result.cancel
