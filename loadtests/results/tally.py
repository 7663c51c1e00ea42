"""Locust's statistics as this project reads them: an entry for each model and kind of request."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple, get_args

from loadtests.requests import conversations
from loadtests.requests.payloads import PATHS, Payload
from loadtests.slo import Measured

if TYPE_CHECKING:
    from locust.stats import RequestStats, StatsEntry

SHED = "shed"
# The part of an entry's name after the model: valid requests by their format, others by their purpose.
KINDS = {*PATHS, "edge", "invalid", "example", *get_args(conversations.Kind), SHED}
# Figures of a language model's streams, each an entry beside that of the request.
FIRST_TOKEN = "time to first token"  # ms
RATE = "tokens per second"


class Entry(NamedTuple):
    """Locust's statistics of one model and kind."""

    model: str
    kind: str
    stats: "StatsEntry"


def name_of(model: str, payload: Payload) -> str:
    """Return the name under which Locust counts a request."""
    return f"{model} {payload.protocol if payload.kind == 'valid' else payload.kind}"


def shed_name(model: str) -> str:
    """Return the name under which Locust counts a request that was refused for load."""
    return f"{model} {SHED}"


def entries(stats: "RequestStats", models: Iterable[str]) -> Iterator[Entry]:
    """Yield the entries of some models that have any request."""
    names = set(models)
    for (name, _), entry in list(stats.entries.items()):
        model, _, kind = name.rpartition(" ")
        if model in names and kind in KINDS and entry.num_requests:
            yield Entry(model, kind, entry)


def measured(stats: "RequestStats", model: str) -> Measured:
    """Sum up all requests to one model until now."""
    requests = errors = shed = 0
    times: Counter[int] = Counter()
    for entry in entries(stats, [model]):
        requests += entry.stats.num_requests
        if entry.kind == SHED:
            shed += entry.stats.num_requests
        else:
            errors += entry.stats.num_failures
            times.update(entry.stats.response_times)
    last = stats.total.last_request_timestamp or stats.total.start_time
    seconds = max(0.0, last - stats.total.start_time)
    first = [entry for (name, _), entry in list(stats.entries.items()) if name == f"{model} {FIRST_TOKEN}"]
    waits = Counter({time: count for entry in first for time, count in entry.response_times.items()})
    tokens = sum(entry.total_content_length for entry in first)  # their size is the number of tokens
    return Measured(requests, errors, shed, seconds, times, waits, tokens)
