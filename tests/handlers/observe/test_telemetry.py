"""What a worker measures: exact counts, closed sets of labels, and weights."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest
from prometheus_client import CollectorRegistry

from handlers.batch import Batch
from handlers.contract import Array, Example, ModelContract
from handlers.engine import Engine
from handlers.formats.codec import PROTOCOLS, Codec
from handlers.handler import ModelHandler
from handlers.http.overload import request_start
from handlers.message import JSON, STATUS, Request
from handlers.observe.metrics_folder import hold_lock
from handlers.observe.telemetry import SECONDS, Telemetry, WeightedHistogram, resident_memory, value_buckets
from serving.metrics.exporter import remove_dead
from tests.support.documents import replaced
from tests.support.handlers import wire
from tests.support.handlers.models import LINE, MAX_ROWS, PICTURES, Formula, pixels

NOW = 1_800_000_000.0
GOOD = wire.request({"x": 6})


class World:
    """A handler with telemetry, and a clock that the test sets."""

    def __init__(self, model: ModelContract, engine: Engine | None = None) -> None:
        self.now, self.memory = NOW, 20_000_000
        self.registry = CollectorRegistry()
        codec = Codec(model, MAX_ROWS)
        self.telemetry = Telemetry(model, codec.protocol, self.registry, lambda: self.now, lambda: self.memory)
        self.handler = ModelHandler(model, engine or Formula(model), codec, [self.telemetry], lambda: self.now)
        self._names = {"model": model.name, "version": model.version}

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, self._names | labels)


def test_every_answer_is_counted_by_protocol_and_code() -> None:
    world = World(LINE)
    asked = [GOOD, wire.request({"instances": [{"x": 1}, {"x": 2}]}), wire.request({"x": "six"}), GOOD]
    world.handler.handle([*asked, wire.request(b"?", "text/plain"), wire.request({"instances": []})])
    assert world.value("model_requests_total", protocol="native", code="200") == 2
    assert world.value("model_requests_total", protocol="v1", code="200") == 1
    assert world.value("model_requests_total", protocol="native", code="400") == 1
    assert world.value("model_requests_total", protocol="v1", code="400") == 1
    assert world.value("model_requests_total", protocol="unknown", code="415") == 1
    assert world.value("model_request_duration_seconds_count") == 6
    assert world.value("model_input_errors_total", reason="wrong_type") == 1
    assert world.value("model_input_errors_total", reason="empty") == 1
    assert world.value("model_input_errors_total", reason="unsupported_media_type") == 1


@pytest.mark.parametrize(
    ("asked", "protocol"),
    [
        (wire.request({"x": []}), "native"),
        (wire.request(b"{"), "native"),
        (wire.request({"instances": 1}), "v1"),
        (wire.request({"inputs": [{"name": "x", "datatype": "FP64", "shape": [1]}]}), "v2"),
        (wire.request(b"x", "application/octet-stream", inference_header_content_length="1"), "v2"),
        (wire.request(b"x", "application/x-npy"), "npy"),
        (wire.request(b"x", "image/gif"), "image"),
        (wire.request(b"", "multipart/form-data", {"file": b""}), "image"),
        (wire.request(b"x", "made/up"), "unknown"),
    ],
)
def test_a_refused_request_is_counted_under_what_it_seems_to_be(asked: Request, protocol: str) -> None:
    world = World(LINE)
    status = world.handler.handle([asked])[0].status
    assert world.value("model_requests_total", protocol=protocol, code=str(status)) == 1


def test_an_output_that_is_no_number_counts_as_the_clients_fault() -> None:
    class Overflowing:
        def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
            return {"y": np.full(len(tensors["x"]), np.inf, np.float32)}

    world = World(LINE, Overflowing())
    assert world.handler.handle([GOOD])[0].status == 422
    assert world.value("model_requests_total", protocol="native", code="422") == 1
    assert world.value("model_input_errors_total", reason="not_finite_output") == 1


def test_stages_are_timed_once_a_batch_and_requests_by_their_number() -> None:
    world = World(LINE)
    world.handler.handle([GOOD] * 5)
    world.handler.handle([GOOD])
    for stage in ("decode", "predict", "encode"):
        assert world.value("model_stage_duration_seconds_count", stage=stage) == 2
    assert world.value("model_request_duration_seconds_count") == 6
    assert world.value("model_batch_requests_count") == 2
    assert world.value("model_batch_requests_sum") == 6
    assert world.value("model_batch_rows_sum") == 6


def test_the_mix_of_predicted_classes_is_counted_a_row() -> None:
    world = World(PICTURES)
    response = world.handler.handle([wire.request({"instances": pixels(rows=7)})])[0]
    answers = [answer["label"] for answer in msgspec.json.decode(response.body)["predictions"]]
    for label in PICTURES.labels:
        assert world.value("model_predictions_total", label=label) == answers.count(label)


def test_predicted_values_fill_a_histogram_a_row() -> None:
    world = World(LINE)
    response = world.handler.handle([wire.request({"instances": [{"x": i} for i in range(5)]})])[0]
    values = msgspec.json.decode(response.body)["predictions"]
    assert world.value("model_prediction_value_count") == 5
    assert world.value("model_prediction_value_sum") == pytest.approx(sum(values), rel=1e-6)
    assert world.value("model_prediction_value_bucket", le="0.0") == sum(value <= 0 for value in values)


def test_a_prediction_that_is_no_number_does_not_spoil_the_histogram() -> None:
    class Broken:
        def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
            return {"y": np.array([np.nan, np.inf, 2.0], np.float32)}

    world = World(LINE, Broken())
    world.handler.handle([wire.request({"instances": [{"x": 1}] * 3})])
    assert world.value("model_prediction_value_sum") == 2.0
    assert world.value("model_prediction_value_count") == 1


def test_a_failure_of_the_engine_is_counted_as_500_and_not_as_a_fault_of_the_input() -> None:
    class Failing:
        def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
            raise RuntimeError("out of order")

    world = World(LINE, Failing())
    world.handler.handle([GOOD, GOOD])
    assert world.value("model_requests_total", protocol="native", code="500") == 2
    assert world.value("model_input_errors_total", reason="internal") is None


@pytest.mark.parametrize("sent", ["t={:.3f}", "{:.3f}", "t={:.6f}"])
@pytest.mark.parametrize("scale", [1, 1e3, 1e6])
def test_the_time_since_x_request_start_is_the_queue(sent: str, scale: float) -> None:
    world = World(LINE)
    header = sent.format((NOW - 0.25) * scale)
    world.handler.handle([wire.request({"x": 6}, x_request_start=header), GOOD])
    assert world.value("model_queue_duration_seconds_count") == 1
    assert world.value("model_queue_duration_seconds_sum") == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("header", ["", "t=", "soon", "nan", "t=inf", "-1", "0", "1e400", str(NOW - 7200), "9" * 400])
def test_an_x_request_start_that_is_no_recent_time_is_ignored(header: str) -> None:
    world = World(LINE)
    assert world.handler.handle([wire.request({"x": 6}, x_request_start=header)])[0].status == 200
    assert world.value("model_queue_duration_seconds_count") == 0


def test_a_clock_a_little_ahead_of_ours_is_no_negative_time() -> None:
    world = World(LINE)
    world.handler.handle([wire.request({"x": 6}, x_request_start=f"t={NOW + 2}")])
    assert world.value("model_queue_duration_seconds_sum") == 0


def test_request_start_reads_seconds_milliseconds_and_microseconds() -> None:
    assert request_start("t=1800000000.5") == request_start("1800000000500") == request_start("1800000000500000")


def test_ten_thousand_hostile_requests_add_no_series_beyond_the_closed_sets() -> None:
    world = World(LINE)
    chance = np.random.default_rng(0)

    def hostile() -> Request:
        headers = {"content-type": chance.choice([JSON, "image/png", "application/x-npy", chance.bytes(5).hex()])}
        headers |= {"x-request-id": chance.bytes(8).hex(), "x-request-start": chance.bytes(3).hex()}
        headers |= {chance.bytes(4).hex(): chance.bytes(4).hex()}
        body = b'{"%s": %d}' % (chance.bytes(4).hex().encode(), chance.integers(9)) if chance.random() < 0.5 else b""
        return Request(body or chance.bytes(20), headers, id=chance.bytes(8).hex())

    def series() -> set[tuple[str, str]]:
        samples = [sample for metric in world.registry.collect() for sample in metric.samples]
        return {(sample.name, str(sorted(sample.labels.items()))) for sample in samples}

    for _ in range(500):
        world.handler.handle([hostile() for _ in range(20)])
    allowed: dict[str, set[str]] = {
        "model": {LINE.name},
        "version": {LINE.version},
        "protocol": set(PROTOCOLS),
        "code": {"200", *map(str, STATUS.values())},
        "reason": set(STATUS),
        "stage": {"decode", "predict", "encode"},
    }
    for metric in world.registry.collect():
        for sample in metric.samples:
            assert all(value in allowed[name] for name, value in sample.labels.items() if name != "le")
    before = series()
    for _ in range(20):
        world.handler.handle([hostile() for _ in range(20)])
    assert series() == before


def test_what_is_loaded_is_shown() -> None:
    world = World(LINE)
    world.telemetry.loaded(0.5, "onnxruntime", "abc")
    assert world.value("model_load_duration_seconds") == 0.5
    assert world.value("model_info", engine="onnxruntime", sha="abc") == 1


def test_memory_is_read_again_after_some_seconds() -> None:
    world = World(LINE)
    assert world.value("process_resident_memory_bytes") == 20e6
    world.memory = 30_000_000
    world.handler.handle([GOOD])
    assert world.value("process_resident_memory_bytes") == 20e6
    world.now += 10
    world.handler.handle([GOOD])
    assert world.value("process_resident_memory_bytes") == 30e6
    world.memory = 0  # it could not be read
    world.now += 10
    world.handler.handle([GOOD])
    assert world.value("process_resident_memory_bytes") == 30e6


def test_resident_memory_is_what_the_system_counts() -> None:
    # The system may take memory of a large process at any time.
    assert resident_memory() == pytest.approx(psutil.Process().memory_info().rss, abs=50e6)


def test_an_observer_that_fails_harms_no_request(caplog: pytest.LogCaptureFixture) -> None:
    def failing(batch: Batch) -> None:
        raise OSError("disk full")

    seen: list[Batch] = []
    handler = ModelHandler(LINE, Formula(LINE), Codec(LINE, MAX_ROWS), [failing, seen.append])
    assert handler.handle([GOOD])[0].status == 200
    assert len(seen) == 1
    assert "an observer of line failed" in caplog.text


def test_the_examples_check_is_no_traffic() -> None:
    world = World(LINE)
    answer: Any = msgspec.json.decode(world.handler.handle([GOOD])[0].body)
    checked = World(msgspec.structs.replace(LINE, example=Example({"x": 6}, answer)))
    checked.handler.check_example()
    assert checked.value("model_request_duration_seconds_count") == 0


def test_many_observations_at_once_are_those_one_by_one() -> None:
    registry, values = CollectorRegistry(), np.array([0.0, 0.0002, 0.3, 10.0, 11.0, 0.3])
    one = WeightedHistogram("one", "", buckets=SECONDS, registry=registry)
    many = WeightedHistogram("many", "", buckets=SECONDS, registry=registry)
    for value in values:
        one.observe(value)
    many.observe_all(values)
    weighted = WeightedHistogram("weighted", "", buckets=SECONDS, registry=registry)
    for value in values:
        weighted.observe_many(value, 1)
    for bound in (*map(str, SECONDS), "+Inf"):
        expected = registry.get_sample_value("one_bucket", {"le": bound})
        assert registry.get_sample_value("many_bucket", {"le": bound}) == expected
        assert registry.get_sample_value("weighted_bucket", {"le": bound}) == expected
    weighted.observe_many(0.3, 7)
    assert registry.get_sample_value("weighted_count") == 13
    assert registry.get_sample_value("weighted_sum") == pytest.approx(values.sum() + 2.1)


def test_the_buckets_of_predictions_follow_the_training_data() -> None:
    model = replaced(LINE, reference={"output": {"quantiles": list(range(0, 101))}})
    assert value_buckets(model) == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    constant = replaced(LINE, reference={"output": {"quantiles": [5.0] * 9}})
    assert value_buckets(constant) == [5.0]


def test_the_whole_request_is_its_wait_and_its_batch() -> None:
    world = World(LINE)
    world.handler.handle([GOOD] * 3, [0.25, 0.0, 3.0])
    assert world.value("model_queue_duration_seconds_count") == world.value("model_total_duration_seconds_count") == 3
    assert world.value("model_queue_duration_seconds_sum") == pytest.approx(3.25)
    batches, total = world.value("model_request_duration_seconds_sum"), world.value("model_total_duration_seconds_sum")
    assert batches is not None
    assert total == pytest.approx(3.25 + batches)
    assert world.value("model_queue_duration_seconds_bucket", le="0.5") == 2
    assert world.value("model_total_duration_seconds_bucket", le="2.0") == 2


def test_a_proxys_start_goes_before_what_the_host_knows() -> None:
    world = World(LINE)
    world.handler.handle([GOOD, wire.request({"x": 6}, JSON, None, x_request_start=f"t={NOW - 2}")], [0.25, 0.25])
    assert world.value("model_queue_duration_seconds_sum") == pytest.approx(2.25)


def test_the_lock_of_a_living_worker_is_left_alone(tmp_path: Path) -> None:
    file = hold_lock(tmp_path)
    remove_dead(tmp_path)
    assert len(list(tmp_path.glob("*.lock"))) == 1
    thread = threading.Thread(target=file.close)
    thread.start()
    thread.join()
    remove_dead(tmp_path)
    assert list(tmp_path.iterdir()) == []
