"""Rates and quantiles of the exporter's counters, over restarts, gaps and any time, in bounded memory."""

import math
from collections.abc import Mapping

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from handlers.batch import Batch
from handlers.message import Request, Response
from handlers.observe.telemetry import Telemetry
from monitoring.live.traffic import MODELS, POINTS, STEP, WINDOW, Look, Point, Traffic, parse, points, quantile
from tests.support import chat_archive

PAGE = """# HELP model_requests_total Requests answered, errors too
# TYPE model_requests_total counter
model_requests_total{{model="air",version="1.1",protocol="native",code="200"}} {ok}
model_requests_total{{model="air",version="1.1",protocol="v1",code="404"}} {missing}
model_requests_total{{model="air",version="1.0",protocol="native",code="503"}} {failed}
model_requests_total{{model="",version="",protocol="native",code="404"}} 1000.0
model_request_duration_seconds_bucket{{model="air",version="1.1",le="0.1"}} {ok}
model_request_duration_seconds_bucket{{model="air",version="1.1",le="+Inf"}} {ok}
process_resident_memory_bytes{{model="air",version="1.1"}} 1e8
"""


def page(ok: float = 0, missing: float = 0, failed: float = 0) -> str:
    return PAGE.format(ok=ok, missing=missing, failed=failed)


