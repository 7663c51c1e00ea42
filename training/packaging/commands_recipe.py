"""The commands about a recipe and its champion, without a fit: ``package``, ``fetch``, ``check`` and ``list``."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import msgspec
import typer

from serving.archive.autoscaling import NAMES
from serving.command_line import CACHE, STORE, Cache, Json, Store, console, fail, registry_at, telling
from serving.hosts.torchserve.profiles import PROFILES
from serving.registry import ArchiveError, Registry
from training.packaging.commands_train import Model

TORCHSERVE = {  # its settings, by our names for them
    "batchSize": "batch_size",
    "maxBatchDelay": "max_batch_delay",
    "minWorkers": "workers",
    "maxWorkers": "workers",
}


class Listed(msgspec.Struct, frozen=True):
    """A recipe as ``list`` shows it; ``fault`` says why it cannot be used."""

    name: str
    description: str = ""
    presets: list[str] = []
    fault: str = ""


def package_command(
    model: Model,
    profile: Annotated[
        str | None, typer.Option(help="latency: each request at once; throughput: many in one batch.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Requests in one batch at most.")] = None,
    max_batch_delay: Annotated[int | None, typer.Option(min=1, help="ms that a batch waits for more.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes.")] = None,
    min_replicas: Annotated[int | None, typer.Option(help="Fewest replicas on the Ray host.")] = None,
    max_replicas: Annotated[int | None, typer.Option(help="Most replicas there.")] = None,
    target_ongoing_requests: Annotated[
        float | None, typer.Option(help="Requests of a replica at a time, by which their number is chosen.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1; this machine must have it.")] = None,
    isolated: Annotated[
        bool | None,
        typer.Option("--isolated/--shared", help="Run the graph in a process of its own beside each worker, or in it."),
    ] = None,
    store: Store = STORE,
) -> None:
    """Package the champion again without training: with other serving settings, which are kept, or newer handlers."""
    from handlers.engine.devices import check_present
    from training import pipeline, recipes
    from training.packaging import packable, serving_settings

    options: dict[str, Any] = {"batch_size": batch_size, "max_batch_delay": max_batch_delay, "workers": workers}
    options |= {"device": device, "isolated": isolated, "min_replicas": min_replicas, "max_replicas": max_replicas}
    options |= {"target_ongoing_requests": target_ongoing_requests}
    try:
        if profile is not None and profile not in PROFILES:
            raise KeyError(f"there is no profile {profile!r}; there are {', '.join(PROFILES)}")
        registry = registry_at(store)
        imported = model not in recipes.names() and model in registry.champions()
        if imported and registry.champion_contract(model).task == "opaque":
            _package_foreign(model, registry, PROFILES.get(profile or "", {}) | options)
            return
        served = packable.of_champion(model, registry) if imported else recipes.find(model)
        if device is not None:
            check_present(device, served.serving.engine)
        changes: dict[str, Any] = {**PROFILES.get(profile or "", {})}
        changes |= {name: value for name, value in options.items() if value is not None}
        serving = serving_settings.choose(served, changes, registry.store)
        recipe = None if imported else recipes.find(model)
        parts = packable.of_recipe(recipe, registry.store) if recipe else packable.of_champion(model, registry)
        result = pipeline.package(replace(parts, serving=serving), registry)
    except (KeyError, ValueError, ArchiveError) as error:
        fail(error)
    how = f"batches of {serving.batch_size}, {serving.max_batch_delay} ms, {serving.workers} workers"
    console.print(f"{result.archive}: champion ({how}); `make up` serves it", markup=False)


def _package_foreign(model: str, registry: Registry, options: Mapping[str, Any]) -> None:
    from training.bring.files.foreign import package_foreign

    chosen = {name: value for name, value in options.items() if value is not None}
    if "device" in chosen:
        raise ValueError(f"{model} has a handler of its own, which chooses its device itself")
    if "isolated" in chosen:
        raise ValueError(f"{model} has a handler of its own, which is in a process of its own anyway")
    changes = {setting: chosen[name] for setting, name in TORCHSERVE.items() if name in chosen}
    replicas = {name: chosen[name] for name in chosen if name in NAMES}
    result = package_foreign(model, registry, changes, replicas)
    console.print(f"{result.archive}: champion; `make up` serves it", markup=False)


def fetch_command(
    model: Model,
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


def check_command(
    model: Model,
    cache: Cache = CACHE,
    as_json: Json = False,
) -> None:
    """Look for faults of a recipe before any fit: data, contract, network, loss, baselines, export, archive."""
    from training import recipes
    from training.data import DataError
    from training.packaging.dry_run import Fault, dry_run

    fault = ""
    try:
        recipe = recipes.ready(model)
        dry_run(recipe, cache, telling(model))
    except (KeyError, ValueError, DataError) as error:
        where = "fault in " if isinstance(error, Fault) else ""
        fault = f"{where}{error.args[0]}"
    if as_json:
        typer.echo(msgspec.json.encode({"model": model, "fault": fault}))
    if fault:
        fail(fault)
    console.print(f"{model}: no fault found; `make train MODEL={model}` fits it", markup=False)


def list_command(as_json: Json = False) -> None:
    """Show the recipes with their presets."""
    from training import recipes
    from training.data import DataError

    try:
        names = recipes.names()
    except recipes.RecipeError as error:
        fail(error)
    listed = []
    for name in names:
        try:
            recipe = recipes.find_any(name)
        except (recipes.RecipeError, DataError) as error:
            listed.append(Listed(name, fault=str(error)))
        else:
            listed.append(Listed(name, recipe.description, list(recipe.preset_names)))
    if as_json:
        typer.echo(msgspec.json.encode(listed))
        return
    for row in listed:
        about = f"{row.description} (presets: {', '.join(row.presets)})"
        typer.echo(f"{row.name:12} {f'cannot be used: {row.fault}' if row.fault else about}")
