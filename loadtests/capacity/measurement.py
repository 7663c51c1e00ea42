"""Measures what a model costs, in about a minute: CPU time, bytes, memory, start, and what is captured of it.

CPU time and not the clock tells the cost of a request, so that other work on the machine disturbs it little. It is
measured under loads of few and of many clients, whose batches differ. Two constants are fitted to them: what a batch
takes, and what each of its requests adds.
"""

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, generate_latest

from handlers.observe.settings import CAPTURE_URL, CaptureSettings
from loadtests import wrk
from loadtests.capacity.alone import Alone, serve_alone
from loadtests.capacity.costs import Costs, CostsError
from loadtests.capacity.requests import payload_of_rows, target
from loadtests.capacity.sink import Captured, counting_sink
from loadtests.capacity.store import measure_store
from serving.metrics.exporter import WorkerMetrics
from training.figures.machine import machine

CLIENTS = (1, 2, 4, 16, 64)  # of each load
BODIES = 64  # different requests
WARM_UP = 2.0  # s
ROUNDS = 3  # of all loads; of each load the one counts that took the least CPU time a request
Say = Callable[[str], None]


class Work(NamedTuple):
    """What a worker did under a load.

    Attributes:
        cpu: s.
        batches: number; likewise ``requests``.
        rate: good answers a second.
        p50: s.
        errors: number of requests without a good answer.
    """

    cpu: float
    batches: float
    requests: float
    rate: float
    p50: float
    errors: int = 0


def measure(store: Path, model: str, rows: int, seconds: float, database: str | None, say: Say) -> Costs:
    """Measure a model.

    Args:
        rows: rows of a request.
        seconds: of each load.
        database: URL of an empty database for the monitor; empty for a file of SQLite, None to leave the monitor out.

    Raises:
        ArchiveError: the model has no champion, or its archive is not as registered.
        CostsError: the model cannot be measured.
        StartError: a server does not come up.
        WrkError: no load can be made.
    """
    wrk.find()
    described = machine()  # before this process leaves a core to the worker
    with counting_sink() as captured, serve_alone(store, model, {CAPTURE_URL: captured.url}) as alone:
        say(f"one worker serves {model} after {alone.start:.1f} s")
        works = _works(alone, rows, seconds, say)
        costs = replace(_costs(alone, rows, works, captured), machine=described)
        if database is None:
            return costs
        if not captured.events:
            say("nothing of it is captured, so that the monitor has nothing to store")
            return costs
        say("the monitor stores what was captured")
        return replace(costs, store=measure_store(alone, captured.events, database))


def fit(works: Sequence[Work]) -> tuple[float, float, float]:
    """Fit the CPU time of a batch and of a request to loads, by least squares of the relative errors.

    Returns:
        Both in s, none below 0, and the largest relative error.
    """
    from scipy.optimize import nnls  # takes half a second

    counts = np.array([(work.batches, work.requests) for work in works])
    cpu = np.array([work.cpu for work in works])
    (batch, request), _ = nnls(counts / cpu[:, None], np.ones(len(cpu)))
    errors = counts @ (batch, request) / cpu - 1
    return float(batch), float(request), float(np.abs(errors).max())


def _works(alone: Alone, rows: int, seconds: float, say: Say) -> list[Work]:
    """Return what the worker did under each load: of several rounds the one in which others disturbed it least.

    A load that it refuses a part of is left out, as refusals cost something else.
    """
    rounds = [[_load(alone, rows, clients, seconds) for clients in CLIENTS] for _ in range(ROUNDS)]
    works = []
    for clients, same in zip(CLIENTS, zip(*rounds, strict=True), strict=True):
        whole = [work for work in same if not work.errors]
        if not whole:
            say(f"{clients} clients: left out, since requests were refused in each round")
            continue
        work = min(whole, key=lambda work: work.cpu / work.requests)
        works.append(work._replace(p50=min(work.p50 for work in whole)))
        say(f"{clients} clients: {work.rate:,.0f} answers a second, {work.requests / work.batches:.1f} in a batch")
    if len(works) < 2:
        raise CostsError(f"{alone.contract.name} refuses requests of {rows} rows under hardly any load: try fewer rows")
    return works


def _load(alone: Alone, rows: int, clients: int, seconds: float) -> Work:
    """Load the worker, once it is warm, and return what it did."""
    bodies = [payload_of_rows(alone.contract, rows, seed) for seed in range(BODIES)]
    script = alone.folder / "requests.lua"
    script.write_text(wrk.script("POST", bodies[0].headers, [payload.body for payload in bodies]))
    url = f"{alone.url}{bodies[0].path(alone.contract.name)}"
    wrk.run(url, script, clients, WARM_UP if clients == CLIENTS[0] else 1)
    cpu, before = alone.cpu_seconds(), alone.batches()
    load = wrk.run(url, script, clients, seconds)
    batches, requests = (late - early for late, early in zip(alone.batches(), before, strict=True))
    cpu = alone.cpu_seconds() - cpu
    if not (requests and cpu):
        raise CostsError(f"{alone.contract.name} answered nothing under a load of {clients} clients")
    return Work(cpu, batches, requests, load.per_second, load.p50 / 1000, load.errors)


def _costs(alone: Alone, rows: int, works: Sequence[Work], captured: Captured) -> Costs:
    batch, request, error = fit(works)
    received, sent, size = _bytes(alone, rows)
    worker = alone.worker.memory_full_info().pss / 1e6
    version = alone.registry.champion(alone.contract.name)
    series, scrape = _metrics(alone)
    return Costs(
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
        machine="",
        model=alone.contract.name,
        version=version.number,
        rows=rows,
        batch_seconds=batch,
        request_seconds=request,
        fit=error,
        alone=works[0].p50,
        size=size,
        received=received,
        sent=sent,
        worker=worker,
        host=max(0.0, alone.tree.memory() - worker),
        start=alone.start,
        archive=(alone.registry.store / version.version.archive).stat().st_size / 1e6,
        series=series,
        scrape=scrape,
        event=captured.bodies / captured.rows if captured.rows else 0.0,
        capture=CaptureSettings.from_environment(os.environ).rows_per_second,
    )


def _bytes(alone: Alone, rows: int) -> tuple[int, int, int]:
    """Return the bytes of a request and of its answer, heads included, and of the request's body."""
    payload = payload_of_rows(alone.contract, rows)
    request = target(alone.contract, payload, alone.url, {}).request()
    url = f"{alone.url}{payload.path(alone.contract.name)}"
    response = httpx.post(url, content=payload.body, headers=payload.headers, trust_env=False)
    head = f"HTTP/1.1 {response.status_code} {response.reason_phrase}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
    return len(request), len(head) + 2 + len(response.content), len(payload.body)


def _metrics(alone: Alone) -> tuple[int, int]:
    """Return the number of series of the worker, and the bytes of the page that Prometheus would read."""
    registry = CollectorRegistry()
    registry.register(WorkerMetrics(alone.settings.metrics))
    page = generate_latest(registry)
    return sum(not line.startswith(b"#") for line in page.splitlines()), len(page)
