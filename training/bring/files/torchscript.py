"""TorchScript: it becomes an ONNX graph; what does not convert is served as it is."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import onnx
import torch

from handlers.contract import Array
from serving.archive import SCRIPT
from serving.registry import file_sha256
from training.bring.files.torch_files import NUMBERS, TorchOriginal, example_tensors
from training.bring.graph import AsItIs, BringError, Brought, Port, first_line, inputs_of, port_of
from training.packaging.export import quiet

DEPRECATED = "TorchScript is deprecated by PyTorch: `torch.export` writes what will be read in years to come"
BRANCHES = ("prim::If", "prim::Loop")
# What makes a number of a tensor's value.
VALUES = ("aten::Bool", "aten::Int", "aten::Float", "aten::item", "aten::IntImplicit", "aten::FloatImplicit")
COST = (
    "PyTorch serves the script as it is, in a process of its own beside each worker (some 250 MB of memory); "
    "rows take longer"
)


def read(path: Path, example: Path | None) -> Brought:
    """Read TorchScript, and convert it where that is possible.

    Raises:
        BringError: it is none, needs an example, or cannot compute it.
    """
    try:
        with quiet():
            script: Any = torch.jit.load(path, map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except Exception as error:
        raise BringError(f"{path} is no TorchScript; weights alone need --module: {first_line(error)}") from error
    names = [argument.name for argument in script.forward.schema.arguments[1:]]
    tensors = example_tensors(example, names)
    original = TorchOriginal(script, names)
    buffer: Any = io.BytesIO()
    try:
        # Else the converter prints the whole script, whatever its log is set to.
        with quiet(), torch.inference_mode(), mock.patch.object(torch._C, "_jit_onnx_log"):
            axes = {name: {0: "batch"} for name in names}
            torch.onnx.export(
                script, tuple(tensors), buffer, input_names=names, dynamic_axes=axes, dynamo=False, opset_version=17
            )
        graph = onnx.load_from_string(buffer.getvalue())
        inputs, outputs = inputs_of(graph), tuple(port_of(value) for value in graph.graph.output)
        notes: tuple[str, ...] = (DEPRECATED,)
    except Exception as error:  # of the converter, or of onnx
        graph = None
        inputs, outputs = _ports(original, names, tensors)
        notes = (f"it does not convert to ONNX ({first_line(error)}): {COST}", DEPRECATED)
    results = tuple(port.name for port in outputs)
    as_it_is = AsItIs("torchscript", path, SCRIPT, tuple(names), results, ("torch",), COST)
    return Brought(
        path.name,
        "TorchScript",
        file_sha256(path),
        graph,
        inputs,
        outputs,
        notes=notes,
        original=original,
        as_it_is=as_it_is,
        branches=_branches(script),
    )


def _branches(script: Any) -> bool:
    """Tell whether a script may branch or loop by the values of tensors, and not only by their shapes."""
    graph = script.inlined_graph

    def has(kinds: Sequence[str]) -> bool:
        return any(list(graph.findAllNodes(kind, recurse=True)) for kind in kinds)

    return has(BRANCHES) and has(VALUES)


def _ports(
    original: TorchOriginal, names: Sequence[str], tensors: Sequence[torch.Tensor]
) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Return inputs and outputs as a row shows them, all with a batch.

    Raises:
        BringError: the module cannot compute the row, or has an output that no protocol has.
    """
    arrays = {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}
    outputs = original.run(arrays)
    labelled = {"output" if len(outputs) == 1 else f"output_{i}": array for i, array in enumerate(outputs)}
    if bad := next((array.dtype for array in [*arrays.values(), *outputs] if array.dtype not in NUMBERS), None):
        raise BringError(f"the module takes or answers {bad}, which no request can hold")
    return tuple(_port(name, array) for name, array in arrays.items()), tuple(
        _port(name, array) for name, array in labelled.items()
    )


def _port(name: str, array: Array) -> Port:
    return Port(name, NUMBERS[array.dtype], ("batch", *array.shape[1:]) if array.ndim else ())
