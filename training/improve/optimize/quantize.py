"""Smaller numbers in an ONNX graph, by ONNX Runtime's own tools: int8, dynamic and static, and float16."""

import contextlib
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from handlers.contract import Array
from serving.archive import ONNX
from training.packaging.export import strip

INT8 = (TensorProto.INT8, TensorProto.UINT8)
# These run in int8 from end to end. Sums, normalisations and softmax stay float32: they cost little and need the range.
OPERATORS = ("Conv", "Relu", "MaxPool", "AveragePool", "GlobalAveragePool", "Gemm", "MatMul")
# Without these int8 is slower: ``handlers.engine`` then has products summed in 32 bits, since pairs overflow in 16.
# Weights have 8 bits wherever they are made, so that a graph does not depend on the machine that made it.
INSTRUCTIONS = {"amx_int8": "AMX", "avx512_vnni": "AVX-512 VNNI", "avx_vnni": "AVX VNNI", "asimddp": "Arm dot product"}


class NotMadeError(Exception):
    """A variant cannot be made of this model; the message says why."""


def dynamic_int8(source: Path, target: Path) -> None:
    """Convert weights to int8, a scale for each channel; activations are scaled while they pass, a batch at a time.

    Raises:
        NotMadeError: nothing in the graph can be int8, or the converter failed.
    """

    def convert(prepared: Path) -> None:
        from onnxruntime.quantization import quantize_dynamic

        quantize_dynamic(prepared, target, per_channel=True, reduce_range=False)

    _convert(source, target, convert, INT8, "int8")


def static_int8(source: Path, target: Path, batches: Iterable[Mapping[str, Array]]) -> None:
    """Convert weights and activations to int8 between quantize and dequantize nodes, with scales fixed beforehand.

    Args:
        batches: training rows as the graph takes them; the scales cover their activations.

    Raises:
        NotMadeError: nothing in the graph can be int8, or the converter failed.
    """

    def convert(prepared: Path) -> None:
        from onnxruntime.quantization import QuantFormat, quantize_static

        quantize_static(
            prepared,
            target,
            _Calibration(batches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATORS),
            per_channel=True,
            reduce_range=False,
        )

    _convert(source, target, convert, INT8, "int8")


def float16(source: Path, target: Path) -> None:
    """Convert weights and activations to float16; inputs and outputs stay as the contract has them.

    Raises:
        NotMadeError: nothing in the graph can be float16, or the converter failed.
    """

    def convert(prepared: Path) -> None:
        from onnxruntime.quantization.onnx_model import ONNXModel
        from onnxruntime.transformers.float16 import convert_float_to_float16

        model = ONNXModel(convert_float_to_float16(onnx.load(prepared), keep_io_types=True))
        model.topological_sort()  # the converter appends its casts
        model.save_model_to_file(target)

    _convert(source, target, convert, (TensorProto.FLOAT16,), "float16")


def datatypes(graph: Path) -> set[int]:
    """Return the ONNX datatypes of a graph's weights."""
    return {weight.data_type for weight in onnx.load(graph).graph.initializer}


def weights(graphs: Path) -> int:
    """Count the weights of a folder's graph; what a tree has in its nodes is none."""
    return int(sum(np.prod(weight.dims) for weight in onnx.load(graphs / ONNX).graph.initializer))


def int8_instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Name the instructions of this CPU that multiply int8 numbers and sum in 32 bits; empty without any."""
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    flags = {flag for line in text.splitlines() if line.startswith(("flags", "Features")) for flag in line.split()}
    return ", ".join(name for flag, name in INSTRUCTIONS.items() if flag in flags)


class _Calibration:
    """A reader of calibration rows, as ONNX Runtime expects it."""

    def __init__(self, batches: Iterable[Mapping[str, Array]]) -> None:
        self._remaining: Iterator[Mapping[str, Array]] = iter(batches)

    def get_next(self) -> dict[str, Array] | None:
        batch = next(self._remaining, None)
        return None if batch is None else dict(batch)


def _convert(source: Path, target: Path, convert: Callable[[Path], None], expected: tuple[Any, ...], kind: str) -> None:
    """Prepare a graph (sizes inferred, constants folded, operators fused), convert it, check it."""
    # Without this, ONNX Runtime's wheel for Linux reports the models that it loads to its makers.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepared = Path(folder) / "prepared.onnx"
        try:
            _prepare(source.absolute(), prepared)
            convert(prepared)
        except Exception as error:  # a converter may fail anyhow on a graph that it was not written for
            raise NotMadeError(f"ONNX Runtime could not convert it to {kind}: {error!r}") from error
    graph = onnx.load(target)
    if not any(weight.data_type in expected for weight in graph.graph.initializer):
        raise NotMadeError(f"it has no weights that could be {kind}")
    strip(graph)
    onnx.checker.check_model(graph)
    target.write_bytes(graph.SerializeToString(deterministic=True))


def _prepare(source: Path, prepared: Path) -> None:
    """Infer sizes by name, such as a text's length; without names where one is, say, the lesser of two."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    try:
        with contextlib.chdir(prepared.parent):  # where it fails, the tool leaves the graph in the present folder
            quant_pre_process(source, prepared)
    except Exception:
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
