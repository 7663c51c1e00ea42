"""The commands that measure how often quality and drift alarm."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from serving import command_line
from serving.command_line import CACHE, Cache, console, fail
from serving.registry import ArchiveError
from serving.settings import ROOT
from serving.store.opening import open_registry

SUMMER = (datetime(2013, 5, 1), datetime(2013, 10, 1))  # of the flights, when the winds are not those of winter


def calibrate_command(
    model: Annotated[str, typer.Argument(help="Name of a recipe with a timeline.")],
    since: Annotated[datetime, typer.Option(help="Begin of the period that has drifted.")] = SUMMER[0],
    until: Annotated[datetime, typer.Option(help="Its end.")] = SUMMER[1],
    windows: Annotated[int, typer.Option(min=1, help="That are drawn from each period.")] = 200,
    output: Annotated[Path, typer.Option(help="Folder for the result.")] = ROOT / "docs" / "practices",
    cache: Cache = CACHE,
) -> None:
    """Measure how many windows of a real year alarm, before and after the world has moved on."""
    from monitoring.calibration.calibrate import calibrate, draw_alarms
    from monitoring.calibration.timeline import timeline
    from training import recipes
    from training.data import DataError
    from training.figures.picture import beside
    from training.improve.practices import document

    settings = command_line.settings()
    try:
        year = timeline(recipes.ready(model), open_registry(settings), cache)
        period = (since.replace(tzinfo=UTC), until.replace(tzinfo=UTC))
        result = calibrate(year, *period, windows, step=lambda text: console.print(f"[bold]{model}[/bold]: {text}"))
    except (ArchiveError, DataError, KeyError, ValueError) as error:
        fail(error)
    path = document.write_result(result, output)
    draw_alarms(result, beside(path))
    console.print(result.markdown(), markup=False)
    console.print(f"written: {path}", markup=False)


def false_alarms_command(
    streams: Annotated[list[str] | None, typer.Argument(help="Of them; default: all.")] = None,
    windows: Annotated[int, typer.Option(min=2, help="That are drawn for each span and number of rows.")] = 100,
    output: Annotated[Path, typer.Option(help="Page whose table is written anew.")] = ROOT / "docs" / "calibration.md",
    cache: Cache = CACHE,
) -> None:
    """Count how often quality and drift alarm where nothing changed, by time and rows, on real and made-up streams."""
    from monitoring.calibration import false_alarms
    from monitoring.calibration.streams import STREAMS
    from training.data import DataError

    settings = command_line.settings()
    try:
        if unknown := set(streams or ()) - STREAMS.keys():
            raise ValueError(f"no stream {', '.join(sorted(unknown))}; there are {', '.join(STREAMS)}")
        registry = open_registry(settings)
        opened = {name: STREAMS[name](registry, cache) for name in streams or STREAMS}
    except (ArchiveError, DataError, KeyError, ValueError) as error:
        fail(error)
    cells = false_alarms.measure_cells(opened, windows, lambda text: console.print(text, markup=False))
    console.print(false_alarms.markdown(cells), markup=False)
    false_alarms.write_table(cells, output)
    console.print(f"written: {output}", markup=False)
