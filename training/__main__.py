"""``python -m training``: train models and package them as archives."""

import os
import traceback
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serving import command_line
from serving.command_line import CACHE, RUNS, STORE, Cache, Runs, Store, console, fail, telling
from serving.documents import write_atomically
from serving.hosts.torchserve.profiles import PROFILES
from serving.registry import ArchiveError, Registry
from serving.settings import ROOT, Folders, RecipeSettings
from training.bring.command import contract_command, import_command
from training.improve.commands_export import export_command
from training.improve.commands_optimize import optimize_command
from training.improve.commands_tuning import ablate_command, search_command

if TYPE_CHECKING:
    from training.packaging.registration import TrainOptions

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


class Promote(StrEnum):
    """The condition under which a new version becomes champion."""

    auto = "auto"
    always = "always"
    never = "never"


@app.command("train")
def train_command(
    model: Annotated[str, typer.Argument(help="Name of a recipe; `list` shows them.")],
    preset: Annotated[str | None, typer.Option(help="Hyperparameters by name; default: the recipe's first.")] = None,
    promote: Annotated[
        Promote, typer.Option(help="Make it champion: if at least as good (auto), always or never.")
    ] = Promote.auto,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Divide logits by the temperature that suits the validation rows.")
    ] = False,
    feedback: Annotated[
        Path | None,
        typer.Option(help="File of labelled rows to learn as well: JSON, one row a line; docs/feedback.md."),
    ] = None,
    hold_out: Annotated[float, typer.Option(help="Share of these rows, the newest, that it is measured on.")] = 0.1,
    instructions: Annotated[
        Path | None,
        typer.Option(help="Fine-tune a language model on conversations: JSON, one a line; docs/language-model.md."),
    ] = None,
    result: Annotated[
        Path | None, typer.Option(dir_okay=False, help="File to tell in JSON which version it became, or why none.")
    ] = None,
    store: Store = STORE,
    cache: Cache = CACHE,
    runs: Runs = RUNS,
) -> None:
    """Train, evaluate, archive and register one model; interrupted, the same command goes on where it was."""
    from training.packaging.registration import TrainOptions

    options = TrainOptions(
        preset=preset,
        promote=promote.value,
        calibrate=calibrate,
        feedback=feedback,
        hold_out=hold_out,
        instructions=instructions,
        result_file=result,
    )
    _train(model, options, Registry(store), Folders(cache, runs))


@app.command("ensure")
def ensure_command(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="Names of recipes; default: MARLOOP_MODELS, else those that need no own packages."),
    ] = None,
    store: Store = STORE,
    cache: Cache = CACHE,
    runs: Runs = RUNS,
) -> None:
    """Train those models that have no intact champion yet; one that cannot be trained is told, and the others are.

    The exit code is 1 where a model that is named here failed, or all failed and there is nothing to serve.
    """
    from training import recipes

    registry = Registry(store)
    try:
        champions = registry.champions()
        chosen = models or RecipeSettings.from_environment(os.environ).names
        if chosen is None:
            chosen = [name for name in recipes.names() if name in champions or not recipes.extra(name)]
    except (ArchiveError, ValueError) as error:
        fail(error)
    failed = False
    for model in chosen:
        try:
            _ensure(model, registry, Folders(cache, runs))
        except typer.Exit as end:
            if end.exit_code != 1:
                raise
            failed = True
    if failed and (models or not registry.champions()):
        raise typer.Exit(1)


app.command("import")(import_command)
app.command("contract")(contract_command)


@app.command("package")
def package_command(
    model: Annotated[str, typer.Argument(help="Name of a recipe; `list` shows them.")],
    profile: Annotated[
        str | None, typer.Option(help="latency: each request at once; throughput: many in one batch.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Requests in one batch at most.")] = None,
    max_batch_delay: Annotated[int | None, typer.Option(min=1, help="ms that a batch waits for more.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes.")] = None,
    store: Store = STORE,
) -> None:
    """Package the champion again without training: with other serving settings, which are kept, or newer handlers."""
    from training import pipeline, recipes
    from training.packaging import packable, serving_settings

    options = {"batch_size": batch_size, "max_batch_delay": max_batch_delay, "workers": workers}
    try:
        if profile is not None and profile not in PROFILES:
            raise KeyError(f"there is no profile {profile!r}; there are {', '.join(PROFILES)}")
        registry = Registry(store)
        imported = model not in recipes.names() and model in registry.champions()
        served = packable.of_champion(model, registry) if imported else recipes.find(model)
        changes = PROFILES.get(profile or "", {})
        changes = changes | {name: value for name, value in options.items() if value is not None}
        serving = serving_settings.choose(served, changes, store)
        parts = packable.of_champion(model, registry) if imported else packable.of_recipe(recipes.find(model), store)
        result = pipeline.package(replace(parts, serving=serving), registry)
    except (KeyError, ValueError, ArchiveError) as error:
        fail(error)
    how = f"batches of {serving.batch_size}, {serving.max_batch_delay} ms, {serving.workers} workers"
    console.print(f"{result.archive}: champion ({how}); `make up` serves it", markup=False)


@app.command("learning-curve")
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
    from training.improve import learning_curve
    from training.improve.practices import document

    try:
        options = learning_curve.CurveOptions(preset, rows or learning_curve.SIZES, metric)
        curve = learning_curve.learning_curve(recipes.ready(model), Folders(cache, runs), options, telling(model))
    except (KeyError, ValueError, DataError) as error:
        fail(error)
    learning_curve.print_curve(curve, console)
    text = document.write_result(curve, output)
    picture = text.with_suffix(".png")
    learning_curve.draw_curve(curve, picture)
    console.print(f"written: {text}, {picture}", markup=False)


