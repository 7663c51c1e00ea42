"""PyTorch: a program of ``torch.export``, or a module with a file of weights, becomes an ONNX graph.

A program that does not convert is served as it is.
"""

import importlib
import inspect
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree

from handlers.contract import DTYPES, Array
from serving import archive
from serving.archive import PROGRAM
from serving.registry import ArchiveError, file_sha256
from training.bring.adapt import KINDS
from training.bring.files import zips
from training.bring.graph import AsItIs, BringError, Brought, Port, first_line, inputs_of, port_of
from training.packaging.export import quiet, strip_origin

PROGRAM_COST = "PyTorch serves the program as it is, which a worker must have (some 250 MB of memory); rows take longer"
NUMBERS = {np.dtype(dtype): KINDS[name] for name, dtype in DTYPES.items() if name != "BYTES"}
NUMBERS_OF_TORCH = {dtype.name: kind for dtype, kind in NUMBERS.items()}  # it names types as NumPy does


class TorchOriginal:
    """A module of PyTorch that answers for its file.

    Args:
        names: of its inputs, in the order of its arguments.
    """

    def __init__(self, module: Any, names: Sequence[str]) -> None:
        self._module, self._names = module, names

    def run(self, tensors: Mapping[str, Array]) -> list[Array]:
        """Compute the outputs, in the graph's order.

        Raises:
            BringError: the module refuses these values.
        """
        try:
            with torch.inference_mode():
                outputs = self._module(*(torch.from_numpy(np.array(tensors[name])) for name in self._names))
            return [value.numpy() for value in pytree.tree_leaves(outputs) if isinstance(value, torch.Tensor)]
        except Exception as error:  # a module raises what its code does
            raise BringError(f"the module cannot compute these values: {first_line(error)}") from error


def read_program(path: Path, trust: bool) -> Brought:
    """Read a ``.pt2``.

    Raises:
        BringError: it is none, does not convert, or holds pickled objects, which may run code, and is not trusted.
    """
    if not trust and (where := _pickled(path)):
        raise BringError(f"{path}: {where} is pickled, and would run its code when it is read: --trust allows that")
    try:
        program = torch.export.load(path)
    except Exception as error:
        raise BringError(f"{path} is no program of torch.export: {first_line(error)}") from error
    return _of_program(path, "torch.export", program, path)


def read_module(path: Path, module: str, arguments: Mapping[str, Any], example: Path | None) -> Brought:
    """Read a file of weights into a module, and export it.

    Args:
        module: ``package.module:Class``; found in this directory too.
        arguments: of the class.
        example: its shapes are those of the export.

    Raises:
        BringError: the class cannot be made, the weights do not fit it, or it does not export; says why.
    """
    model = _made(module, arguments)
    try:
        model.load_state_dict(read_weights(path))
    except (RuntimeError, TypeError, AttributeError) as error:
        raise BringError(f"{path} does not fit {module}: {' '.join(str(error).split())[:400]}") from error
    names = list(inspect.signature(model.forward).parameters)
    tensors = example_tensors(example, names)
    model.eval()
    try:
        with quiet():
            try:
                shapes = tuple({0: Dim("batch")} for _ in tensors)
                doubled = tuple(torch.cat([tensor, tensor]) for tensor in tensors)
                program = torch.export.export(model, doubled, dynamic_shapes=_in_order(model, shapes))
            except Exception:  # rows that cannot run together still run one by one
                program = torch.export.export(model, tuple(tensors))
    except Exception as error:
        raise BringError(f"{module} does not export: {first_line(error)}") from error
    return _of_program(path, f"{module} with its weights", program)


def example_tensors(path: Path | None, names: Sequence[str]) -> list[torch.Tensor]:
    """Read one row for a module whose contract is not known yet: whole numbers are INT64, others FP32.

    Raises:
        BringError: there is none, or it lacks an argument of the module.
    """
    if path is None:
        raise BringError(f"a module needs --example, a row with {', '.join(names)}: its shapes stand nowhere else")
    try:
        value = np.load(path) if path.suffix == ".npy" else msgspec.json.decode(path.read_bytes())
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise BringError(f"{path} cannot be read: {error}") from error
    if isinstance(value, np.ndarray):
        value = value[0]
    if not isinstance(value, dict):
        value = {names[0]: value}
    elif len(names) == 1 and value.keys() == {"inputs"}:
        value = {names[0]: value["inputs"]}
    if missing := [name for name in names if name not in value]:
        raise BringError(f"{path} lacks {', '.join(missing)}: the module takes {', '.join(names)}")
    arrays = [np.asarray(value[name]) for name in names]
    if bad := next((name for name, array in zip(names, arrays, strict=True) if array.dtype.kind not in "iufb"), None):
        raise BringError(f"{path}: {bad} is no number and no list of numbers of one shape")
    return [torch.from_numpy(array.astype(np.float32) if array.dtype.kind == "f" else array)[None] for array in arrays]


