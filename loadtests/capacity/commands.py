"""``marloop capacity``: measure what a model costs, and reckon and simulate what a fleet of it can do."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from loadtests.capacity.costs import Costs, CostsError, require_simulation
from serving.command_line import Json, console, fail
from serving.processes import StartError
from serving.registry import ArchiveError
from serving.settings import ROOT, Settings

HELP = "Measure what a model costs, and say how many machines a load takes: measure, check, plan, simulate."
app = typer.Typer(no_args_is_help=True, help=HELP)
REPORTS = Path(__file__).parents[1] / "reports"
Model = Annotated[str, typer.Option(help="Name of a model of the registry.")]
Rows = Annotated[int, typer.Option(min=1, help="Rows of a request.")]
CostsFile = Annotated[
    Path | None,
    typer.Option("--costs", help="What `measure` wrote.", show_default="loadtests/reports/capacity-MODEL-ROWS.json"),
]


@app.command("measure")
def measure_command(
    model: Model = "flights",
    rows: Rows = 1,
    seconds: Annotated[
        float, typer.Option("--time", min=1, help="Length of each of five loads, which come three times.")
    ] = 2.0,
    database: Annotated[
        str, typer.Option(help="URL of an empty database for the monitor; without: a file of SQLite.")
    ] = "",
    monitor: Annotated[bool, typer.Option(help="Measure what the monitor takes, too.")] = True,
    output: CostsFile = None,
) -> None:
    """Measure what a model costs on this machine: CPU time, bytes, memory, start, and what is captured of it.

    It takes a minute, and a host and a monitor of its own; what runs already goes on. It needs wrk.
    """
    from loadtests.capacity.measurement import measure

    path = _costs_path(output, model, rows)
    with _failing():
        costs = measure(_store(), model, rows, seconds, database if monitor else None, _say)
        costs.write(path)
    for line in costs.describe():
        _say(line)
    _say(f"written to {path}")


@app.command("check")
def check_command(
    model: Model = "flights",
    rows: Rows = 1,
    costs_file: CostsFile = None,
    seconds: Annotated[
        float, typer.Option("--time", min=1, help="Length of each of six loads, which come three times.")
    ] = 4.0,
) -> None:
    """Ask one worker at several rates, and compare its latency with what the simulation predicts from its costs."""
    with _failing():
        require_simulation()
        from loadtests.capacity.alone import serve_alone
        from loadtests.capacity.prediction import compare, table_of
        from training.figures.text import table

        costs = Costs.read(_costs_path(costs_file, model, rows))
        with serve_alone(_store(), costs.model, {"CAPTURE_URL": "off"}) as alone:
            found = compare(alone, costs, seconds, _say)
    _say(table(*table_of(found.rates)).rstrip())
    behind = max(comparison.late for comparison in found.rates)
    if behind > 0.1:
        _say(f"the client was {behind:.1f} s behind: more rows a request leave it more of the machine")


@app.command("plan")
def plan_command(
    rate: Annotated[list[float] | None, typer.Option(min=0.001, help="Requests a second at the peak.")] = None,
    nodes: Annotated[list[int] | None, typer.Option(min=1, help="Machines, in place of a rate.")] = None,
    p99_ms: Annotated[float, typer.Option(min=0.01, help="99 of 100 answers come within so many ms.")] = 50.0,
    model: Model = "flights",
    rows: Rows = 1,
    costs_file: CostsFile = None,
    cores: Annotated[int, typer.Option(min=1, help="Cores of a machine.")] = 8,
    spare: Annotated[int, typer.Option(min=0, help="Machines that may be lost at once.")] = 1,
    sample: Annotated[float, typer.Option(min=0, max=1, help="Share of the rows that is captured.")] = 1.0,
    labelled: Annotated[float, typer.Option(min=0, max=1, help="Share of these whose truth comes.")] = 1.0,
    days: Annotated[int, typer.Option(min=1, help="Days for which captured rows are kept.")] = 90,
    as_json: Json = False,
) -> None:
    """How many cores, machines, bytes and rows do requests a second take, or what do so many machines answer?"""
    with _failing():
        require_simulation()
        from loadtests.capacity.page import plan, plan_table
        from loadtests.capacity.sizing import Demand

        if not rate and not nodes:
            raise CostsError("--rate or --nodes says what is to be planned")
        costs = Costs.read(_costs_path(costs_file, model, rows))
        bound = p99_ms / 1000
        demand = Demand(rate=0, p99=bound, cores=cores, spare=spare, sample=sample, labelled=labelled, days=days)
        sizings = plan(costs, demand, rate or [], nodes or [])
    if as_json:
        typer.echo(msgspec.json.encode(sizings))
        return
    _say(plan_table(costs, demand, sizings).rstrip())


@app.command("page")
def page_command(
    model: Model = "flights",
    page: Annotated[
        Path, typer.Option(help="Page whose figures are written anew.", show_default="docs/machines/scale.md")
    ] = ROOT / "docs" / "machines" / "scale.md",
) -> None:
    """Measure, check and plan, three minutes on a quiet machine, and write the figures into docs/machines/scale.md."""
    with _failing():
        require_simulation()
        from loadtests.capacity.page import write_page

        write_page(_store(), model, page, _say)
    _say(f"written to {page}")


@app.command("simulate")
def simulate_command(
    scenario_file: Annotated[Path, typer.Option("--scenario", help="File of the scenario, JSON.")],
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE, a value of the scenario, such as cluster.start=60.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs, each with a seed of its own.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the first run.")] = 0,
    chart: Annotated[Path | None, typer.Option(help="PNG for the course of the first run.")] = None,
    as_json: Json = False,
) -> None:
    """Simulate a fleet with its balancer, autoscaler, deploys and lost nodes, over a course of traffic."""
    with _failing():
        require_simulation()
        from loadtests.capacity.simulation.changes import read_scenario
        from loadtests.capacity.simulation.fleet import simulate
        from loadtests.capacity.simulation.results import describe

        scenario = read_scenario(scenario_file, changes or [])
        done = [simulate(scenario, seed + number) for number in range(runs)]
    if chart:
        from loadtests.capacity.chart import draw_course

        draw_course(done[0], scenario, chart)
        _say(f"chart: {chart}")
    if as_json:
        typer.echo(msgspec.json.encode(done))
        return
    for line in describe(done, scenario.bound):
        _say(line)


@contextmanager
def _failing() -> Iterator[None]:
    """End with a sentence and code 2 where a command cannot go on, and with 130 after Ctrl-C."""
    from loadtests.wrk import WrkError

    try:
        yield
    except (ArchiveError, StartError, WrkError, ValueError) as error:  # errors of costs and scenarios are the latter
        fail(error, code=2)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _store() -> Path:
    return Settings.from_environment(os.environ).model_store


def _costs_path(path: Path | None, model: str, rows: int) -> Path:
    return path or REPORTS / f"capacity-{model}-{rows}.json"


def _say(text: str) -> None:
    console.print(text, markup=False)
