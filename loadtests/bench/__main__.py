"""``python -m loadtests.bench``: Marloop side by side with what a user would pick instead.

Each peer is a small server in an environment of its own, made on demand under ``.bench/``, with the champion's graph
and the same answers. It takes about forty minutes on two cores, and the machine should have nothing else to do.
"""

import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.console import Console

from loadtests import wrk
from loadtests.bench.machine import machine
from loadtests.bench.tensors import chart, contenders, extremes, marloop, report
from loadtests.bench.tensors.contenders import MODELS, Contender
from loadtests.bench.tensors.results import QUICK, Plan, Results
from loadtests.bench.tensors.turns import Bench
from serving import command_line, documents
from serving.registry import ArchiveError, Registry
from serving.settings import ROOT, Settings

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
console = Console(highlight=False, soft_wrap=True)
PAGE = ROOT / "docs" / "performance.md"


@app.command(help=__doc__)
def bench(
    quick: Annotated[bool, typer.Option("--quick", help="One short round: does everything work?")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Only this contender; may be repeated.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds.")] = Plan().rounds,
    seconds: Annotated[float, typer.Option(min=1, help="Seconds of each measurement.")] = Plan().seconds,
    soak: Annotated[float, typer.Option(help="Seconds of load under which memory is watched; 0: none.")] = 0,
    page: Annotated[Path, typer.Option(help="Page for the tables; the chart lies beside it.")] = PAGE,
    again: Annotated[Path | None, typer.Option(help="Write the page of an earlier run from its results.json.")] = None,
) -> None:
    """Measure, and write the page."""
    # However it is ended, it stops what it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if again:
            _write(msgspec.json.decode(again.read_bytes(), type=Results), page)
            return
        plan = msgspec.structs.replace(QUICK, soak=soak) if quick else Plan(rounds, seconds, soak=soak)
        _write(_measure(plan, set(only or [])), page)
    except (wrk.WrkError, ArchiveError, OSError, ValueError) as error:
        _fail(error)
    except KeyboardInterrupt:
        console.print("interrupted; everything that was started is stopped")
        raise typer.Exit(130) from None


def _measure(plan: Plan, only: set[str]) -> Results:
    wrk.find()
    chosen = _chosen(only)
    registry = Registry(Settings.from_environment(os.environ).model_store)
    missing = [model for model in MODELS if model not in registry.champions()]
    if missing:
        raise ArchiveError(f"{', '.join(missing)} has no champion in {registry.store}: run `make up` once")
    root = ROOT / ".bench"
    models = {model: marloop.unpack(registry, model, root / "models" / model) for model in MODELS}
    started = datetime.now(UTC)
    folder = ROOT / "loadtests" / "reports" / f"{started:%Y%m%d-%H%M%S}-bench"
    folder.mkdir(parents=True)
    results = Results(
        started.isoformat(timespec="seconds"),
        plan,
        machine(),
        {one.name: one.what for one in chosen},
        {model: dict(marloop.serving_settings(path)) for model, path in models.items()},
    )

    def save() -> None:
        documents.write(folder / "results.json", results, Results, private=False)

    run = Bench(results, models, lambda text: console.print(text, markup=False), save)
    run.run(chosen)
    ours = next((one for one in chosen if one.name == "marloop"), None)
    if ours and "marloop" not in results.absent:
        run.ceilings(ours)
        console.print("past the queue's capacity, cold start, memory")
        exchange = run.exchange(ours, "flights")
        results.extremes = extremes.measure(models["flights"], exchange, plan)
    save()
    console.print(f"raw results: {folder / 'results.json'}")
    return results


def _chosen(only: set[str]) -> list[Contender]:
    known = [*contenders.marloops(), *contenders.peers(ROOT / ".bench")]
    unknown = only - {one.name for one in known}
    if unknown:
        names = ", ".join(one.name for one in known)
        raise ValueError(f"no contender is called {', '.join(sorted(unknown))}; there are {names}")
    return [one for one in known if not only or one.name in only]


def _write(results: Results, page: Path) -> None:
    report.write(results, page)
    chart.draw(results, page.with_suffix(".png"))
    console.print(report.markdown(results), markup=False)
    console.print(f"written to {page} and {page.with_suffix('.png')}")


def _fail(error: Exception) -> NoReturn:
    console.print("[red]error:[/red]", end=" ")
    console.print(str(error.args[-1] if error.args else error), markup=False)
    raise typer.Exit(1) from None


if __name__ == "__main__":
    command_line.run(app, "python -m loadtests.bench")