class World:
    """A sampler, its clock, and what each exporter answers; None if it is away."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pages: dict[str, str | None] = {"here": page()}
        client = httpx.Client(transport=httpx.MockTransport(self.answer))
        self.traffic = Traffic(lambda: [f"http://{name}" for name in self.pages], client, lambda: self.now)

    def answer(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/metrics"
        text = self.pages[request.url.host]
        if text is None:
            raise httpx.ConnectError("Connection refused")
        return httpx.Response(200, text=text)

    def look(self, text: str | None, seconds: float = STEP, **others: str | None) -> None:
        self.now += seconds
        self.pages = {"here": text, **others}
        self.traffic.look()

    @property
    def kept(self) -> list[Point]:
        return [point for _, point in self.traffic.of("air")]


@pytest.fixture
def world() -> World:
    return World()


def test_rates_are_the_growth_between_two_looks_by_class_of_status(world: World) -> None:
    world.look(page(100, 10, 1))
    assert world.kept == []  # one look knows no growth
    world.look(page(150, 30, 6), 10)
    (point,) = world.kept
    assert (point.requests, point.refused, point.failed) == (7.5, 2.0, 0.5)
    assert point.seconds == pytest.approx((0.05, 0.095, 0.099))


def test_a_counter_that_went_back_began_again_at_zero(world: World) -> None:
    world.look(page(1000, 50))
    world.look(page(20, 55), 10)  # the workers were started anew, and have answered 20 since
    (point,) = world.kept
    assert (point.requests, point.refused) == (2.5, 0.5)


def test_a_status_that_is_seen_for_the_first_time_grew_from_zero() -> None:
    before = 'model_requests_total{model="air",version="1.1",protocol="native",code="200"} 7'
    after = f'{before}\nmodel_requests_total{{model="air",version="1.1",protocol="native",code="500"}} 5'
    (point,) = points(5.0, [(Look(0.0, parse(before)), Look(5.0, parse(after)))]).values()
    assert (point.requests, point.failed) == (1.0, 1.0)


def test_an_exporter_that_is_away_leaves_one_gap_and_says_why(world: World) -> None:
    world.look(page(0))
    world.look(page(10))
    for _ in range(3):
        world.look(None)
        assert world.traffic.fault == "Connection refused"
    assert [point.requests for point in world.kept] == [2.0, None]
    world.look(page(50))
    assert world.traffic.fault == ""
    assert [point.requests for point in world.kept] == [2.0, None, 2.0]  # over the 20 s that it was away


def test_the_traffic_of_several_machines_is_added_up(world: World) -> None:
    world.look(page(100, 10), there=page(1000, 0))
    world.look(page(150, 30), there=page(1100, 10))
    (point,) = world.kept
    assert (point.requests, point.refused) == ((70 + 110) / STEP, (20 + 10) / STEP)


def test_a_machine_that_is_away_is_missed_by_name_and_what_it_counted_before_is_not_counted_again(world: World) -> None:
    world.look(page(0), there=page(1000))
    world.look(page(10), there=None)
    assert world.traffic.fault == "http://there: Connection refused"
    world.look(page(20), there=page(1020))
    assert world.traffic.fault == ""
    assert [point.requests for point in world.kept] == [2.0, 2.0 + 2.0]  # 20 within the 10 s that it was away
    world.look(page(30))  # it has left, and comes again as a machine that nobody knows
    world.look(page(40), there=page(5000))
    world.look(page(50), there=page(5010))
    assert [point.requests for point in world.kept[2:]] == [2.0, 2.0, 4.0]


@pytest.mark.parametrize(
    "text", ['model_requests_total{model="air" 7', 'model_request_duration_seconds_bucket{model="a",le="x"} 1']
)
def test_a_page_that_cannot_be_read_is_a_gap_too(world: World, text: str) -> None:
    world.look(page(0))
    world.look(page(10))
    world.look(text)
    assert world.traffic.fault
    assert world.kept[-1].requests is None


def test_what_is_older_than_the_window_is_forgotten(world: World) -> None:
    for i in range(3 * POINTS):
        world.look(page(i))
    assert len(world.kept) <= POINTS
    assert all(age <= WINDOW for age, _ in world.traffic.of("air"))
    for i in range(2 * POINTS):
        world.look(page(i), 0.1)  # however often it is looked
    assert len(world.kept) == POINTS
    world.look("", WINDOW + STEP)
    world.look("")
    assert world.traffic.of("air") == []
    world.look(page(0))
    world.look(page(5), WINDOW + STEP)  # so long ago that its growth says nothing of these minutes
    assert [point.requests for point in world.kept] in ([], [None])


def test_no_exporter_makes_the_monitor_keep_more_models_than_anybody_reads(world: World) -> None:
    text = "\n".join(
        f'model_requests_total{{model="m{i}",version="1",protocol="native",code="200"}} 1' for i in range(2 * MODELS)
    )
    world.look(text)
    world.look(text)
    assert sum(bool(world.traffic.of(f"m{i}")) for i in range(2 * MODELS)) == MODELS


BUCKETS = {0.1: 50.0, 0.2: 90.0, 0.5: 99.0, math.inf: 100.0}


@pytest.mark.parametrize(
    ("share", "buckets", "expected"),
    [
        (0.5, BUCKETS, 0.1),
        (0.25, BUCKETS, 0.05),  # halfway into the first bucket, which begins at zero
        (0.7, BUCKETS, 0.15),
        (0.95, BUCKETS, 0.2 + 0.3 * 5 / 9),
        (0.99, BUCKETS, 0.5),
        (0.999, BUCKETS, 0.5),  # above every bound that is finite
        (0.5, {0.1: 0.0, 0.2: 10.0, math.inf: 10.0}, 0.15),
        (0.5, {0.1: 0.0, math.inf: 0.0}, None),
        (0.5, {}, None),
    ],
)
def test_quantiles_are_those_of_prometheus(
    share: float, buckets: Mapping[float, float], expected: float | None
) -> None:
    assert quantile(share, buckets) == (None if expected is None else pytest.approx(expected))


def test_a_stream_of_half_a_minute_has_its_percentiles() -> None:
    registry, contract = CollectorRegistry(), chat_archive.contract("chat", chat_archive.echoed("Hi"))
    telemetry = Telemetry(contract, lambda request: "openai", registry)
    before = Look(0.0, parse(generate_latest(registry).decode()))
    for _ in range(20):
        batch = Batch(contract, [Request(b"", {})], 0.0, responses=[Response(200, b"")])
        batch.seconds = {"decode": 0.0, "predict": 30.0, "encode": 0.0}
        telemetry(batch)
    after = Look(STEP, parse(generate_latest(registry).decode()))
    point = points(STEP, [(before, after)])["chat"]
    assert point.requests == 20 / STEP
    assert [second is not None and 20 < second <= 50 for second in point.seconds] == [True] * 3
