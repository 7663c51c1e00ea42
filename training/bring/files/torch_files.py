"""PyTorch: a program of ``torch.export``, a module with a file of weights, TorchScript; each becomes an ONNX graph."""

import importlib
import inspect
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree

from handlers.contract import Array
from serving import archive
from serving.registry import ArchiveError, file_sha256
from training.bring.graph import BringError, Brought, first_line, inputs_of, port_of
from training.packaging.export import quiet, strip_origin

SCRIPT_NOTE = "TorchScript is deprecated by PyTorch: `torch.export` writes what will be read in years to come"


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
    return _of_program(path, "torch.export", program)


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
        model.load_state_dict(_weights(path))
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


def read_script(path: Path, example: Path | None) -> Brought:
    """Read TorchScript, and convert it.

    Raises:
        BringError: it is none, needs an example, or has an operator that ONNX lacks.
    """
    try:
        with quiet():
            script: Any = torch.jit.load(path, map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except Exception as error:
        raise BringError(f"{path} is no TorchScript; weights alone need --module: {first_line(error)}") from error
    names = [value.debugName() for value in script.graph.inputs()][1:]
    tensors = example_tensors(example, names)
    buffer: Any = io.BytesIO()
    try:
        with quiet(), torch.inference_mode():
            axes = {name: {0: "batch"} for name in names}
            torch.onnx.export(
                script, tuple(tensors), buffer, input_names=names, dynamic_axes=axes, dynamo=False, opset_version=17
            )
    except Exception as error:
        raise BringError(f"{path} does not convert to ONNX: {first_line(error)}") from error
    graph = onnx.load_from_string(buffer.getvalue())
    return _brought(path, "TorchScript", graph, TorchOriginal(script, names), (SCRIPT_NOTE,))


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


def _of_program(path: Path, kind: str, program: ExportedProgram) -> Brought:
    names = list(map(str, program.graph_signature.user_inputs))
    try:
        with quiet():
            exported = torch.onnx.export(program, dynamo=True, verbose=False)
    except Exception as error:
        raise BringError(f"{path} does not convert to ONNX: {first_line(error)}") from error
    assert exported is not None
    graph = exported.model_proto
    strip_origin(graph)
    return _brought(path, kind, graph, TorchOriginal(program.module(), names))


def _brought(
    path: Path, kind: str, graph: onnx.ModelProto, original: TorchOriginal, notes: tuple[str, ...] = ()
) -> Brought:
    outputs = tuple(port_of(value) for value in graph.graph.output)
    return Brought(path.name, kind, file_sha256(path), graph, inputs_of(graph), outputs, notes=notes, original=original)


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


def _weights(path: Path) -> Mapping[str, torch.Tensor]:
    """Read weights alone, without running code."""
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
    return weights.get("state_dict", weights)  # type: ignore[no-any-return]


def _in_order(model: nn.Module, shapes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the shapes as ``torch.export`` takes them: ``*inputs`` is one argument, a tuple."""
    kinds = [parameter.kind for parameter in inspect.signature(model.forward).parameters.values()]
    return (shapes,) if inspect.Parameter.VAR_POSITIONAL in kinds else shapes
