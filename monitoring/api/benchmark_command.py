"""The command that measures how many rows a second go into PostgreSQL."""

from typing import Annotated

import typer

from serving import command_line
from serving.command_line import CACHE, Cache, console, fail
from serving.registry import ArchiveError
from serving.store.opening import open_registry


def bench_events_command(
    database: Annotated[str, typer.Argument(help="URL of an empty database of PostgreSQL, which is empty afterwards.")],
    model: Annotated[str, typer.Option(help="Whose rows: a recipe with a timeline, and a champion.")] = "flights",
    rows: Annotated[int, typer.Option(min=500, help="That each process writes in a round.")] = 20_000,
    processes: Annotated[int, typer.Option(min=1, max=64, help="That write at once.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Of all ways, in changing order.")] = 5,
    cache: Cache = CACHE,
) -> None:
    """Measure how many rows a second go into PostgreSQL: by INSERT, by COPY, and as events that are checked first."""
    from monitoring.api.benchmark import Load, NotEmptyError, measure
    from monitoring.calibration.timeline import timeline
    from monitoring.store.database import DatabaseError, database_url
    from training import recipes
    from training.data import DataError

    settings = command_line.settings()
    try:
        year = timeline(recipes.ready(model), open_registry(settings), cache)
        predictions = [labelled.prediction for labelled in year.labelled(0, min(rows, len(year.rows)))]
        url = database_url({"DATABASE_URL": database}, settings.run_dir)
        load = Load(url, predictions, rows, processes, settings.model_store)
        rates = measure(load, rounds, lambda text: console.print(text, markup=False))
    except (ArchiveError, DatabaseError, DataError, KeyError, NotEmptyError, ValueError) as error:
        fail(error)
    console.print(f"{processes} processes, {rows:,} rows of {model} each, {rounds} rounds\n", markup=False)
    console.print(rates.markdown(), markup=False)
