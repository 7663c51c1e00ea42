"""The charts of a model's traffic: curves with gaps, their figures in words and in a table, and what is amiss."""

from pathlib import Path

import pytest

from monitoring.console.route import POLICY
from monitoring.console.traffic import Line
from monitoring.live.traffic import STEP, WINDOW
from tests.support.monitoring.console_worlds import World, registered
from tests.support.training.pages import Page

PATH = "/console/models/air/traffic"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return registered(tmp_path)


def page(world: World) -> Page:
    response = world.client.get(PATH)
    assert response.status_code == 200, response.text
    assert response.headers["content-security-policy"] == POLICY
    return Page(response.text)


def busy(world: World) -> None:
    """Two looks: in 5 s air answered 20 requests within 50 ms, and refused 5."""
    world.count(STEP, air={"200": 0, "404": 0, "0.05": 0, "+Inf": 0})
    world.count(STEP, air={"200": 20, "404": 5, "0.05": 25, "+Inf": 25})


def test_each_curve_stands_in_words_and_figures_beside_the_picture(world: World) -> None:
    busy(world)
    found = page(world)
    assert [heading.words() for heading in found.all("h3")] == [
        "Requests a second",
        "Errors a second",
        "Milliseconds in the worker",
    ]
    rows = [row.words() for row in found.all("tr")]
    assert {"all 5 5", "4xx 1 1", "5xx 0 0", "p50 25 25", "p95 47.5 47.5", "p99 49.5 49.5"} <= {*rows}
    pictures = [svg.attributes for svg in found.all("svg") if svg.attributes.get("role") == "img"]
    assert [picture["aria-label"] for picture in pictures] == [
        "Requests a second, the last 15 minutes: all 5 now, 5 at most",
        "Errors a second, the last 15 minutes: 4xx 1 now, 1 at most; 5xx 0 now, 0 at most",
        "Milliseconds in the worker, the last 15 minutes: p50 25 now, 25 at most; p95 47.5 now, 47.5 at most; "
        "p99 49.5 now, 49.5 at most",
    ]


def test_before_anything_is_counted_the_page_says_so(world: World) -> None:
    assert "No request has been counted yet" in page(world).root.words()
    assert page(world).all("svg") == []


def test_an_exporter_that_is_away_is_told_and_leaves_no_figure_of_now(world: World) -> None:
    busy(world)
    world.count(STEP)
    words = page(world).root.words()
    assert "An exporter does not tell what was counted:" in words
    assert "it answered 503. The charts miss it until it does." in words
    assert "all – 5" in words


def test_a_model_that_is_not_registered_has_no_charts(world: World) -> None:
    assert world.client.get("/console/models/none/traffic").status_code == 404


def test_a_curve_is_broken_where_nothing_is_known() -> None:
    line = Line("all", [(60.0, 1.0), (55.0, 2.0), (50.0, None), (45.0, 3.0), (20.0, 4.0), (15.0, 5.0)])
    assert list(line.pieces()) == [[(60.0, 1.0), (55.0, 2.0)], [(45.0, 3.0)], [(20.0, 4.0), (15.0, 5.0)]]
    assert (line.now, line.most) == (5.0, 5.0)
    assert Line("all", [(WINDOW, 1.0)]).now is None
