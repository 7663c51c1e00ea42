"""The pipeline of a model: recipe -> fit -> evaluate -> export -> check parity -> contract -> archive -> registry."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from handlers.contract import Array, ModelContract
from handlers.contract.model_card import Evaluation
from serving import documents
from serving.archive import ASSETS, GRAPHS
from serving.registry import Registry, file_sha256
from serving.settings import ROOT, Folders
from training.champion import check_rewritable, unpack
from training.feedback import as_many_steps, extend
from training.fitting import fit
from training.fitting.distributed import ALONE, Processes
from training.packaging import export, packable, result_file
from training.packaging.contents import Described
from training.packaging.interface import contract_without_version
from training.packaging.lineage import lineage, with_lineage
from training.packaging.packable import Packable
from training.packaging.reference import reference
from training.packaging.registration import DEFAULTS, Promote, Result, TrainOptions, register, result_document
from training.packaging.serving_settings import serving_of
from training.recipe import Data, Recipe, Trained
from training.report import page
from training.statistics import calibration, evaluate


def train(
    recipe: Recipe[Any],
    registry: Registry,
    folders: Folders,
    options: TrainOptions = DEFAULTS,
    step: Callable[[str], None] = lambda text: None,
    processes: Processes = ALONE,
) -> Result:
    """Train, evaluate, package and register one version of a model.

    Args:
        processes: all that fit it, of which this is the first; each of the others calls ``fit_model``.

    Raises:
        KeyError: no such preset.
        DataError: the data cannot be had.
        ParityError: the graphs do not agree; nothing is registered.
        ValueError: the store's serving settings are damaged, or there is nothing to calibrate, or to calibrate with, or
            no such share of the feedback.
    """
    serving_of(recipe, registry.store)  # before the work, should they be damaged
    trained = fit_model(recipe, folders, options, step, processes)
    if trained.hp.calibrate:
        trained = calibrated(trained)
    result, output = package_fitted(trained, registry, options, step)
    if options.result_file:
        write_result(result, options.result_file)
    step("writing the report")
    return report(result, recipe, trained.data, output, step)


def fit_model(
    recipe: Recipe[Any],
    folders: Folders,
    options: TrainOptions = DEFAULTS,
    step: Callable[[str], None] = lambda text: None,
    processes: Processes = ALONE,
) -> Trained:
    """Read the data and fit the network: the part of a training that several processes share.

    Raises:
        KeyError, DataError, ValueError: as ``train``.
    """
    hp = recipe.preset(options.preset)
    hp = replace(hp, calibrate=True) if options.calibrate else hp
    name = options.preset or next(iter(recipe.presets))
    step("reading the data")
    with processes.first_of_each_machine():
        data = recipe.load(hp, folders.cache)
    if options.feedback:
        step(f"reading the feedback in {options.feedback}")
        own = len(data.train)
        data = extend(recipe, hp, data, options.feedback, options.hold_out, step)
        hp = as_many_steps(hp, own, len(data.train))
    by = f", by {processes.count} processes" if processes.count > 1 else ""
    step(f"fitting {len(data.train):,} rows, preset {name}{by}")
    if hp.calibrate:
        _check_calibration(recipe, data)
    return replace(fit.fit(recipe, hp, data, folders.runs, processes=processes), preset=name)


def package_fitted(
    trained: Trained, registry: Registry, options: TrainOptions, step: Callable[[str], None]
) -> tuple[Result, Array]:
    """Evaluate, export and register a fitted module.

    Returns:
        The new version, and the module's output for the held-out rows.

    Raises:
        ExportError, ParityError: the module cannot be exported, or the graphs do not agree with it.
        ArchiveError: the version would be champion, and cannot be loaded.
    """
    recipe, data = trained.recipe, trained.data
    step(f"evaluating on {len(data.test):,} held-out rows")
    module = export.serving_module(trained)
    output = export.predict(module, data.test)
    watched = None if data.validation is None else export.predict(module, data.validation)
    learned = export.predict(module, data.train)
    fitted = evaluate.learned(recipe, data.train, learned)
    evaluation = msgspec.structs.replace(evaluate.held_out(recipe, data, output, watched), learned=fitted)
    contract = draft(trained, evaluation, learned, output)
    with tempfile.TemporaryDirectory() as folder:
        graphs = Path(folder)
        step("exporting to ONNX and torch.export")
        export.export(trained, contract, graphs)
        step("checking that the graphs agree with the module")
        parity = export.check_parity(trained, contract, graphs)
        contract = with_lineage(contract, parity=parity)
        return publish(trained, contract, graphs, registry, options.promote), output


def write_result(result: Result, path: Path) -> None:
    """Write a new version for a program to read, in JSON; the file is there whole or not at all."""
    _write(result_document(result), path)


def write_fault(model: str, error: Exception, path: Path) -> None:
    """Write why there is no new version: the same data would fail the same way, so a program need not try again."""
    _write(result_file.Trained(model, error=str(error.args[0])), path)


def _write(result: result_file.Trained, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    documents.write_json(path, result, result_file.Trained)


def publish(
    trained: Trained,
    draft: ModelContract,
    graphs: Path,
    registry: Registry,
    promote: Promote,
    replaces: str | None = None,
) -> Result:
    """Register an archive of a fitted module's graphs; arguments as of ``register`` and ``complete``."""
    parts = packable.of_recipe(trained.recipe, registry.store)
    whole = complete(draft, parts, trained.data, graphs)
    return register(whole, parts.packing(graphs), registry, promote, replaces)


