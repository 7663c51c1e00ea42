"""The command that replays a year."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from serving.command_line import CACHE, Cache, console, fail
from serving.settings import ROOT
from serving.supervision.companion import monitor

YEAR = (datetime(2013, 1, 1), datetime(2014, 1, 1))


def replay_command(
    since: Annotated[datetime, typer.Option("--from", help="The first day.")] = YEAR[0],
    until: Annotated[datetime, typer.Option("--to", help="The day after the last.")] = YEAR[1],
    share: Annotated[float, typer.Option(min=0.001, max=1, help="Of the flights, drawn at random.")] = 1.0,
    folder: Annotated[
        Path, typer.Option(help="For all that it makes; what an earlier replay left there is removed.")
    ] = ROOT / "runs" / "replay",
    output: Annotated[
        Path | None, typer.Option(help="Folder for table, figures and picture, such as docs; default: --folder.")
    ] = None,
    cache: Cache = CACHE,
) -> None:
    """Live through the flights of 2013 with a copy of the whole service: never retrained, and on the loop."""
    from monitoring.replay import page
    from monitoring.replay.run import Period, replay
    from monitoring.replay.stack import ReplayError
    from training.data import DataError

    def say(text: str) -> None:
        console.print(text, markup=False)

    folder, period = folder.resolve(), Period("flights", since.date(), until.date(), share)
    try:
        result, why = replay(period, folder, cache.resolve(), monitor, say)
    except (DataError, ReplayError, ValueError) as error:
        fail(error)
    if result:
        console.print(result.markdown(), markup=False)
    if why:
        fail(ReplayError(f"{why}; started again, it begins anew"))
    if result:
        for path in page.write_replay(result, output or folder):
            console.print(f"written: {path}", markup=False)
