"""What the pages say, to whoever reads them without a browser."""

import re
from pathlib import Path

import msgspec
import pytest
import sqlalchemy

from handlers.contract.pictures import Picture
from monitoring.console.form import fields
from monitoring.console.pages import duration, listed, moment, number, percent
from monitoring.console.route import POLICY
from monitoring.retraining.result import Check, JobResult, Shadowed, Verdict, Watched
from monitoring.store import tables
from tests.support.monitoring.console_worlds import BY_HTMX, World, busy, clothes, flights, registered, texts
from tests.support.monitoring.drifting import NOW, predictions, rows
from tests.support.serving.stores import alter
from tests.support.training.pages import Element, Page

HOSTILE = '<img src=x onerror="alert(1)">'


@pytest.fixture
def world(tmp_path: Path) -> World:
    return registered(tmp_path)


@pytest.fixture
def observed(tmp_path: Path) -> World:
    return busy(tmp_path)


def page(world: World, path: str, status: int = 200) -> Page:
    response = world.client.get(path)
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("text/html")
    return Page(response.text)


def row(page: Page, begins: str) -> str:
    """The words of the only row that begins so."""
    (found,) = [one for one in map(Element.words, page.all("tr")) if one.startswith(begins)]
    return found


def with_job(world: World) -> int:
    job = world.retraining.request("air", "hand", "a reason")
    world.run(job.id, "fitting 1", "fitting 2")
    return job.id


def test_the_first_page_has_training_and_live_service_side_by_side(observed: World) -> None:
    id = with_job(observed)
    air = row(page(observed, "/"), "air")
    assert "regression 1.1" in air
    assert "rmse minutes 1.01 0.99 to 1.03 8,000 rows 1.13 1.083 to 1.172 1,000 rows" in air
    assert "features drift predictions drift errors drift" in air
    assert "1.2 challenger 1.1 champion 1.0 retired" in air
    assert air.endswith(f"{id} running")


