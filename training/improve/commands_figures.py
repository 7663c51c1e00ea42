"""The commands that show what a training is worth: ``learning-curve``, ``report`` and ``practices``."""

from pathlib import Path
from typing import Annotated

import typer

from serving.command_line import CACHE, RUNS, STORE, Cache, Runs, Store, console, fail, registry_at, telling
from serving.registry import ArchiveError
from serving.settings import ROOT, Folders

GivenData = Annotated[Path | None, typer.Option("--data", help="Of an imported model: rows as CSV or Parquet.")]
GivenTarget = Annotated[str, typer.Option("--target", help="Column of these rows that holds the truth.")]


def learning_curve_command(
    model: Annotated[str, typer.Argument(help="Name of a recipe whose hyperparameters have `rows`.")],
    preset: Annotated[str | None, typer.Option(help="Hyperparameters by name; default: the recipe's first.")] = None,
    rows: Annotated[list[int] | None, typer.Option(min=1, help="A size; may be repeated.")] = None,
    metric: Annotated[str | None, typer.Option(help="What is shown; default: the one that decides.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for the figures as JSON and PNG.")] = ROOT / "docs/practices",
    cache: Cache = CACHE,
    runs: Runs = RUNS,
) -> None:
    """Train on ever more rows, pretrained and from scratch, and show what each is worth; interrupted, it goes on."""
    from training import recipes
    from training.data import DataError
    from training.figures.picture import beside
    from training.improve import learning_curve
    from training.improve.practices import document

    try:
        options = learning_curve.CurveOptions(preset, rows or learning_curve.SIZES, metric)
        curve = learning_curve.learning_curve(recipes.ready(model), Folders(cache, runs), options, telling(model))
    except (KeyError, ValueError, DataError) as error:
        fail(error)
    learning_curve.print_curve(curve, console)
    text = document.write_result(curve, output)
    picture = beside(text)
    learning_curve.draw_curve(curve, picture)
    console.print(f"written: {text}, {picture}", markup=False)


def report_command(
    model: Annotated[str, typer.Argument(help="Name of the model whose champion is measured.")],
    output: Annotated[Path | None, typer.Option(help="Folder for the figures as JSON, such as docs/practices.")] = None,
    data: GivenData = None,
    target: GivenTarget = "",
    store: Store = STORE,
    cache: Cache = CACHE,
) -> None:
    """Measure the champion's archive again on the held-out rows, and write its page anew."""
    from training.champion.imported import GivenRows, champion_source
    from training.data import DataError
    from training.improve.practices import document
    from training.report.champion import champion_report

    try:
        registry = registry_at(store)
        source = champion_source("report", model, registry, cache, GivenRows(data, target))
        report = champion_report(source, registry)
    except (KeyError, ValueError, DataError, ArchiveError) as error:
        fail(error)
    console.print(f"{report.page}: how good it is, and where it errs", markup=False)
    if output:
        console.print(f"written: {document.write_result(report.result, output)}", markup=False)


def practices_command(
    docs: Annotated[Path, typer.Option(help="Folder of practices.md and of practices/, the figures.")] = ROOT / "docs",
) -> None:
    """Write docs/practices.md from the figures that the other commands left."""
    from training.improve.practices import document

    try:
        page = document.write_page(docs)
    except ValueError as error:
        fail(error)
    console.print(f"written: {page}", markup=False)
