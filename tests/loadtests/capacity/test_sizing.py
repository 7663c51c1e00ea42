"""The capacity model: what a demand takes, by measured costs."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from loadtests.__main__ import app
from loadtests.capacity import prediction
from loadtests.capacity.costs import Costs, CostsError, StoreCosts
from loadtests.capacity.prediction import p99_of
from loadtests.capacity.sizing import Demand, highest_rate, rate_of, rows_of, size


@pytest.fixture(autouse=True)
def few_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a quarter of the requests of a rate."""
    monkeypatch.setattr(prediction, "REQUESTS", 5000)


STORE = StoreCosts(database="sqlite", row_bytes=250, label_bytes=100, row_seconds=1e-4, rows_per_second=5000)
COSTS = Costs(
    measured="2026-11-30T00:00:00+00:00",
    machine="a machine",
    model="doubling",
    version="1.0",
    rows=1,
    batch_seconds=1e-4,
    request_seconds=1e-3,
    fit=0.0,
    alone=0.002,
    size=100,
    received=300,
    sent=200,
    worker=100.0,
    host=60.0,
    start=3.0,
    archive=1.0,
    series=150,
    scrape=20_000,
    event=400.0,
    capture=100.0,
    store=STORE,
)
DEMAND = Demand(rate=10_000, p99=0.05, cores=8, spare=1)


def test_machines_are_for_the_cores_that_serve_and_for_those_that_may_be_lost() -> None:
    sizing = size(COSTS, DEMAND, rate_each=500)
    assert (sizing.workers, sizing.nodes) == (20, 4)
    assert sizing.memory == pytest.approx(4 * (60 + 8 * 100) / 1000)
    assert (sizing.received, sizing.sent) == pytest.approx((3.0, 2.0))
    assert sizing.series == 600


def test_workers_capture_no_more_than_their_limit_and_the_database_grows_by_that() -> None:
    sizing = size(COSTS, DEMAND, rate_each=500)
    assert sizing.captured == 4 * 8 * 100
    assert sizing.dropped == pytest.approx(0.68)
    assert sizing.stored == pytest.approx(3200 * 350 * 86_400 / 1e9)  # half of the peak is over the limit, too
    assert sizing.kept == pytest.approx(90 * 3200 * 350 * 86_400 / 1e9)
    assert sizing.monitors == pytest.approx(3200 / 5000)
    few = size(COSTS, replace(DEMAND, sample=0.1, labelled=0.0), rate_each=500)
    assert few.dropped == 0
    assert few.stored == pytest.approx(500 * 250 * 86_400 / 1e9)


def test_without_a_measured_monitor_its_figures_are_dashes() -> None:
    sizing = size(replace(COSTS, store=None), DEMAND, 500)
    assert sizing.stored is None
    assert ["–, –"] in [values for title, values in rows_of([sizing]) if "database" in title]


def test_so_many_machines_answer_what_takes_so_many_machines() -> None:
    for each in (500.0, *(11_255 / divisor for divisor in range(3, 60, 2))):
        for nodes in (2, 10, 100, 1000):
            assert size(COSTS, replace(DEMAND, rate=rate_of(nodes, DEMAND, each)), each).nodes == nodes
    with pytest.raises(CostsError, match="at least 2 are needed"):
        rate_of(1, DEMAND, 500)


def test_the_tighter_the_bound_the_fewer_requests_a_core_is_asked_for() -> None:
    p99 = p99_of(COSTS)
    rates = [highest_rate(COSTS, bound, p99) for bound in (0.004, 0.008, 0.05)]
    capacity = COSTS.service.capacity(64)
    assert rates == sorted(rates)
    assert 0.05 * capacity < rates[0] < 0.6 * capacity
    assert 0.85 * capacity < rates[2] < capacity
    assert p99(rates[0]) <= 0.004 < p99(1.3 * rates[0])


@pytest.mark.parametrize("bound", [0.0001, 0.0019])
def test_a_bound_that_a_request_alone_does_not_keep_is_refused(bound: float) -> None:
    with pytest.raises(CostsError, match="no number of machines"):
        highest_rate(COSTS, bound, p99_of(COSTS))


def test_costs_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "costs.json"
    COSTS.write(path)
    assert Costs.read(path) == COSTS
    path.write_text('{"model": 1}')
    with pytest.raises(CostsError, match="is no file of `marloop capacity measure`"):
        Costs.read(path)
    with pytest.raises(CostsError, match="No such file"):
        Costs.read(tmp_path / "gone.json")


def test_the_network_is_what_a_client_alone_waits_beside_the_worker() -> None:
    assert COSTS.network == pytest.approx(0.0009)
    assert replace(COSTS, alone=0.0).network == 0


def called(*arguments: Any) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["capacity", *map(str, arguments)])
    return result.exit_code, " ".join(result.output.split())


def test_a_plan_has_a_column_for_each_rate_and_each_number_of_machines(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    COSTS.write(path)
    code, output = called("plan", "--costs", path, "--rate", 100, "--nodes", 10, "--nodes", 100)
    assert code == 0
    assert "doubling 1.0, p99 50 ms" in output
    assert "| 2 | 10 | 100 |" in output


def test_a_page_without_marks_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Scale\n")
    for path in (page, tmp_path / "gone.md"):
        code, output = called("page", "--page", path)
        assert code == 2
        assert "is no page with the mark" in output


def test_a_plan_without_costs_or_a_question_says_what_is_missing(tmp_path: Path) -> None:
    assert called("plan", "--model", "nobody", "--rate", 1)[0] == 2
    assert "capacity-nobody-1.json: No such file" in called("plan", "--model", "nobody", "--rate", 1)[1]
    assert "--rate or --nodes" in called("plan")[1]


def test_without_simpy_a_command_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, output = called("plan", "--rate", 1)
    assert code == 2
    assert "simpy, which simulates, is not installed" in output
