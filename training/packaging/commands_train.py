"""The commands that make versions by training: ``train`` and ``ensure``."""

import os
import traceback
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serving.command_line import CACHE, RUNS, STORE, Cache, Runs, Store, console, fail, registry_at, sentence, telling
from serving.documents import write_atomically
from serving.registry import ArchiveError, Registry
from serving.settings import Folders, RecipeSettings

if TYPE_CHECKING:
    from training.packaging.registration import TrainOptions

Model = Annotated[str, typer.Argument(help="Name of a recipe; `marloop recipes` shows them.")]


class Promote(StrEnum):
    """The condition under which a new version becomes champion."""

    auto = "auto"
    always = "always"
    never = "never"


def train_command(
    model: Model,
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
    tasks: Annotated[
        Path | None,
        typer.Option(help="Run lm-eval tasks on a language model: a YAML file or a folder; docs/language-model.md."),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="Prompts whose answers a language model must keep: JSON, one a line; default: the champion's."
        ),
    ] = None,
    result: Annotated[
        Path | None, typer.Option(dir_okay=False, help="File to tell in JSON which version it became, or why none.")
    ] = None,
    store: Store = STORE,
    cache: Cache = CACHE,
    runs: Runs = RUNS,
) -> None:
    """Train, evaluate, archive and register one model; interrupted, the same command goes on where it was.

    Several processes, which torchrun or Ray Train starts, fit it together: docs/machines/distributed-training.md.
    """
    from training.packaging.registration import TrainOptions

    options = TrainOptions(
        preset=preset,
        promote=promote.value,
        calibrate=calibrate,
        feedback=feedback,
        hold_out=hold_out,
        instructions=instructions,
        tasks=tasks,
        prompts=prompts,
        result_file=result,
    )
    _train(model, options, registry_at(store), Folders(cache, runs))


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

    registry = registry_at(store)
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
    from training.fitting.distributed import Processes, ProcessLostError, joined
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
            if Processes.from_environment(os.environ).count > 1:
                raise ValueError(f"{model} is a language model: one process trains it, without torchrun")
            result = language.train(recipe, registry, folders, options, telling(model))
            if options.result_file:
                pipeline.write_result(result, options.result_file)
        elif options.instructions or options.tasks or options.prompts:
            only = "--instructions, --tasks and --prompts are of language models"
            raise ValueError(f"{model} is no language model: {only}; see --feedback")
        else:
            with joined(os.environ) as processes:
                if not processes.is_first:
                    pipeline.fit_model(recipe, folders, options, processes=processes)
                    return
                result = pipeline.train(recipe, registry, folders, options, telling(model), processes)
    except ProcessLostError as error:  # another attempt may have them all
        fail(error)
    except (KeyError, ValueError, DataError, ParityError, ArchiveError) as error:
        fault = recipes.told(error)
        if options.result_file:
            pipeline.write_fault(model, fault, options.result_file)
        fail(fault)
    except OSError as error:  # such as a full disk, of which another attempt may know nothing
        fail(f"{model} could not be trained or registered: {sentence(error)}")
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
