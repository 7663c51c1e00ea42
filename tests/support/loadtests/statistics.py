"""Statistics as Locust keeps them, without Locust: importing it changes Python's sockets."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Entry:
    """The fields of Locust's ``StatsEntry`` that are read."""

    num_requests: int = 0
    num_failures: int = 0
    total_response_time: float = 0
    response_times: dict[int, int] = field(default_factory=dict)
    total_content_length: int = 0
    start_time: float = 0.0
    last_request_timestamp: float | None = None


@dataclass
class Statistics:
    """The fields of Locust's ``RequestStats`` that are read."""

    total: Entry
    entries: dict[tuple[str, str], Entry]


def statistics(seconds: float = 10, **counts: tuple[int, int, dict[int, int]]) -> Any:
    """Statistics by ``model_kind``: requests, failures, and requests by ms."""
    entries = {
        (name.replace("_", " "), "POST"): Entry(requests, failures, sum(ms * n for ms, n in times.items()), times)
        for name, (requests, failures, times) in counts.items()
    }
    return Statistics(Entry(start_time=100, last_request_timestamp=100 + seconds), entries)