def _of_program(path: Path, kind: str, program: ExportedProgram, file: Path | None = None) -> Brought:
    """Convert a program.

    Args:
        file: of the program, which can be served as it is; None where there is none.
    """
    names = tuple(map(str, program.graph_signature.user_inputs))
    original = TorchOriginal(program.module(), names)
    try:
        with quiet():
            exported = torch.onnx.export(program, dynamo=True, verbose=False)
        assert exported is not None
        graph = exported.model_proto
        strip_origin(graph)
        inputs, outputs = inputs_of(graph), tuple(port_of(value) for value in graph.graph.output)
        notes: tuple[str, ...] = ()
    except Exception as error:  # of the converter
        if not file:
            raise BringError(f"{path} does not convert to ONNX: {_cause(error)}") from error
        graph, notes = None, (f"it does not convert to ONNX ({_cause(error)}): {PROGRAM_COST}",)
        inputs, outputs = _ports(program, names), _ports(program, program.graph_signature.user_outputs)
    results = tuple(port.name for port in outputs)
    as_it_is = AsItIs("torch", file, PROGRAM, names, results, ("torch",), PROGRAM_COST) if file else None
    return Brought(path.name, kind, file_sha256(path), graph, inputs, outputs, (), notes, original, as_it_is=as_it_is)


def _ports(program: ExportedProgram, names: Sequence[Any]) -> tuple[Port, ...]:
    """Return inputs or outputs of a program as it describes them.

    Raises:
        BringError: one is of a datatype that no protocol has.
    """
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    ports = []
    for name in map(str, names):
        value: Any = values.get(name)
        dtype = str(getattr(value, "dtype", "no tensor")).removeprefix("torch.")
        if dtype not in NUMBERS_OF_TORCH:
            raise BringError(f"{name} of the program is {dtype}, which no request can hold")
        sizes = tuple(size if isinstance(size, int) else str(size) for size in value.shape)
        ports.append(Port(name, NUMBERS_OF_TORCH[dtype], sizes))
    return tuple(ports)


def _cause(error: BaseException) -> str:
    """Return the first line of the first cause; the converter wraps it in advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


def _pickled(path: Path) -> str:
    """Return the name of a pickled part of a program; empty where every part is plain."""
    try:
        for name in archive.names(path):
            content = archive.read_file(path, name)
            if name.endswith("config.json"):
                entries = msgspec.json.decode(content).get("config", {})
                if pickled := [key for key, entry in entries.items() if entry.get("use_pickle")]:
                    return str(pickled[0])
            elif "/sample_inputs/" in name:
                torch.load(io.BytesIO(content), weights_only=True)
    except ArchiveError as error:
        raise BringError(f"{path} is no program of torch.export: {error}") from error
    except Exception:  # torch.load: a part that only unpickling reads
        return name
    return ""


def _made(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    place, _, kind = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        model = getattr(importlib.import_module(place), kind)(**arguments)
    except Exception as error:  # the user's code runs
        raise BringError(f"{name} cannot be made: {type(error).__name__}: {first_line(error)}") from error
    finally:
        sys.path.pop(0)
    if not isinstance(model, nn.Module):
        raise BringError(f"{name} makes a {type(model).__name__}, no torch.nn.Module")
    return model


def read_weights(path: Path) -> Mapping[str, torch.Tensor]:
    """Read weights alone, without running code.

    Raises:
        BringError: the file holds something else, or the package that reads it is not installed.
    """
    zips.check_size(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            weights: Any = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise BringError(f"{path}: to read safetensors, run `pip install safetensors`") from error
    except Exception as error:
        raise BringError(f"{path} holds no weights alone: {first_line(error)}") from error
    if not isinstance(weights, Mapping):
        raise BringError(f"{path} holds no weights alone: it holds a {type(weights).__name__}")
    return weights.get("state_dict", weights)  # type: ignore[no-any-return]


def _in_order(model: nn.Module, shapes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the shapes as ``torch.export`` takes them: ``*inputs`` is one argument, a tuple."""
    kinds = [parameter.kind for parameter in inspect.signature(model.forward).parameters.values()]
    return (shapes,) if inspect.Parameter.VAR_POSITIONAL in kinds else shapes
