"""The measured part of docs/machines/scale.md: what a model costs, how well that predicts, and machines for it."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from msgspec.structs import replace

from loadtests.capacity.alone import serve_alone
from loadtests.capacity.costs import Costs, CostsError
from loadtests.capacity.measurement import measure
from loadtests.capacity.prediction import Comparison, compare, p99_of, table_of
from loadtests.capacity.sizing import Demand, Sizing, highest_rate, rate_of, rows_of, size
from training.figures.text import Marks, put, table

MARKS = Marks("<!-- capacity: from here written by `marloop capacity page` -->", "<!-- capacity: until here -->")
MANY = 256  # rows of the requests that are compared: they leave a client in Python its part of the machine
NODES = (10, 100, 1000)
P99 = 0.02  # s
SECONDS, FEWER = 2.0, 1.0  # s of each load of requests of one row, and of many
COMPARED = 3.0  # s of each rate
Say = Callable[[str], None]


def write_page(store: Path, model: str, page: Path, say: Say) -> None:
    """Measure a model, compare a real worker with the simulation, and write that and a plan between a page's marks.

    Raises:
        ArchiveError: the model has no champion, or its archive is not as registered.
        CostsError: the page has no marks, or the model cannot be measured.
        StartError: a server does not come up.
        WrkError: no load can be made.
    """
    if not page.is_file() or MARKS.begin not in page.read_text(encoding="utf-8"):
        raise CostsError(f"{page} is no page with the mark {MARKS.begin}")
    costs = measure(store, model, 1, SECONDS, "", say)
    many = measure(store, model, MANY, FEWER, None, say)
    with serve_alone(store, model, {"CAPTURE_URL": "off"}) as alone:
        found = compare(alone, many, COMPARED, say)
    put("\n".join(_part(costs, many, found.peak, found.rates)), page, MARKS)


def plan(costs: Costs, demand: Demand, rates: Sequence[float], nodes: Sequence[int]) -> list[Sizing]:
    """Return what each rate takes, and then what each number of machines answers and takes.

    Raises:
        CostsError: the bound of the demand cannot be kept.
    """
    each = highest_rate(costs, demand.p99, p99_of(costs))
    asked = [*rates, *(rate_of(count, demand, each) for count in nodes)]
    return [size(costs, replace(demand, rate=rate), each) for rate in asked]


def plan_table(costs: Costs, demand: Demand, sizings: Sequence[Sizing]) -> str:
    """Return a table with a column for each sizing."""
    head = [f"{costs.model} {costs.version}, p99 {1000 * demand.p99:g} ms", *(f"{s.nodes:,} machines" for s in sizings)]
    return table(head, [[title, *values] for title, values in rows_of(sizings)])


def _part(costs: Costs, many: Costs, share: float, comparisons: Sequence[Comparison]) -> Iterator[str]:
    yield f"\nMeasured on {costs.measured[:10]}, {costs.machine}.\n"
    yield from (f"- {line}" for line in costs.describe())
    yield "\n### Beside a real worker\n"
    yield (
        f"Requests of {MANY} rows, since the client is in Python: a batch takes {1000 * many.batch_seconds:.2f} ms, "
        f"each request {1000 * many.request_seconds:.2f} ms more."
    )
    yield (
        f"{share:.0%} of what the CPU time allows was reached at the peak; the rest went to others on the machine. "
        "The prediction is for a worker that much slower."
    )
    yield "Of three rounds a rate, the one with the least p99.\n"
    yield table(*table_of(comparisons))
    yield "### Machines\n"
    demand = Demand(rate=0, p99=P99)
    yield plan_table(costs, demand, plan(costs, demand, [], NODES))
