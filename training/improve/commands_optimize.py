"""The command ``optimize``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from serving.command_line import CACHE, RUNS, STORE, Cache, Runs, Store, console, fail, registry_at, telling
from serving.registry import ArchiveError
from serving.settings import ROOT, Folders
from training.improve.commands_figures import GivenData, GivenTarget

if TYPE_CHECKING:
    from training.improve.optimize.result import Optimization


def optimize_command(
    model: Annotated[str, typer.Argument(help="Name of the model whose champion is optimized.")],
    max_drop: Annotated[
        float,
        typer.Option(min=0, help="Points that the deciding metric may be worse: hundredths, or percent of an error."),
    ] = 0.5,
    prune: Annotated[
        list[float] | None, typer.Option(min=0, max=0.95, help="Share of channels to remove; may be repeated; 0: none.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Of fine-tuning; default: half of the champion's.")] = None,
    promote: Annotated[
        Literal["auto", "always", "never"], typer.Option(help="When the choice becomes champion.")
    ] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only measure; register nothing.")] = False,
    seconds: Annotated[float, typer.Option(min=0, help="Of timing, for each variant and size of batch.")] = 1.0,
    threads: Annotated[int, typer.Option(min=1, help="Of one operator while timing.")] = 1,
    output: Annotated[Path, typer.Option(help="Folder for the figures and the picture.")] = ROOT / "docs/practices",
    data: GivenData = None,
    target: GivenTarget = "",
    store: Store = STORE,
    cache: Cache = CACHE,
    runs: Runs = RUNS,
) -> None:
    """Quantize, prune and distil the champion; the fastest variant that is good enough takes its place."""
    # These imports take seconds, which --help should not.
    from training.champion.imported import GivenRows, champion_source
    from training.data import DataError
    from training.figures.picture import beside
    from training.improve.optimize import flow, result, students
    from training.improve.practices.document import write_result
    from training.packaging.export import ParityError

    try:
        options = flow.OptimizeOptions(
            max_drop=max_drop,
            shares=students.SHARES if prune is None else tuple(share for share in prune if share),
            epochs=epochs,
            promote=promote,
            dry_run=dry_run,
            seconds=seconds,
            threads=threads,
        )
        registry = registry_at(store)
        source = champion_source("optimize", model, registry, cache, GivenRows(data, target))
        outcome = flow.optimize(source, registry, Folders(cache, runs), options, telling(model))
        document = write_result(outcome.result, output)
        result.draw_optimization(outcome.result, beside(document))
    except (KeyError, ValueError, DataError, ParityError, ArchiveError) as error:
        fail(error)
    except KeyboardInterrupt:
        console.print("interrupted; the model store is as it was")
        raise typer.Exit(130) from None
    _print(outcome.result)
    console.print(f"written: {document}, {beside(document)}", markup=False)
    if registered := outcome.registered:
        console.print(f"{registered.archive}: {registered.state} ({registered.why})", markup=False)


def _print(result: "Optimization") -> None:
    head, *rows = result.brief()
    table = Table(title=f"{result.model} {result.version}, {result.held_out:,} held-out rows")
    for i, column in enumerate(head):
        outer = i in (0, len(head) - 1)  # in words, which may wrap
        table.add_column(
            column, justify="left" if outer else "right", no_wrap=not outer, min_width=8 if outer else None
        )
    for row in rows:
        table.add_row(*row)
    console.print(table)
    for name, why in result.left_out.items():
        console.print(f"not made: {name} ({why})", markup=False)
    console.print(result.verdict, markup=False)
