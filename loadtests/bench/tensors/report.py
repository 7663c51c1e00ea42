"""The results as a chart and as Markdown, written between the marks of a page whose prose survives."""

import statistics
from pathlib import Path

from loadtests.bench.page import draw_bars, goals_table, head, missing_table, span, times, versions_line
from loadtests.bench.results import Spread, ratio, spread
from loadtests.bench.tensors.contenders import WORKLOADS
from loadtests.bench.tensors.goals import goals
from loadtests.bench.tensors.results import Results, p50, per_second
from training.figures.picture import beside, picture
from training.figures.text import Marks, put, table

MARKS = Marks("<!-- bench: from here written by `make bench` -->", "<!-- bench: until here -->", "Performance")
COMPARED = ("flights", "fashion", "fashion-int")
# Packages whose versions are printed; results.json has all.
NAMED = {
    "fastapi",
    "uvicorn",
    "onnxruntime",
    "torchserve",
    "torch",
    "mlserver",
    "litserve",
    "bentoml",
    "ray",
    "mosec",
    "orjson",
}
FORMATS = ("fashion", "fashion-int", "fashion-png", "fashion-v2")
DRAWN = ("flights", "fashion")


def write_page(results: Results, page: Path) -> str:
    """Put the tables between the marks of a page, or at its end, and the chart beside it; return the tables.

    Raises:
        ValueError: only one of the marks is there.
    """
    tables = markdown(results)
    put(tables, page, MARKS)
    draw_chart(results, beside(page))
    return tables


def draw_chart(results: Results, path: Path) -> None:
    """Draw requests a second of each server as a PNG, one panel a workload."""
    with picture(path, 13, 4.8) as figure:
        for axes, workload in zip(figure.subplots(1, len(DRAWN)), DRAWN, strict=True):
            bars: list[tuple[str, bool, Spread]] = []
            for name, title in results.titles.items():
                rate = spread(results.loads(name, workload, results.plan.clients), per_second)
                if rate and name != "marloop-bare":
                    bars.append((title, name.startswith("marloop"), rate))
            bars.sort(key=lambda bar: bar[2].median)
            draw_bars(axes, bars, "requests/s")
            # The title ends where the bars do: centred over them it would be cut at the picture's edge.
            axes.set_title(f"{WORKLOADS[workload][0]}, {results.plan.clients} clients", loc="right", fontsize="medium")


def markdown(results: Results) -> str:
    """Return all tables."""
    parts = [_head(results), goals_table(goals(results))]
    parts += [_workload(results, name) for name in COMPARED]
    parts += [_formats(results), _ceilings(results), missing_table(results, "server"), versions_line(_named(results))]
    return "\n".join(part for part in parts if part)


def _head(results: Results) -> str:
    plan, machine = results.plan, results.machine
    paragraphs = [
        f"Measured on {results.started[:10]}, {machine['processor']}, {machine['cores']} cores "
        f"shared by server and load, {machine['memory']} of memory, {machine['system']}, Python {machine['python']}.",
        f"wrk, one thread, 64 different requests in turn; {plan.rounds} rounds, in each every server in turn: "
        "started, its answers compared with the others', "
        f"warmed for {plan.warm_up:g} s ({plan.change:g} s before a further kind of request), "
        f"measured for {plan.seconds:g} s, stopped. "
        "Medians over the rounds, the smallest and largest in brackets; a ratio is taken within a round.",
        "![requests a second](pictures/performance.png)",
    ]
    return head(plan.rounds, paragraphs)


def _workload(results: Results, workload: str) -> str:
    what, model = WORKLOADS[workload]
    plan = results.plan
    rows = []
    for name, title in results.titles.items():
        many, single = results.loads(name, workload, plan.clients), results.loads(name, workload, 1)
        if not (many or single):
            continue
        marloop = results.loads("marloop", workload, plan.clients)
        errors = results.loads(name, workload, plan.many)
        standing = results.standing(name, model)
        rows.append(
            (
                title,
                span(spread(many, per_second), 0),
                "" if name == "marloop" else times(ratio(marloop, many, per_second)),
                _milliseconds(results, name, workload),
                span(spread(single, p50), 2),
                f"{sum(load.errors for load in errors.values()):,}" if errors else "–",
                f"{standing.memory:,.0f}" if standing else "–",
                str(standing.bad_input or "–") if standing else "–",
            )
        )
    if not rows:
        return ""
    columns = (
        "server",
        f"requests/s, {plan.clients} clients",
        "Marloop is faster by",
        "p50 / p99, ms",
        "1 client: p50, ms",
        f"errors, {plan.many} clients",
        "memory, MB",
        "bad input gets",
    )
    return f"### `{workload}`: {what}\n\n" + table(columns, rows)


def _formats(results: Results) -> str:
    clients = results.plan.clients
    json = results.loads("marloop", "fashion", clients)
    rows = []
    for name in FORMATS:
        loads = results.loads("marloop", name, clients)
        if loads:
            against = "" if name == "fashion" else times(ratio(loads, json, per_second))
            rows.append((WORKLOADS[name][0], span(spread(loads, per_second), 0), against))
    columns = ("Marloop", f"requests/s, {clients} clients", "against JSON floats")
    return "### Formats of a picture\n\n" + table(columns, rows) if rows else ""


def _ceilings(results: Results) -> str:
    ping = spread(results.loads("marloop", "ping", results.plan.clients), per_second)
    rows = [("GET /ping through the same frontend", span(ping, 0))] if ping else []
    rows += [
        (f"one process without a server, batches of 64: {WORKLOADS[name][0]}", f"{value:,.0f}")
        for name, value in results.ceilings.items()
    ]
    return "### Ceilings\n\n" + table(("what", "requests/s"), rows) if rows else ""


def _named(results: Results) -> set[str]:
    packages = {line for lines in results.versions.values() for line in lines}
    return {line for line in packages if line.lower().partition("==")[0] in NAMED}


def _milliseconds(results: Results, name: str, workload: str) -> str:
    loads = results.loads(name, workload, results.plan.clients).values()
    if not loads:
        return "–"
    return f"{statistics.median(load.p50 for load in loads):.1f} / {statistics.median(load.p99 for load in loads):.1f}"