@app.command("fetch")
def fetch_command(
    model: Annotated[str, typer.Argument(help="Name of a recipe; `list` shows them.")],
    cache: Cache = CACHE,
) -> None:
    """Get a model's data and check it, without training: for a machine that will have no network."""
    from training import recipes
    from training.data import DataError
    from training.language import weights
    from training.language.recipe import LanguageRecipe

    try:
        any_recipe = recipes.find_any(model)
        if isinstance(any_recipe, LanguageRecipe):
            console.print(f"{model}: its weights are in {weights.fetch(any_recipe.weights, cache)}", markup=False)
            return
        recipe = recipes.ready(model)
        data = recipe.load(recipe.preset(None), cache)
    except (KeyError, ValueError, DataError) as error:
        fail(error)
    console.print(f"{model}: {len(data.train):,} rows to learn from, {len(data.test):,} held out")


@app.command("check")
def check_command(
    model: Annotated[str, typer.Argument(help="Name of a recipe; `list` shows them.")],
    cache: Cache = CACHE,
) -> None:
    """Look for faults of a recipe before any fit: data, contract, network, loss, baselines, export, archive."""
    from training import recipes
    from training.data import DataError
    from training.packaging.dry_run import Fault, dry_run

    try:
        recipe = recipes.ready(model)
        dry_run(recipe, cache, telling(model))
    except (KeyError, ValueError, DataError) as error:
        where = "fault in " if isinstance(error, Fault) else ""
        fail(f"{where}{error.args[0]}")
    console.print(f"{model}: no fault found; `make train MODEL={model}` fits it", markup=False)


@app.command("list")
def list_command() -> None:
    """Show the recipes with their presets."""
    from training import recipes
    from training.data import DataError

    try:
        names = recipes.names()
    except recipes.RecipeError as error:
        fail(error)
    for name in names:
        try:
            recipe = recipes.find_any(name)
        except (recipes.RecipeError, DataError) as error:
            typer.echo(f"{name:12} cannot be used: {error}")
            continue
        typer.echo(f"{name:12} {recipe.description} (presets: {', '.join(recipe.preset_names)})")


app.command("ablate")(ablate_command)
app.command("search")(search_command)


@app.command("report")
def report_command(
    model: Annotated[str, typer.Argument(help="Name of a recipe whose champion is measured.")],
    output: Annotated[Path | None, typer.Option(help="Folder for the figures as JSON, such as docs/practices.")] = None,
    store: Store = STORE,
    cache: Cache = CACHE,
) -> None:
    """Measure the champion's archive again on the held-out rows, and write its page anew."""
    from training import recipes
    from training.data import DataError
    from training.improve.practices import document
    from training.report.champion import champion_report

    try:
        report = champion_report(recipes.ready(model), Registry(store), cache)
    except (KeyError, ValueError, DataError, ArchiveError) as error:
        fail(error)
    console.print(f"{report.page}: how good it is, and where it errs", markup=False)
    if output:
        console.print(f"written: {document.write_result(report.result, output)}", markup=False)


@app.command("practices")
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


app.command("export")(export_command)
app.command("optimize")(optimize_command)


def _ensure(model: str, registry: Registry, folders: Folders) -> None:
    from training import recipes
    from training.packaging.registration import TrainOptions

    champion, damaged = registry.champions().get(model), registry.damaged().get(model, {})
    if champion is None and damaged:  # a new version would replace what can still be recovered
        for number, fault in damaged.items():
            console.print(f"{model} {number} is left out: {fault}", markup=False)
        return
    try:
        if champion:
            registry.verify(champion.version)
            if missing := recipes.missing(model):  # its worker could not load it
                fail(missing)
            return
    except ArchiveError:
        pass  # it is trained anew
    _train(model, TrainOptions(promote="always" if champion else "auto"), registry, folders)


def _train(model: str, options: "TrainOptions", registry: Registry, folders: Folders) -> None:
    # These imports take seconds, which --help should not.
    from training import pipeline, recipes
    from training.data import DataError
    from training.language.recipe import LanguageRecipe
    from training.packaging.export import ParityError
    from training.report.terminal import print_result

    try:
        recipe = recipes.find_any(model)
        recipes.check_packages(model)
        if isinstance(recipe, LanguageRecipe):
            from training.language import pipeline as language  # needs packages that other models do without

            if options.feedback or options.calibrate:
                raise ValueError(f"{model} is a language model: there is no --feedback or --calibrate for it")
            result = language.train(recipe, registry, folders, options, telling(model))
            if options.result_file:
                pipeline.write_result(result, options.result_file)
        elif options.instructions:
            raise ValueError(f"{model} is no language model: there are no --instructions for it; see --feedback")
        else:
            result = pipeline.train(recipe, registry, folders, options, telling(model))
    except (KeyError, ValueError, DataError, ParityError, ArchiveError) as error:
        fault = recipes.told(error)
        if options.result_file:
            pipeline.write_fault(model, fault, options.result_file)
        fail(fault)
    except OSError as error:  # such as a full disk, of which another attempt may know nothing
        fail(OSError(f"{model} could not be trained or registered: {error}"))
    except Exception as error:  # such as of a recipe that returns what it should not
        folders.runs.mkdir(parents=True, exist_ok=True)
        path = folders.runs / f"{model}-traceback.txt"
        write_atomically(path, "".join(traceback.format_exception(error)).encode())
        fail(f"{model} could not be trained: {recipes.explain(error)} (more in {os.path.relpath(path)})")
    except KeyboardInterrupt:
        where = os.path.relpath(folders.runs)
        console.print(f"interrupted; the same command goes on from the last checkpoint in {where}", markup=False)
        raise typer.Exit(130) from None
    print_result(result, console)


if __name__ == "__main__":
    command_line.run(app, "python -m training")
