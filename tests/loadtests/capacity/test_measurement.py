"""What is made of measurements: two constants of CPU time, events of other requests, labels that agree."""

import msgspec
import pytest

from handlers.observe.sink import Sink
from loadtests.capacity.measurement import Work, fit
from loadtests.capacity.sink import KEPT, counting_sink
from loadtests.capacity.store import label_of, renamed


def test_the_cost_of_a_batch_and_of_a_request_are_told_apart_by_loads_whose_batches_differ() -> None:
    works = [Work(2e-4 * batches + 5e-5 * requests, batches, requests, 0.0, 0.001) for batches, requests in LOADS]
    assert fit(works) == pytest.approx((2e-4, 5e-5, 0.0), abs=1e-9)


def test_what_does_not_fit_is_told_and_no_cost_is_below_zero() -> None:
    works = [Work(5e-5 * requests - 1e-5 * batches, batches, requests, 0.0, 0.001) for batches, requests in LOADS]
    batch, request, error = fit(works)
    assert batch == 0
    assert 3e-5 < request < 6e-5
    assert 0.05 < error < 0.3


LOADS = ((1000.0, 1000.0), (1000.0, 4000.0), (500.0, 16_000.0))


def event(output: object) -> dict[str, object]:
    data = {"request_id": "a", "row": 3, "model": "doubling", "version": "1.0", "features": {"x": 1.0}}
    return {"id": "a/3", "data": data | {"output": output}}


def test_events_are_renamed_so_that_none_is_taken_for_another() -> None:
    rows = renamed([event(1.0), event(2.0)])
    some = [next(rows) for _ in range(5)]
    assert len({row["id"] for row in some}) == 5
    assert [row["data"]["output"] for row in some] == [1.0, 2.0, 1.0, 2.0, 1.0]
    assert all(row["id"] == f"{row['data']['request_id']}/0" for row in some)


@pytest.mark.parametrize(
    ("output", "label"),
    [(214.5, 214.5), ({"label": "boot", "probabilities": [1.0]}, "boot"), ({"y": 1.0}, None), ([1.0], None)],
)
def test_a_label_is_the_number_or_the_class_that_was_answered(output: object, label: object) -> None:
    found = label_of(event(output))
    assert (found and found["label"]) == label


def test_the_sink_counts_what_a_worker_sends_it() -> None:
    with counting_sink() as captured:
        sink = Sink(captured.url)
        for _ in range(3):
            sink.post(msgspec.json.encode([event(1.0)] * 1000))
        sink.close()
    assert captured.rows == 3000
    assert len(captured.events) == KEPT
    assert captured.bodies / captured.rows == pytest.approx(len(msgspec.json.encode(event(1.0))) + 1, abs=0.1)
