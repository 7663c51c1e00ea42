"""Engines, which run a model's graph. A new one is a class with ``run`` and a line in ``ENGINES``."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from handlers.contract import Array, ModelContract
from handlers.engine import hooks

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # cgroup v2: microseconds of a period, or "max"


class Engine(Protocol):
    """Runs one model."""

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the outputs of a batch; each tensor has the batch first."""


class OnnxRuntimeEngine:
    """ONNX Runtime on the CPU.

    Args:
        directory: holds ``model.onnx``.
        contract: names the graph's inputs and outputs; None for all outputs by the graph's own names.
        threads: for one operator; the default of ONNX Runtime, all cores, makes workers compete for them.
    """

    graph = "model.onnx"

    def __init__(self, directory: Path, contract: ModelContract | None, threads: int) -> None:
        self._session = open_session(str(directory / self.graph), threads)
        own = [output.name for output in self._session.get_outputs()]
        self._outputs = list(contract.graph_outputs) if contract else own

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the outputs of a batch."""
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(tensors)), strict=True))


def open_session(model: str | bytes, threads: int, log_severity: int = 2) -> Any:
    """Open ONNX Runtime on the CPU, with answers that are the same on every kind of it.

    Args:
        model: path of a graph, or its bytes.
        log_severity: least of what it prints; 2 is a warning, 4 what is fatal.
    """
    # Since 1.29 its Linux wheel reports the models that it loads to its makers unless this is set before.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = log_severity
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A thread that spins while it waits takes the core from the frontend and the other workers.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Without it a CPU that lacks VNNI sums products of int8 in 16 bits, which overflow: the graph would answer
    # otherwise than on the machine that measured it.
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.add_session_config_entry("mlas.enable_gemm_fastmath_arm64_bfloat16", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class TorchEngine:
    """A ``torch.export`` program.

    Args:
        directory: holds ``model.pt2``.
        contract: names the program's inputs and outputs, in order.
        threads: for one operator.
    """

    graph = "model.pt2"

    def __init__(self, directory: Path, contract: ModelContract, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision("highest")  # no bfloat16 inside, whatever the CPU or the environment offers
        self._torch: Any = torch
        self._module = torch.export.load(directory / self.graph).module()
        self._inputs = [spec.name for spec in contract.inputs]
        self._outputs = list(contract.graph_outputs)

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the outputs of a batch."""
        with self._torch.inference_mode():
            # torch has no read-only tensors, so that an array read from a request is copied.
            inputs = [self._torch.from_numpy(np.require(tensors[name], requirements="W")) for name in self._inputs]
            outputs = self._module(*inputs)
        results = outputs if isinstance(outputs, tuple) else (outputs,)
        return {name: result.numpy() for name, result in zip(self._outputs, results, strict=True)}


ENGINES: dict[str, type[OnnxRuntimeEngine] | type[TorchEngine]] = {
    "onnxruntime": OnnxRuntimeEngine,
    "torch": TorchEngine,
}


def load_engine(name: str, directory: Path, contract: ModelContract, threads: int) -> Engine:
    """Load the engine that ``model-config.yaml`` names, with the archive's hooks around it.

    Raises:
        ValueError: no such engine, or hooks that cannot be loaded.
    """
    if name not in ENGINES:
        raise ValueError(f"handler.engine is {name!r} in model-config.yaml; it must be one of {', '.join(ENGINES)}")
    if not (directory / hooks.FILE).exists():
        return ENGINES[name](directory, contract, threads)
    if name != "onnxruntime":
        raise ValueError(f"{hooks.FILE} runs beside onnxruntime, and handler.engine is {name}")
    graph = OnnxRuntimeEngine(directory, None, threads)
    return hooks.Hooked(hooks.Hooks(directory / hooks.FILE), graph, contract)


def available_cores(quota: Path = QUOTA) -> int:
    """Return the number of cores for this process, by its affinity and a container's limit.

    More threads than that wait for each other until the next period begins.

    Args:
        quota: file with the limit; it may be missing.
    """
    cores = len(os.sched_getaffinity(0))
    try:
        allowed, _, period = quota.read_text().partition(" ")
        return max(1, min(cores, math.ceil(int(allowed) / int(period))))
    except (OSError, ValueError):  # no such file, or no limit
        return cores
