"""The results as Markdown, written between markers of a page whose prose survives."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from loadtests.bench.tensors.contenders import WORKLOADS
from loadtests.bench.tensors.goals import Goal, goals, times
from loadtests.bench.tensors.results import Results, p50, per_second, ratio, spread
from training.figures.text import Marks, put, table

MARKS = Marks("<!-- bench: from here written by `make bench` -->", "<!-- bench: until here -->", "Performance")
COMPARED = ("flights", "fashion", "fashion-int")
# Packages whose versions are printed; results.json has all.
NAMED = {"fastapi", "uvicorn", "onnxruntime", "torchserve", "torch", "mlserver", "litserve", "bentoml", "ray", "orjson"}
FORMATS = ("fashion", "fashion-int", "fashion-png", "fashion-v2")


def write(results: Results, page: Path) -> None:
    """Put the tables between the markers of a page; one without markers gets them at its end.

    Raises:
        ValueError: only one of the markers is there.
    """
    put(markdown(results), page, MARKS)


def markdown(results: Results) -> str:
    """All tables."""
    parts = [_head(results), goals_table(goals(results))]
    parts += [_workload(results, name) for name in COMPARED]
    parts += [_formats(results), _ceilings(results), _absent(results), _versions(results)]
    return "\n".join(part for part in parts if part)


def _head(results: Results) -> str:
    plan, machine = results.plan, results.machine
    lines = [
        f"Measured on {results.started[:10]}, {machine['processor']}, {machine['cores']} cores "
        f"shared by server and load, {machine['memory']} of memory, {machine['system']}, Python {machine['python']}.",
        "",
        f"wrk, one thread, 64 different requests in turn; {plan.rounds} rounds, in each every server in turn: "
        "started, its answers compared with the others', "
        f"warmed for {plan.warm_up:g} s ({plan.change:g} s before a further kind of request), "
        f"measured for {plan.seconds:g} s, stopped. "
        "Medians over the rounds, the smallest and largest in brackets; a ratio is taken within a round.",
        "",
        "![requests a second](performance.png)",
        "",
    ]
    return quick(plan.rounds) + "\n".join(lines)


def quick(rounds: int) -> str:
    """A word of warning about figures of few rounds; empty for others."""
    return "" if rounds >= 3 else "**A quick check, too short for figures to rely on.**\n\n"


def goals_table(goals: Sequence[Goal]) -> str:
    """Goals with their bounds and what was measured."""
    words = {True: "yes", False: "**no**", None: "not measured"}
    rows = [(goal.text, goal.bound, goal.measured, words[goal.met]) for goal in goals]
    return "### Goals\n\n" + table(("goal", "bound", "measured", "met"), rows)


def _workload(results: Results, workload: str) -> str:
    what, model = WORKLOADS[workload]
    plan = results.plan
    rows = []
    for name, title in results.titles.items():
        many, one = results.loads(name, workload, plan.clients), results.loads(name, workload, 1)
        if not (many or one):
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
                span(spread(one, p50), 2),
                f"{sum(load.errors for load in errors.values()):,}" if errors else "–",
                f"{standing.memory:,.0f}" if standing else "–",
                str(standing.bad_input or "–") if standing else "–",
            )
        )
    if not rows:
        return ""
    head = (
        "server",
        f"requests/s, {plan.clients} clients",
        "Marloop is faster by",
        "p50 / p99, ms",
        "1 client: p50, ms",
        f"errors, {plan.many} clients",
        "memory, MB",
        "bad input gets",
    )
    return f"### `{workload}`: {what}\n\n" + table(head, rows)


def _formats(results: Results) -> str:
    clients = results.plan.clients
    json = results.loads("marloop", "fashion", clients)
    rows = []
    for name in FORMATS:
        loads = results.loads("marloop", name, clients)
        if loads:
            against = "" if name == "fashion" else times(ratio(loads, json, per_second))
            rows.append((WORKLOADS[name][0], span(spread(loads, per_second), 0), against))
    head = ("Marloop", f"requests/s, {clients} clients", "against JSON floats")
    return "### Formats of a picture\n\n" + table(head, rows) if rows else ""


def _ceilings(results: Results) -> str:
    ping = spread(results.loads("marloop", "ping", results.plan.clients), per_second)
    rows = [("GET /ping through the same frontend", span(ping, 0))] if ping else []
    rows += [
        (f"one process without a server, batches of 64: {WORKLOADS[name][0]}", f"{value:,.0f}")
        for name, value in results.ceilings.items()
    ]
    return "### Ceilings\n\n" + table(("what", "requests/s"), rows) if rows else ""


def _absent(results: Results) -> str:
    rows = [(results.titles.get(name, name), " ".join(why.split())[:400]) for name, why in results.absent.items()]
    return "### Missing\n\n" + table(("server", "why"), rows) if rows else ""


def _versions(results: Results) -> str:
    found = {line for lines in results.versions.values() for line in lines if line.lower().partition("==")[0] in NAMED}
    return f"Versions: {', '.join(sorted(found, key=str.lower))}.\n" if found else ""


def _milliseconds(results: Results, name: str, workload: str) -> str:
    loads = results.loads(name, workload, results.plan.clients).values()
    if not loads:
        return "–"
    return f"{statistics.median(load.p50 for load in loads):.1f} / {statistics.median(load.p99 for load in loads):.1f}"


def span(found: tuple[float, float, float] | None, digits: int) -> str:
    """A median with its smallest and largest round."""
    if found is None:
        return "–"
    median, low, high = (f"{value:,.{digits}f}" for value in found)
    return f"{median} ({low}–{high})"
