"""Export of a fitted module to the two graphs of an archive, ONNX and torch.export, and the check that they agree."""

import contextlib
import inspect
import io
import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from handlers.contract import Array, ModelContract, TensorSpec
from handlers.engine import ENGINES, Engine
from handlers.formats.tokens import FILE as TOKENIZER
from handlers.formats.tokens import TextTokenizer
from serving.archive import ONNX, PROGRAM
from training.packaging.parity import TOLERANCE, largest_difference
from training.recipe import Data, Split, Trained, to_tensors
from training.recipe.measured import Measured

PARITY_ROWS = 1000  # least rows that the graphs are compared on


class ParityError(Exception):
    """The exported graphs do not compute what the module computes; the archive is refused."""


class ExportError(ValueError):
    """The module cannot be exported; the message says why."""


class _Probabilities(nn.Module):
    """A module whose logits become probabilities, inside the graph."""

    def __init__(self, module: nn.Module, temperature: float) -> None:
        super().__init__()
        self.module, self._temperature = module, temperature

    def forward(self, *inputs: Tensor) -> Tensor:
        logits = self.module(*inputs)
        return torch.softmax(logits if self._temperature == 1 else logits / self._temperature, 1)


class _Targets(nn.Module):
    """A module whose ``(n, targets)`` values become an output for each target."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.module(*inputs).unbind(1)  # type: ignore[no-any-return]


def serving_module(trained: Trained) -> nn.Module:
    """Return the module as it is served: with probabilities for logits, and an output for each of several targets."""
    if trained.recipe.task == "classification":
        return _Probabilities(trained.module, trained.temperature).eval()
    return (_Targets(trained.module) if trained.recipe.scoring.targets else trained.module).eval()


def predict(module: nn.Module, split: Split, batch: int = 1000) -> Array:
    """Run a module over a split; FP32, the rows first, then the targets where there are several."""
    tensors = to_tensors(split)
    starts = range(0, len(split), batch)
    with torch.inference_mode():
        outputs = [module(*(tensor[start : start + batch] for tensor in tensors)) for start in starts]
    parts = [torch.stack(output, 1) if isinstance(output, tuple) else output for output in outputs]
    values: Array = torch.cat(parts).numpy()
    return values


def export(trained: Trained, contract: ModelContract, directory: Path) -> None:
    """Write ``model.onnx`` and ``model.pt2``, both with a free batch size and, where texts are tokens, a free length.

    The same weights give the same bytes: names of files and lines, which the exporter records, are left out.

    Raises:
        ExportError: ``torch.export`` or the converter to ONNX refuses the module.
    """
    example = tuple(t.contiguous() for t in to_tensors(trained.data.test.head(2)))
    batch, most = torch.export.Dim("batch"), _most_tokens(trained.data)
    module = serving_module(trained)
    shapes = tuple(
        {0: batch} | _lengths(spec, tensor, most) for spec, tensor in zip(contract.inputs, example, strict=True)
    )
    try:
        # Grouped as forward's parameters are: torch.export takes *inputs as one argument, a tuple.
        dynamic = tuple(inspect.signature(module.forward).bind(*shapes).arguments.values())
        with quiet():
            program = torch.export.export(module, example, dynamic_shapes=dynamic)
            torch.export.save(program, directory / PROGRAM)
        graph = to_onnx(program, contract)
    except Exception as error:  # of either exporter, or of the module itself
        most_said = f"; its texts have up to {most} tokens, which the network must take" if most else ""
        raise ExportError(f"{contract.name} cannot be exported: {_first_lines(error)}{most_said}") from error
    (directory / ONNX).write_bytes(graph.SerializeToString(deterministic=True))


def to_onnx(program: ExportedProgram, contract: ModelContract) -> onnx.ModelProto:
    """Convert a program to an ONNX graph with the contract's names, checked by ``onnx.checker``.

    Raises:
        torch.onnx.OnnxExporterError: an operator has no counterpart in ONNX; the message names it.
    """
    names = [spec.name for spec in contract.inputs]
    outputs = list(contract.graph_outputs)
    with quiet():
        exported = torch.onnx.export(program, input_names=names, output_names=outputs, dynamo=True, verbose=False)
    if exported is None:
        raise RuntimeError("torch.onnx.export returned no program")
    graph = exported.model_proto
    strip(graph)
    onnx.checker.check_model(graph, full_check=True)
    return graph


def check_parity(
    trained: Trained, contract: ModelContract, directory: Path, tolerance: float = TOLERANCE
) -> dict[str, float]:
    """Compare every engine on the exported files with the module itself, on held-out rows.

    Where a small data set holds out fewer than 1,000 rows, training rows fill them up.

    Returns:
        ``rows``, and the largest difference of each engine, relative to the value where that is over 1: FP32 rounds a
        large value more coarsely.

    Raises:
        ParityError: a difference is over the tolerance.
    """
    split = parity_rows(trained.recipe, trained.data)
    expected = predict(serving_module(trained), split)
    report: dict[str, float] = {"rows": len(split)}
    for name, engine in ENGINES.items():
        loaded = engine(directory, contract, torch.get_num_threads())
        output = run(trained.recipe, loaded, split, contract.graph_outputs)
        worst = largest_difference(output, expected)
        report[name] = worst
        if not worst <= tolerance:
            raise ParityError(
                f"{contract.name}: {name} differs from the module by {worst:.3g} on {len(split)} rows, "
                f"more than {tolerance:g}; the archive is refused"
            )
    return report


def parity_tolerance(converted: str) -> float:
    """Return the largest difference from its module that a version's graphs may have.

    A graph that was ``converted`` to smaller numbers differs, and is judged by the metric instead.
    """
    return math.inf if converted else TOLERANCE


def _lengths(spec: TensorSpec, tensor: Tensor, most: int | None) -> dict[int, Any]:
    """Return the free lengths of a text's tokens: one value to the client, a row of any length to the graph."""
    sizes = range(len(spec.shape), tensor.ndim)
    return {i: torch.export.Dim(f"{spec.name}_length", min=2, max=most or tensor.shape[i]) for i in sizes}