def test_before_the_first_look_and_without_models_the_first_page_says_so(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert "There is no model yet" in page(world, "/").root.words()
    world.add(flights())
    assert "not looked at yet" in row(page(world, "/"), "air")


def test_the_page_of_a_model_has_its_versions_quality_jobs_and_decisions(observed: World) -> None:
    id = with_job(observed)
    found = page(observed, "/console/models/air")
    assert "1.01 0.99 to 1.03 8,000 rows 1.13 1.083 to 1.172 1,000 rows Roll back" in row(found, "1.1 champion")
    assert row(found, "1.2 challenger").endswith("– Promote Challenge")
    quality = found.section("quality").words()
    assert "1.1 1.13 1.083 to 1.172 was 1.01" in quality
    assert "60 min 19 in 20 within 60 min" in quality
    jobs = found.section("jobs").words()
    assert f"{id} running fitting 2 hand a reason" in jobs
    assert f"requested job {id}, trigger hand, reason a reason" in jobs


def test_drift_is_drawn_once_for_each_look(observed: World) -> None:
    first = observed.client.get("/console/models/air/drift").text
    found = Page(first)
    assert [one.words().split() for one in found.all("h3")] == [
        ["distance", "drift"],
        ["carrier", "as", "usual"],
        ["prediction", "drift"],
        ["error", "drift"],
    ]
    assert len(found.all("svg")) == 4
    observed.store.add_predictions(predictions(rows(flights("1.1"), 1000, seed=3)))
    assert observed.client.get("/console/models/air/drift").text == first
    observed.live.run()
    assert observed.client.get("/console/models/air/drift").text != first


def test_a_job_shows_its_verdict_its_shadow_and_its_log(world: World) -> None:
    id = with_job(world)
    checks = [
        {"name": "gain", "passed": True, "detail": "by 20 %"},
        {"name": "slices", "passed": False, "detail": "UA"},
    ]
    verdict = {"promote": False, "reason": "a slice is worse", "checks": checks, "metric": "rmse"}
    verdict |= {"champion": 12.5, "challenger": 10.0, "gain_low": 0.1, "gain_high": 0.3, "rows": 2211}
    shadow = {"requests": 200, "agreement": 0.975, "passed": True, "reason": "as good"}
    world.end(id, state="refused", result={"stage": "judge", "verdict": verdict, "shadow": shadow})
    found = page(world, f"/console/jobs/{id}")
    words = found.root.words()
    assert "a slice is worse refused" in words  # the badge is a child
    assert "rmse on 2,211 held-out rows: champion 12.5, challenger 10; gain +10.0 % to +30.0 %" in words
    assert row(found, "slices") == "slices no UA"
    assert row(found, "agreement") == "agreement 0.975"
    assert "fitting 1 fitting 2" in found.all("pre")[0].words()
    assert not [one for one in found.every() if "hx-trigger" in one.attributes]  # it has ended


@pytest.mark.parametrize("result", [{}, {"verdict": None}, {"verdict": {}, "shadow": {}, "watch": {"open": True}}])
def test_a_job_of_which_little_is_known_is_shown(world: World, result: object) -> None:
    id = with_job(world)
    world.end(id, state="failed", result=result)
    page(world, f"/console/jobs/{id}")


def test_a_running_job_tells_what_is_new_until_it_ends(world: World) -> None:
    id = with_job(world)
    (tail,) = [one for one in page(world, f"/console/jobs/{id}").all("p") if one.attributes.get("id") == "tail"]
    assert tail.attributes["hx-trigger"] == "every 1s"
    following = tail.attributes["hx-get"] or ""
    assert world.client.get(following).status_code == 204

    world.run(id, "fitting 3")
    new = Page(world.client.get(following).text)
    by_id = {one.attributes.get("id"): one for one in new.every()}
    assert "fitting 3" in by_id["job"].words()
    (log,) = [one for one in new.every() if one.attributes.get("hx-swap-oob") == "beforeend:#log"]
    assert log.text.strip() == "fitting 3"

    world.end(id)
    last = Page(world.client.get(by_id["tail"].attributes["hx-get"] or "").text)
    assert not [one for one in last.every() if "hx-get" in one.attributes]
    assert "promoted" in last.root.words()


def test_names_reasons_and_logs_are_text_whatever_they_hold(tmp_path: Path) -> None:
    world = World(tmp_path)
    contract = msgspec.structs.replace(flights(), name=HOSTILE)
    world.add(contract)
    world.live.run()
    job = world.store.journal.create_job(HOSTILE, "hand", HOSTILE, NOW)
    world.run(job.id, HOSTILE)
    world.store.journal.record(HOSTILE, HOSTILE, {HOSTILE: [HOSTILE]}, NOW)
    verdict = Verdict(False, HOSTILE, (Check(HOSTILE, False, HOSTILE),), HOSTILE, 1.0, 1.0, 0.0, 0.0, 9)
    shadow, watch = Shadowed(0, reason=HOSTILE), Watched(former=HOSTILE, reason=HOSTILE)
    world.store.journal.extend_job(job.id, JobResult(error=HOSTILE, verdict=verdict, shadow=shadow, watch=watch))
    name = "%3Cimg%20src%3Dx%20onerror%3D%22alert%281%29%22%3E"
    paths = ["/", f"/console/models/{name}", f"/console/jobs/{job.id}", f"/console/jobs/{job.id}/live"]
    for path in [*paths, "/console/models/%3Cimg%20src=x%3E/", f"/console/models/{name}/drift"]:
        text = world.client.get(path).text
        assert not re.search(r"<img src=x", text), path
    for path in paths[:3]:
        assert HOSTILE in page(world, path).root.words()
    assert f"/console/models/{name}" in {one.attributes.get("href") for one in page(world, "/").all("a")}


@pytest.mark.parametrize(
    "path", ["/console/models/none", "/console/models/none/drift", "/console/jobs/99", "/console/jobs/99/live"]
)
def test_what_is_not_there_is_a_404_and_a_sentence(world: World, path: str) -> None:
    assert "There is no " in page(world, path, 404).root.words()
    part = world.client.get(path, headers=BY_HTMX)
    assert part.status_code == 404
    assert part.headers["hx-retarget"] == "#message"
    assert part.text.startswith('<p class="fault">There is no ')


def test_a_number_of_a_job_that_is_none_is_a_sentence(world: World) -> None:
    assert "id: Input should be a valid integer" in page(world, "/console/jobs/first", 422).root.words()


@pytest.mark.parametrize("gone", [True, False])
def test_a_model_whose_archive_is_gone_or_altered_does_not_break_the_pages(tmp_path: Path, gone: bool) -> None:
    world = World(tmp_path)
    archive = world.add(flights())
    world.add(texts(), evaluation={})
    archive.unlink() if gone else alter(archive)
    world.live.run()
    assert "no archive can be read" in row(page(world, "/"), "air")
    found = page(world, "/console/models/air")
    assert "1.01" in row(found, "1.0 champion")  # the registry knows what it was worth
    assert "No archive of air can be read" in found.section("try").words()
    assert "There is no archive of 'air'" in page(world, "/console/models/air/drift", 404).root.words()
    assert "no archive can be read" not in row(page(world, "/"), "mood")


def test_a_damaged_registry_and_a_store_that_is_away_are_told_in_a_sentence(world: World) -> None:
    assert isinstance(world.store.database.engine, sqlalchemy.Engine)
    tables.jobs.drop(world.store.database.engine)
    assert "The store does not answer; the monitor's log says why, as" in page(world, "/", 503).root.words()
    world.models.path.write_text("{")
    assert "The model store is damaged" in page(world, "/console/models/air", 500).root.words()


def test_pages_let_only_their_own_scripts_run_and_load_nothing_from_elsewhere(world: World) -> None:
    id = with_job(world)
    for path in ("/", "/console/models/air", "/console/models/clothes", f"/console/jobs/{id}", "/console/models/none"):
        response = world.client.get(path)
        assert response.headers["content-security-policy"] == POLICY
        assert response.headers["x-content-type-options"] == "nosniff"
        for one in Page(response.text).every():
            assert not [name for name in one.attributes if name.startswith("on") or name.startswith("hx-on")]
            assert one.tag != "style"
            if one.tag == "script":
                assert not one.text
            for name in ("href", "src", "hx-get", "hx-post"):
                address = one.attributes.get(name)
                assert address is None or re.match(r"/(?!/)|#|data:", address), address


def test_what_pages_load_is_kept_by_the_browser_until_it_changes(world: World) -> None:
    loaded = [
        one.attributes[name] or ""
        for one in page(world, "/").every()
        for name in ("href", "src")
        if (one.attributes.get(name) or "").startswith("/console/static/")
    ]
    assert len(loaded) == 4
    for address in loaded:
        response = world.client.get(address)
        assert response.status_code == 200
        assert "immutable" in response.headers["cache-control"]
    assert world.client.get("/console/static/..%2Fpages.py").status_code == 404
    assert world.client.get("/console/static/pages.py").status_code == 404


def test_the_token_is_asked_for_where_one_is_configured(tmp_path: Path) -> None:
    def asked(world: World) -> bool:
        return "token" in {one.attributes.get("id") for one in page(world, "/").every()}

    assert asked(World(tmp_path / "a", "secret"))
    assert not asked(World(tmp_path / "b"))


def test_every_field_of_the_form_has_a_label_and_says_what_it_takes(world: World) -> None:
    found = page(world, "/console/models/mood").section("try")
    labels = {one.attributes["for"]: one.words() for one in found.all("label")}
    inputs = {one.attributes["id"]: one for tag in ("input", "select", "textarea") for one in found.all(tag)}
    assert labels.keys() == inputs.keys() == {f"input-{name}" for name in ("text", "polite", "weights", "count")}
    assert inputs["input-text"].text.strip() == "a < b"
    assert inputs["input-weights"].text.strip() == "[1.0,2.0]"
    count = inputs["input-count"].attributes
    assert (count["type"], count["value"], count["min"], count["max"], count["step"]) == (
        "number",
        "3",
        "0.0",
        "9.0",
        "1",
    )
    assert "integer from 0 to 9" in found.words()

    air = page(world, "/console/models/air").section("try")
    assert "distance, miles" in air.words()
    options = air.all("option")
    assert [one.text for one in options] == ["AA", "B6", "UA"]
    assert [one.text for one in options if "selected" in one.attributes] == ["B6"]

    pictured = page(world, "/console/models/clothes").section("try")
    assert [one.attributes["type"] for one in pictured.all("input")] == ["file"]
    assert (pictured.all("img")[0].attributes["src"] or "").startswith("data:image/png;base64,")
    assert clothes().example.request.keys() == {"inputs"}


def test_the_form_says_what_becomes_of_a_picture() -> None:
    (spec,) = clothes().inputs
    declared = msgspec.structs.replace(spec, datatype="FP32", picture=Picture("shortest", 8), background="white")
    (field,) = fields(msgspec.structs.replace(clothes(), inputs=(declared,)))
    assert (field.kind, field.value[:14]) == ("picture", "data:image/png")
    assert field.about == (
        "a picture, its shortest edge made 8 (bilinear), of which the middle 6 x 4 is taken, on white; "
        "PNG, JPEG, WebP or GIF"
    )
    (plain,) = fields(clothes())
    assert plain.about == "a PNG or JPEG file; 6×4 pixels are looked at"


def test_figures_and_times_are_written_for_people() -> None:
    assert [number(one) for one in (8000, 12345.6, 1.23456, 0.000125, float("nan"), None, True)] == [
        "8,000", "12,346", "1.235", "0.000125", "–", "–", "–",
    ]  # fmt: skip
    assert [percent(one) for one in (0.213, -0.05, None)] == ["+21.3 %", "-5.0 %", "–"]
    assert [duration(one) for one in (0.4, 119, 120, 7200, 200_000)] == ["0 s", "119 s", "2 min", "2 h", "2 d"]
    assert moment("2013-02-17T12:00:00+00:00") == moment(NOW)
    assert ">2013-02-17 12:00<" in moment(NOW)
    assert moment("<b>") == "&lt;b&gt;"
    assert (
        listed({"from": "1.0", "job": 3, "gain": 0.5, "more": {"a": None}})
        == 'from 1.0, job 3, gain 0.5, more {"a":null}'
    )


def test_a_damaged_entry_is_told_on_the_first_page_and_the_other_models_are_shown(observed: World) -> None:
    models = observed.models
    text = models.path.read_text()
    models.path.write_text(text.replace('"models": {', '"models": {"doubling": {"1.0": {"state": "champion"}}, ', 1))
    first = page(observed, "/")
    (told,) = [one for one in map(Element.words, first.all("p")) if "doubling 1.0 is left out:" in one]
    assert "missing required field `archive`" in told
    assert "1.2 challenger 1.1 champion 1.0 retired" in row(first, "air")
    page(observed, "/console/models/air")
