"""The capacity model: from requests a second and a latency to cores, machines, memory, bytes and rows.

Each figure is a product of a demand and of measured costs. Two constants are nobody's measurement here: the memory
and the disk of a time series, which are rules of thumb of Prometheus.
"""

import math
from collections.abc import Callable, Sequence

import msgspec

from loadtests.capacity.costs import Costs, CostsError

SERIES_BYTES = 8192  # of Prometheus' memory, with what queries and churn take; reckoned
SAMPLE_BYTES = 2  # on its disk ("Storage", "Operational aspects": 1 to 2); reckoned
LOOKS = 2.0  # a second, of each worker at the registry (``serving.hosts.direct.board.BEAT``)
DAY = 86_400  # s
GB = 1e9
HIGHEST = 0.97  # share of its capacity that a worker is asked for at most
STEPS = 8  # halvings of what is between two shares


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of the service, and of what it is made.

    Attributes:
        rate: requests a second at the peak.
        p99: s within which 99 of 100 answers must come.
        cores: cores of a machine, a worker on each.
        spare: machines that may be lost at once.
        busy: mean rate as a share of the peak.
        sample: share of the rows that is captured.
        labelled: share of the captured rows whose truth comes.
        days: for which they are kept.
        scrape: s between two scrapes.
    """

    rate: float
    p99: float
    cores: int = 8
    spare: int = 1
    busy: float = 0.5
    sample: float = 1.0
    labelled: float = 1.0
    days: int = 90
    scrape: float = 5.0


class Sizing(msgspec.Struct, frozen=True, kw_only=True):
    """What a demand takes.

    Attributes:
        rate: requests a second at the peak.
        rate_each: requests a second of a core within the p99.
        share: of what a core could answer at most.
        workers: cores that serve, without the spare machines.
        nodes: machines, with the spare ones.
        memory: GB of all machines; likewise ``memory_each`` of one.
        received: MB a second of all requests at the peak; likewise ``sent`` of all answers.
        captured: rows a second that reach the monitor at the peak.
        dropped: share of the sampled rows that the workers' limit leaves out at the peak.
        events: MB a second to the monitor.
        stored: GB a day in the database; likewise ``kept``, GB in all.
        monitors: callers at once that the captured rows need, each as fast as the measured one.
        series: of all machines; likewise ``samples`` a second, and ``prometheus``, GB of its memory.
        prometheus_disk: GB a day.
        looks: at the registry, a second.
        start: s of a worker.
    """

    rate: float
    rate_each: float
    share: float
    workers: int
    nodes: int
    memory: float
    memory_each: float
    received: float
    sent: float
    captured: float
    dropped: float
    events: float
    stored: float | None
    kept: float | None
    monitors: float | None
    series: int
    samples: float
    prometheus: float
    prometheus_disk: float
    looks: float
    start: float


P99 = Callable[[float], float]  # of the requests a second that a worker is asked for, in s


def highest_rate(costs: Costs, bound: float, p99: P99) -> float:
    """Return the most requests a second of a worker whose p99 keeps to a bound in s.

    Raises:
        CostsError: not even a request alone does.
    """
    capacity = costs.service.capacity(64)
    low, high = 0.0, HIGHEST
    floor = costs.network + costs.batch_seconds + costs.request_seconds
    if floor > bound:
        raise CostsError(
            f"a request alone takes {1000 * floor:.2f} ms: no number of machines has {1000 * bound:g} ms kept"
        )
    if p99(high * capacity) <= bound:
        return high * capacity
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if p99(middle * capacity) <= bound else (low, middle)
    if not low:
        raise CostsError(f"one answer in a hundred takes longer than {1000 * bound:g} ms even with hardly any requests")
    return low * capacity


def size(costs: Costs, demand: Demand, rate_each: float) -> Sizing:
    """Return what a demand takes.

    Args:
        rate_each: requests a second of a worker, from ``highest_rate``.
    """
    workers = max(1, math.ceil(round(demand.rate / rate_each, 6)))  # not one more for the last bit
    nodes = math.ceil(workers / demand.cores) + demand.spare
    running = nodes * demand.cores
    memory_each = (costs.host + demand.cores * costs.worker) / 1000
    rows = demand.rate * costs.rows * demand.sample
    captured = min(rows, running * costs.capture)
    stored = kept = monitors = None
    if costs.store:
        mean = min(demand.busy * rows, running * costs.capture)
        row = costs.store.row_bytes + demand.labelled * costs.store.label_bytes
        stored = mean * row * DAY / GB
        kept, monitors = demand.days * stored, captured / costs.store.rows_per_second
    samples = nodes * costs.series / demand.scrape
    return Sizing(
        rate=demand.rate,
        rate_each=rate_each,
        share=rate_each / costs.service.capacity(64),
        workers=workers,
        nodes=nodes,
        memory=nodes * memory_each,
        memory_each=memory_each,
        received=demand.rate * costs.received / 1e6,
        sent=demand.rate * costs.sent / 1e6,
        captured=captured,
        dropped=1 - captured / rows if rows else 0.0,
        events=captured * costs.event / 1e6,
        stored=stored,
        kept=kept,
        monitors=monitors,
        series=nodes * costs.series,
        samples=samples,
        prometheus=nodes * costs.series * SERIES_BYTES / GB,
        prometheus_disk=samples * SAMPLE_BYTES * DAY / GB,
        looks=running * LOOKS,
        start=costs.start,
    )


def rate_of(nodes: int, demand: Demand, rate_each: float) -> float:
    """Return the requests a second that so many machines answer, those to spare not counted.

    Raises:
        CostsError: none is left without them.
    """
    serving = nodes - demand.spare
    if serving < 1:
        raise CostsError(f"of {nodes} machines {demand.spare} are to spare: at least {demand.spare + 1} are needed")
    return serving * demand.cores * rate_each


def rows_of(sizings: Sequence[Sizing]) -> list[tuple[str, list[str]]]:
    """Return the lines of a table, each a title and a value for each sizing."""
    lines: list[tuple[str, Callable[[Sizing], str]]] = [
        ("requests/s", lambda s: f"{s.rate:,.0f}"),
        ("requests/s of a core, share of its most", lambda s: f"{s.rate_each:,.0f}, {s.share:.0%}"),
        ("cores that serve", lambda s: f"{s.workers:,}"),
        ("machines, with those to spare", lambda s: f"{s.nodes:,}"),
        ("memory, GB, and of a machine", lambda s: f"{s.memory:,.1f}, {s.memory_each:.2f}"),
        ("network in and out, MB/s", lambda s: f"{s.received:,.1f}, {s.sent:,.1f}"),
        ("captured rows/s, left out", lambda s: f"{s.captured:,.0f}, {s.dropped:.0%}"),
        ("events to the monitor, MB/s", lambda s: f"{s.events:,.1f}"),
        ("database, GB/day, and kept", lambda s: f"{_or_dash(s.stored, '.1f')}, {_or_dash(s.kept, '.0f')}"),
        ("callers that store at once", lambda s: _or_dash(s.monitors, ".1f")),
        ("time series, samples/s", lambda s: f"{s.series:,}, {s.samples:,.0f}"),
        ("Prometheus: memory, GB; disk, GB/day", lambda s: f"{s.prometheus:,.2f}; {s.prometheus_disk:,.2f}"),
        ("looks at the registry, 1/s", lambda s: f"{s.looks:,.0f}"),
        ("start of a worker, s", lambda s: f"{s.start:.1f}"),
    ]
    return [(title, [text(sizing) for sizing in sizings]) for title, text in lines]


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, f",{form}")
