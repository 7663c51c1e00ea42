"""A dry run of the pipeline: all but the fit, on a few rows, with a network that has learned nothing.

It finds in seconds what would end a training after its fit: data unlike the contract, outputs of a wrong shape, a loss
that nothing learns from, a module that cannot be exported, an archive that does not load.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from handlers.contract import Array, TensorSpec
from handlers.features import is_missing
from serving.registry import ArchiveError, Registry
from training import pipeline, recipes
from training.data import DataError
from training.fitting.fit import Fit
from training.fitting.rows import Rows
from training.packaging.export import ExportError, ParityError
from training.packaging.interface import contract_without_version
from training.packaging.registration import TrainOptions
from training.recipe import Data, Recipe, Split, Trained, to_tensors

ROWS = 64  # of each part of the data
SAID = (ArchiveError, DataError, ExportError, ParityError)  # whose message is a sentence already


class Fault(ValueError):
    """The first fault of a recipe: what was checked, what is wrong, and what would be right."""


def dry_run(recipe: Recipe[Any], cache: Path, step: Callable[[str], None]) -> None:
    """Take a recipe through the pipeline without a fit; nothing of it stays but fetched data.

    Args:
        step: is told what is checked, before it is.

    Raises:
        Fault: a check failed; the later ones were not made.
    """
    with _checking(step, "the data, as `load` returns them"):
        hp = recipe.preset(None)
        data = recipe.load(hp, cache)
        _check_data(recipe, data)
    data = _few(data)
    with _checking(step, "the contract that clients see"):
        contract_without_version(recipe, data)
    torch.manual_seed(hp.seed)
    with _checking(step, "the network: `module` and its `forward`"):
        module = recipe.module(hp, data)
        _check_output(recipe, module, data)
    with _checking(step, "the loss, and whether weights learn from it"):
        _check_loss(recipe, hp, module, data.train)
    with _checking(step, "the baselines"):
        _check_baselines(recipe, data)
    with tempfile.TemporaryDirectory() as folder, _checking(step, "the archive: graphs, parity, example, loading"):
        trained = Trained(recipe, hp, data, module.eval(), preset=next(iter(recipe.presets)))
        options = TrainOptions(promote="always")
        pipeline.package_fitted(trained, Registry(Path(folder)), options, lambda text: None)


@contextlib.contextmanager
def _checking(step: Callable[[str], None], what: str) -> Iterator[None]:
    step(f"checking {what}")
    try:
        yield
    except Fault as fault:
        raise Fault(f"{what}: {fault}") from fault
    except SAID as error:
        raise Fault(f"{what}: {error}") from error
    except Exception as error:  # whatever a recipe raises
        raise Fault(f"{what}: {recipes.explain(error)}") from error


def _check_data(recipe: Recipe[Any], data: Data) -> None:
    if not isinstance(data, Data):
        raise Fault(f"`load` returned {type(data).__name__}; it must return Data")
    parts = {"train": data.train, "test": data.test}
    if data.validation:
        parts["validation"] = data.validation
    names = [spec.name for spec in data.inputs]
    for part, split in parts.items():
        if not len(split):
            raise Fault(f"{part} has no rows")
        if list(split.inputs) != names:
            raise Fault(f"{part} has the inputs {', '.join(split.inputs)}; the contract's are {', '.join(names)}")
        for spec in data.inputs:
            if spec.nullable and spec.is_text:
                raise Fault(
                    f"input {spec.name}: a recipe's text cannot be nullable: give such rows a text of their own"
                )
            if spec.default is not None and is_missing(split.inputs[spec.name]).any():
                raise Fault(f"{part}, input {spec.name}: it has missing values: return `split.filled(inputs)`")
            if fault := _fault_of(spec, split.sent[spec.name], len(split)):
                raise Fault(f"{part}, input {spec.name}: {fault}")
        if fault := _fault_of_target(recipe, split):
            raise Fault(f"{part}, target: {fault}")


def _fault_of(spec: TensorSpec, values: Array, rows: int) -> str:
    """Return what is wrong with the values of an input; empty if nothing."""
    is_text = spec.datatype == "BYTES" and not spec.categories
    shape = (rows, *spec.shape[1:])
    dtype = np.dtype(np.int64) if is_text else np.dtype(spec.graph_dtype)
    if values.dtype != dtype:
        kind = "tokens" if is_text else "indices of categories" if spec.categories else spec.datatype
        return f"its values are {values.dtype}; {kind} must be {dtype}: `.astype(np.{dtype})`"
    if values.shape != shape and not (is_text and values.ndim == 2 and len(values) == rows):
        return f"its array has the shape {values.shape}; the contract says {shape if not is_text else '(rows, length)'}"
    if spec.nullable:
        values = values[~is_missing(values)]
    if not values.size:
        return "it has no value in any row"
    if dtype.kind == "f" and not np.isfinite(values).all():
        return "it has NaN or infinite values: replace them, or make it `nullable`"
    if spec.categories and not 0 <= values.min() <= values.max() < len(spec.categories):
        return f"its indices go from {values.min()} to {values.max()}; there are {len(spec.categories)} categories"
    if spec.range and not spec.range[0] <= values.min() <= values.max() <= spec.range[1]:
        return f"its values go from {values.min():g} to {values.max():g}, outside the contract's range {[*spec.range]}"
    return ""


def _fault_of_target(recipe: Recipe[Any], split: Split) -> str:
    """Return what is wrong with the truth of some rows; empty if nothing."""
    target, classes = split.target, len(recipe.labels)
    dtype = np.dtype(np.int64 if recipe.task == "classification" else np.float32)
    if target.dtype != dtype:
        return f"its values are {target.dtype}; a {recipe.task}'s must be {dtype}: `.astype(np.{dtype})`"
    rows = len(next(iter(split.inputs.values())))
    shape = (rows, len(recipe.outputs)) if recipe.scoring.targets else (rows,)
    if target.shape != shape:
        return f"its array has the shape {target.shape}; it must be {shape}, a value for each row of the inputs"
    if dtype.kind == "f" and not np.isfinite(target).all():
        return "it has NaN or infinite values: leave out rows without a truth"
    if recipe.task == "classification" and not 0 <= target.min() <= target.max() < classes:
        return f"its classes go from {target.min()} to {target.max()}; the recipe has {classes} labels"
    return ""


def _few(data: Data) -> Data:
    """Return some rows of each part, spread evenly, with the first held-out row, which becomes the example."""

    def some(split: Split) -> Split:
        return split.part(np.linspace(0, len(split) - 1, min(len(split), ROWS)).astype(np.int64))

    validation = None if data.validation is None else some(data.validation)
    return replace(data, train=some(data.train), test=some(data.test), validation=validation)


def _expected(recipe: Recipe[Any], rows: int) -> tuple[int, ...]:
    width = recipe.labels or recipe.scoring.targets
    return (rows, len(width)) if width else (rows,)


def _check_output(recipe: Recipe[Any], module: nn.Module, data: Data) -> None:
    if not isinstance(module, nn.Module):
        raise Fault(f"`module` returned {type(module).__name__}; it must return an nn.Module")
    for rows in (1, min(3, len(data.test))):
        with torch.inference_mode():
            output = module.eval()(*to_tensors(data.test.head(rows)))
        shape, expected = tuple(getattr(output, "shape", ())), _expected(recipe, rows)
        if not isinstance(output, Tensor) or shape != expected:
            hint = ": `[:, 0]` takes the only column" if shape == (rows, 1) and expected == (rows,) else ""
            raise Fault(f"`forward` returned {_named(output)} for {rows} rows; it must be {expected}{hint}")
        if output.dtype != torch.float32:
            raise Fault(f"`forward` returned {output.dtype}; it must be torch.float32: `.float()`")
        if not output.isfinite().all():
            raise Fault("`forward` returned NaN or infinite values for held-out rows: scale the inputs inside it")


def _named(output: object) -> str:
    return f"a tensor {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"


def _check_loss(recipe: Recipe[Any], hp: Any, module: nn.Module, split: Split) -> None:
    batch = Rows(split)[list(range(len(split)))]
    fit = Fit(recipe, hp, module.train())
    rows = fit.loss(module(*recipe.augment(batch.inputs, hp)), batch.target)
    if tuple(rows.shape) != (len(split),):
        raise Fault(f"`loss` returned {_named(rows)} for {len(split)} rows; it must be ({len(split)},), one a row")
    if not rows.isfinite().all():
        raise Fault("`loss` returned NaN or infinite values")
    if not rows.requires_grad:
        raise Fault("no weight has a gradient: `forward` must not leave torch, nor run under no_grad")
    rows.mean().backward()  # type: ignore[no-untyped-call]


def _check_baselines(recipe: Recipe[Any], data: Data) -> None:
    baselines: Mapping[str, Array] = recipe.baselines(data)
    if not baselines:
        raise Fault("there is none: a model is compared with at least one, such as the mean or the commonest class")
    expected = _expected(recipe, len(data.test))
    for name, output in baselines.items():
        if np.shape(output) != expected:
            raise Fault(f"{name!r} has the shape {np.shape(output)}; for {len(data.test)} rows it must be {expected}")