def _most_tokens(data: Data) -> int | None:
    """Return the tokens at which the handler cuts a text; None for a model without a tokenizer."""
    return TextTokenizer(data.assets[TOKENIZER]).longest if TOKENIZER in data.assets else None


def _first_lines(error: Exception) -> str:
    """Return the type of an error and the beginning of its text, which may have pages."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"


def parity_rows(model: Measured, data: Data) -> Split:
    """Return held-out rows to compare graphs on, with training rows added where they are fewer than 1,000."""
    held_out = data.test.head(model.parity_rows)
    filling = data.train.head(max(0, PARITY_ROWS - len(held_out)))
    inputs = {name: np.concatenate([values, filling.inputs[name]]) for name, values in held_out.inputs.items()}
    return Split(inputs, np.concatenate([held_out.target, filling.target]))


def run(model: Measured, engine: Engine, split: Split, names: Sequence[str], size: int = 100) -> Array:
    """Return an engine's output for a split, in batches of at most ``size`` rows; of several targets a column each."""
    return np.concatenate([in_columns(outputs, names) for outputs in answers(model, engine, split, size)])


def in_columns(outputs: Mapping[str, Array], names: Sequence[str]) -> Array:
    """Return the only output of these names, or of several targets a column each."""
    return np.stack([outputs[name] for name in names], 1) if len(names) > 1 else outputs[names[0]]


def answers(model: Measured, engine: Engine, split: Split, size: int = 100) -> Iterator[Mapping[str, Array]]:
    """Yield an engine's outputs for a split, by batches of at most ``size`` rows."""
    for start in range(0, len(split), size):
        rows = {name: values[start : start + size] for name, values in split.inputs.items()}
        yield engine.run(model.batch(rows))


def strip(graph: onnx.ModelProto) -> None:
    """Remove the parts that differ between machines and runs, and name the sizes that are free."""
    strip_origin(graph)
    for value in [*graph.graph.input, *graph.graph.output]:
        batch, *sizes = value.type.tensor_type.shape.dim
        batch.dim_param = "batch"
        for size in sizes:
            if size.dim_param:  # the length of a text's tokens
                size.dim_param = "length"
    del graph.graph.value_info[:]


def strip_origin(graph: onnx.ModelProto) -> None:
    """Remove names of files and lines, which the exporter records."""
    graph.doc_string = graph.graph.doc_string = ""
    del graph.metadata_props[:], graph.graph.metadata_props[:]
    for node in graph.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in [*graph.graph.input, *graph.graph.output, *graph.graph.value_info, *graph.graph.initializer]:
        del value.metadata_props[:]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporter's notes on absent torchvision and on deprecated calls of its own."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
