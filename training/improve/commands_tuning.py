"""The commands that measure and tune a training: ``ablate`` and ``search``."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer
from rich.markdown import Markdown

from serving.command_line import CACHE, RUNS, Cache, Runs, console, fail, telling
from serving.settings import ROOT, Folders
from training.figures.result import Result

R = TypeVar("R", bound=Result)

Model = Annotated[str, typer.Argument(help="Name of a recipe; `marloop recipes` shows them.")]
Rows = Annotated[int | None, typer.Option(min=2, help="Rows to learn from; default: all.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Of a training; default: the preset's.")]
Seeds = Annotated[int, typer.Option(min=1, help="Trainings of each variant that is compared.")]
Timeout = Annotated[float, typer.Option(min=0, help="Seconds after which no further training begins.")]
Output = Annotated[Path, typer.Option(help="Folder for COMMAND-MODEL.json and pictures.")]
Storage = Annotated[
    str,
    typer.Option(
        help="PostgreSQL that workers on several machines share; default: MARLOOP_SEARCH_STORAGE, else files here."
    ),
]
WAY_ON = "the same command goes on from what is done"


def ablate_command(
    model: Model,
    start: Annotated[list[str] | None, typer.Option(help="Preset to start from; may be repeated.")] = None,
    rows: Rows = None,
    epochs: Epochs = None,
    seeds: Seeds = 3,
    only: Annotated[list[str] | None, typer.Option(help="Text in a practice's name; may be repeated.")] = None,
    timeout: Timeout = math.inf,
    storage: Storage = "",
    output: Output = ROOT / "docs" / "practices",
    cache: Cache = CACHE,
    runs: Runs = RUNS,
) -> None:
    """Measure what each training practice is worth: one at a time, then together."""
    from training import recipes
    from training.data import DataError
    from training.improve import ablate, ablation_plot
    from training.improve.budget import Budget
    from training.improve.sharing.database import StorageError, reachable, storage_url
    from training.improve.sharing.runs import OutOfTimeError

    try:
        budget = Budget(rows, epochs, seeds, timeout=timeout)
        folders, url = Folders(cache, runs), storage_url(storage, os.environ)
        with reachable(url):
            result = ablate.ablate(recipes.ready(model), folders, budget, start or (), only or (), telling(model), url)
    except (KeyError, ValueError, DataError, StorageError) as error:
        fail(error)
    except OutOfTimeError:
        console.print(f"{timeout:.0f} s are over; {WAY_ON}")
        raise typer.Exit(3) from None
    except KeyboardInterrupt:
        _interrupted()
    _write(result, ablation_plot.draw_ablation, output)


def search_command(
    model: Model,
    trials: Annotated[int, typer.Option(min=1, help="That the search shall have, earlier runs included.")] = 30,
    preset: Annotated[str | None, typer.Option(help="To search around; default: the recipe's first.")] = None,
    rows: Rows = None,
    epochs: Epochs = None,
    seeds: Seeds = 3,
    seed: Annotated[int | None, typer.Option(help="Of the sampler; not for several workers at once.")] = None,
    timeout: Timeout = math.inf,
    storage: Storage = "",
    output: Output = ROOT / "docs" / "practices",
    cache: Cache = CACHE,
    runs: Runs = RUNS,
) -> None:
    """Search hyperparameters around a preset; what beats it is written as the preset `found`."""
    from training import recipes
    from training.data import DataError, install

    try:
        import optuna  # noqa: F401
    except ImportError:
        fail(DataError(f"search needs optuna: {install('search')}"))
    from training.improve import search, search_report
    from training.improve.budget import Budget
    from training.improve.sharing.database import StorageError, reachable, storage_url

    try:
        recipe = recipes.ready(model)
        budget = Budget(rows, epochs, seeds, trials, timeout)
        url = storage_url(storage, os.environ)
        with reachable(url):
            result = search.search(recipe, Folders(cache, runs), budget, preset, seed, telling(model), url)
    except (KeyError, ValueError, DataError, StorageError) as error:
        fail(error)
    except KeyboardInterrupt:
        _interrupted()
    _write(result, search_report.draw_search, output)
    if result.better:
        path = search.write_preset(recipe, result.hyperparameters)
        console.print(f"{path}: `marloop train {model} --preset found` uses it", markup=False)
    else:
        console.print(f"the preset {result.preset} stays: with other seeds nothing better was found")


def _write(result: R, plot: Callable[[R, Path], None], folder: Path) -> None:
    """Print the result, and write it as JSON with its picture."""
    from training.figures.picture import beside
    from training.improve.practices.document import write_result

    console.print(Markdown(result.markdown()))
    text = write_result(result, folder)
    picture = beside(text)
    plot(result, picture)
    console.print(f"written: {text}, {picture}", markup=False)


def _interrupted() -> NoReturn:
    console.print(f"interrupted; {WAY_ON}")
    raise typer.Exit(130) from None