def complete(draft: ModelContract, parts: Packable, data: Data, graphs: Path) -> ModelContract:
    """Return a contract with the checksums of its graphs and an example that they answer.

    Args:
        draft: the contract without these and without a version.
        graphs: folder of the graphs; the data's assets are put there.
    """
    (graphs / ASSETS).mkdir(exist_ok=True)
    for asset, content in data.assets.items():
        (graphs / ASSETS / asset).write_bytes(content)
    sums = {graph: file_sha256(graphs / graph) for graph in GRAPHS if (graphs / graph).exists()}
    draft = with_lineage(draft, graph_sha256=sums)
    example = parts.example(draft, data.test.row(draft.inputs, 0), graphs)
    return msgspec.structs.replace(draft, example=example)


def package(parts: Packable, registry: Registry) -> Result:
    """Package the champion's graphs again, with other serving settings and the handlers of today, as a new champion.

    Raises:
        ArchiveError: there is no champion, its archive is not as registered, or a newer version of Marloop made it.
    """
    check_rewritable(registry, registry.champion(parts.name).version)
    with tempfile.TemporaryDirectory() as folder:
        contract = unpack(registry, parts.name, Path(folder))
        draft = with_lineage(contract, packaged_from=contract.version)
        return register(draft, parts.packing(Path(folder)), registry, "always")


def _check_calibration(recipe: Recipe[Any], data: Data) -> None:
    if recipe.task != "classification":
        raise ValueError(f"{recipe.name} cannot be calibrated: it is no classification, and answers no probabilities")
    if data.validation is None:
        raise ValueError(f"{recipe.name} cannot be calibrated: its recipe keeps no validation rows to fit on")


def calibrated(trained: Trained) -> Trained:
    """Fit the temperature on the validation rows."""
    validation = trained.data.validation
    assert validation
    output = export.predict(export.serving_module(trained), validation)
    return replace(trained, temperature=calibration.fit_temperature(output, validation.target))


def report(result: Result, model: Described, data: Data, output: Array, step: Callable[[str], None]) -> Result:
    """Write the page about the version, if possible; without it the version stays registered."""
    try:
        store = result.archive.parent
        return replace(result, report=page.write_page(model, result.contract, data, output, store))
    except Exception as error:
        step(f"no report could be written ({type(error).__name__}: {error}); the version is registered")
        return result


def draft(trained: Trained, evaluation: Evaluation, output: Array, held_out: Array) -> ModelContract:
    """Return a contract that lacks a version, an example and the facts about the graphs.

    Args:
        evaluation: on the held-out rows.
        output: the served module's for the training rows.
        held_out: the same for the held-out rows.
    """
    recipe, data = trained.recipe, trained.data
    contract = contract_without_version(recipe, data)
    origin = lineage(trained, ROOT, datetime.now(UTC))
    contract = msgspec.structs.replace(contract, evaluation=evaluation, lineage=origin)
    return msgspec.structs.replace(contract, reference=reference(contract, data, output, held_out))
