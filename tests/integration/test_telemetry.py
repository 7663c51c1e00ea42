"""What is measured agrees with what was sent, to the last request, through a real TorchServe."""

import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from serving.settings import Settings
from serving.supervision.supervisor import WATCHER, Supervisor
from tests.integration.conftest import Server, put, serve, settings_for
from tests.support.waiting import wait_until

GOOD = ("linear", b'{"x": 6}')
BAD = ("linear", b'{"x": "six"}')
UNKNOWN = ("nobody", b'{"x": 6}')
BATCH = 64  # requests that one worker has in hand at most


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A TorchServe of two models that nobody else asks, and whose workers may die."""
    store = put(tmp_path_factory.mktemp("telemetry") / "store", "linear", "flights")
    with tempfile.TemporaryDirectory() as run_dir, serve(settings_for(store, Path(run_dir))) as running:
        state = Supervisor(running.settings).state(WATCHER)
        assert state is not None
        watcher = psutil.Process(state.pid)
        watcher.suspend()  # it asks the frontend every second whether it is there, which the frontend counts
        yield running
        watcher.resume()


def ask_all(server: Server, asked: Sequence[tuple[str, bytes]], clients: int = 32) -> Counter[int]:
    """How often each status was answered; 0 where there was no answer."""

    async def ask() -> list[int]:
        # Not the client's own limit: its queue gets slow when it is long, and its timeout counts there too.
        turn = asyncio.Semaphore(clients)
        async with httpx.AsyncClient(timeout=60) as client:

            async def one(model: str, body: bytes) -> int:
                headers = {"Content-Type": "application/json"}
                async with turn:
                    try:
                        url = f"{server.url}/predictions/{model}"
                        return (await client.post(url, content=body, headers=headers)).status_code
                    except httpx.TransportError:
                        return 0

            return await asyncio.gather(*(one(*what) for what in asked))

    return Counter(asyncio.run(ask()))


def scrape(url: str) -> list[Sample]:
    """Every sample of a metrics endpoint."""
    text = httpx.get(f"{url}/metrics", timeout=30).text
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def by_workers(settings: Settings) -> Counter[str]:
    """Requests of the model linear that workers answered, by code."""
    counts: Counter[str] = Counter()
    for sample in scrape(settings.exporter_url):
        if sample.name == "model_requests_total" and sample.labels["model"] == "linear":
            counts[sample.labels["code"]] += int(sample.value)
    return counts


def by_frontend(settings: Settings) -> Counter[str]:
    """Every answer that left the frontend, by the class of its code; the next call finds this scrape among them."""
    found = {
        sample.name.removesuffix("_total"): sample for sample in scrape(f"http://127.0.0.1:{settings.metrics_port}")
    }
    return Counter({f"{n}XX": int(found[f"Requests{n}XX"].value) for n in (2, 4, 5) if f"Requests{n}XX" in found})


def memory(settings: Settings) -> dict[str, str]:
    """The model of each living worker, by its process id."""
    found = [sample for sample in scrape(settings.exporter_url) if sample.name == "process_resident_memory_bytes"]
    return {sample.labels["pid"]: sample.labels["model"] for sample in found}


def test_each_failed_request_is_one_json_line_with_the_clients_ids(own: Server) -> None:
    headers = {"X-Request-Id": "order-7", "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
    response = own.client.post(f"{own.url}/predictions/linear", json={"x": None}, headers=headers)
    error = response.json()["error"]
    assert (error["client_request_id"], error["traceparent"]) == ("order-7", headers["traceparent"])

    def logged() -> list[dict[str, str]]:
        lines = own.settings.log.read_text().splitlines()
        return [json.loads(line) for line in lines if error["request_id"] in line]

    wait_until(lambda: bool(logged()))
    (line,) = logged()
    assert (line["model"], line["version"], line["reason"]) == ("linear", "1.0", "wrong_type")
    assert (line["client_request_id"], line["traceparent"]) == ("order-7", headers["traceparent"])


def test_workers_and_frontend_together_count_exactly_what_was_sent(own: Server) -> None:
    workers, frontend = by_workers(own.settings), by_frontend(own.settings)
    assert ask_all(own, [GOOD] * 300 + [BAD] * 200 + [UNKNOWN] * 100) == {200: 300, 400: 200, 404: 100}
    assert by_workers(own.settings) - workers == {"200": 300, "400": 200}
    assert by_frontend(own.settings) - frontend == {"2XX": 300 + 1, "4XX": 300}


def test_a_killed_worker_costs_at_most_the_batch_in_hand_and_no_count_goes_back(own: Server) -> None:
    workers, frontend = by_workers(own.settings), by_frontend(own.settings)
    (victim,) = [int(pid) for pid, model in memory(own.settings).items() if model == "linear"]
    asked = [GOOD, BAD] * 1000

    async def kill_in_the_middle() -> Counter[int]:
        load = asyncio.create_task(asyncio.to_thread(ask_all, own, asked))
        while by_workers(own.settings).total() < workers.total() + 300:
            await asyncio.sleep(0.01)
            assert not load.done(), load.result()  # else nothing is left that could be lost
        psutil.Process(victim).kill()
        return await load

    answered = asyncio.run(kill_in_the_middle())
    lost = len(asked) - answered[200] - answered[400]
    assert 0 <= lost <= BATCH
    # What a killed worker had in hand the frontend counts late, or not at all.
    uncounted = len(asked) + 1 - (by_frontend(own.settings) - frontend).total()
    assert 0 <= uncounted <= lost, answered
    counted = (by_workers(own.settings) - workers).total()
    assert abs(counted - answered[200] - answered[400]) <= BATCH
    wait_until(lambda: len(memory(own.settings)) == 2)
    assert str(victim) not in memory(own.settings)


def test_every_line_of_the_log_is_json_but_for_what_java_prints_itself(own: Server) -> None:
    lines = own.settings.log.read_text().splitlines()
    text = [line for line in lines if not line.startswith("{")]
    assert len(text) <= 5
    assert all({"time", "level", "logger", "message"} <= json.loads(line).keys() for line in lines if line not in text)
