"""Engines, which run a model's graph. A new one is a class with ``run`` and a line in ``ENGINES``.

A file that is no graph has an engine of ``isolated``, which an archive has only where something is isolated.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np

from handlers.contract import Array, ModelContract
from handlers.engine import hooks
from handlers.engine.devices import CPU, check_device, check_session, onnx_providers, torch_device
from handlers.engine.isolation import ISOLATED, ChildFault
from handlers.engine.signature import Adapted, read_signature

PATIENCE = 60.0  # s for a batch of an engine in a process of its own, where nobody says another
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # cgroup v2: microseconds of a period, or "max"


class Engine(Protocol):
    """Runs one model."""

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the outputs of a batch; each tensor has the batch first."""


class Named(Protocol):
    """An input."""

    @property
    def name(self) -> str:
        """Name that the graph has for it."""


class Names(Protocol):
    """The inputs and outputs of a graph: a contract, or the signature of a file."""

    @property
    def inputs(self) -> Sequence[Named]:
        """In the order of arguments."""

    @property
    def graph_outputs(self) -> tuple[str, ...]:
        """In the order of results."""


class OnnxRuntimeEngine:
    """ONNX Runtime.

    Args:
        directory: holds ``model.onnx``.
        names: of the graph's inputs and outputs; None for all outputs by the graph's own names.
        threads: for one operator; the default of ONNX Runtime, all cores, makes workers compete for them.
        device: as of ``handler.device``.

    Raises:
        ValueError: the device is missing.
    """

    graph = "model.onnx"

    def __init__(self, directory: Path, names: Names | None, threads: int, device: str = CPU) -> None:
        self._session = open_session(str(directory / self.graph), threads, device=device)
        own = [output.name for output in self._session.get_outputs()]
        self._outputs = list(names.graph_outputs) if names else own

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the outputs of a batch."""
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(tensors)), strict=True))


def open_session(model: str | bytes, threads: int, log_severity: int = 2, device: str = CPU) -> Any:
    """Open ONNX Runtime, with answers that are the same on every kind of CPU.

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
    session = onnxruntime.InferenceSession(model, options, providers=onnx_providers(device))
    check_session(session, device)
    return session


class TorchEngine:
    """A ``torch.export`` program.

    Args:
        directory: holds ``model.pt2``.
        names: of the program's inputs and outputs, in order.
        threads: for one operator.
        device: as of ``handler.device``.

    Raises:
        ValueError: the device is missing.
    """

    graph = "model.pt2"

    def __init__(self, directory: Path, names: Names, threads: int, device: str = CPU) -> None:
        import torch

        self._device = torch_device(device)
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision("highest")  # no bfloat16 inside, whatever the CPU or the environment offers
        self._torch: Any = torch
        program = torch.export.load(directory / self.graph)
        if device != CPU:
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, self._device)
        self._module = program.module()
        self._inputs = [entry.name for entry in names.inputs]
        self._outputs = list(names.graph_outputs)

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the outputs of a batch."""
        torch = self._torch
        with torch.inference_mode():
            # torch has no read-only tensors, so that an array read from a request is copied.
            arrays = [np.require(tensors[name], requirements="W") for name in self._inputs]
            outputs = self._module(*(torch.from_numpy(array).to(self._device) for array in arrays))
        results = torch.utils._pytree.tree_leaves(outputs)
        return {name: result.cpu().numpy() for name, result in zip(self._outputs, results, strict=True)}


ENGINES: dict[str, type[OnnxRuntimeEngine] | type[TorchEngine]] = {
    "onnxruntime": OnnxRuntimeEngine,
    "torch": TorchEngine,
}


def load_engine(
    name: str,
    directory: Path,
    contract: ModelContract,
    threads: int,
    device: str = CPU,
    patience: float = PATIENCE,
    isolated: bool = False,
) -> Engine:
    """Load the engine that ``model-config.yaml`` names, with the archive's hooks or signature around it.

    Args:
        patience: s that a batch may take in a process of its own.
        isolated: whether a graph runs in such a process, too; hooks stay in this one.

    Raises:
        ValueError: no such engine or device, or hooks or a file that cannot be loaded.
    """
    if name not in ENGINES and name not in ISOLATED:
        known = ", ".join([*ENGINES, *ISOLATED])
        raise ValueError(f"handler.engine is {name!r} in model-config.yaml; it must be one of {known}")
    signature, has_hooks = read_signature(directory), (directory / hooks.FILE).exists()
    if has_hooks and not signature and name != "onnxruntime":
        raise ValueError(f"{hooks.FILE} runs beside onnxruntime, and handler.engine is {name}")
    if not signature and name in ISOLATED:
        raise ValueError(f"handler.engine is {name} in model-config.yaml, and the archive has no file for it")
    try:
        check_device(device)
        if signature and name in ISOLATED:
            from handlers.engine.isolated import IsolatedEngine

            graph: Engine = IsolatedEngine(name, directory, signature, threads, device, patience)
        else:
            names = signature or (None if has_hooks else contract)  # hooks have the graph's own names
            graph = _open_graph(name, directory, names, threads, device, patience if isolated else None)
    except (ImportError, ChildFault) as error:
        missing = hooks.missing_packages(directory)
        raise ValueError(f"the engine {name} cannot load the model: {error}{missing}") from error
    if has_hooks:
        return hooks.Hooked(hooks.Hooks(directory / hooks.FILE), graph, contract)
    return Adapted(signature, graph, contract) if signature else graph


def _open_graph(
    name: str, directory: Path, names: Names | None, threads: int, device: str, patience: float | None
) -> Engine:
    """Open a graph by an engine of ``ENGINES``: here, or with ``patience`` in a process of its own."""
    if patience is None:
        engine: Any = ENGINES[name]
        opened: Engine = engine(directory, names, threads, device)
        return opened
    from handlers.engine.isolated import IsolatedGraph

    inputs, outputs = ([entry.name for entry in names.inputs], names.graph_outputs) if names else ([], None)
    return IsolatedGraph(name, directory, inputs, outputs, threads, device, patience)


def graph_in_child(
    name: str, directory: str, inputs: Sequence[str], outputs: Sequence[str] | None, threads: int, device: str
) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """Return what computes the outputs of a batch, in the process of an ``IsolatedGraph``."""
    named = [SimpleNamespace(name=entry) for entry in inputs]
    names: Any = None if outputs is None else SimpleNamespace(inputs=named, graph_outputs=tuple(outputs))
    return _open_graph(name, Path(directory), names, threads, device, None).run


def graph_file(name: str, directory: Path) -> str:
    """Return the name of the file that an engine runs."""
    if name in ENGINES:
        return ENGINES[name].graph
    files = ISOLATED[name][1]
    return next((file for file in files if (directory / file).exists()), files[0])


def available_cores(quota: Path = QUOTA) -> int:
    """Return the number of cores for this process, by its affinity and a container's limit.

    More threads than that wait for each other until the next period begins.

    Args:
        quota: file with the limit; it may be missing.
    """
    cores = len(os.sched_getaffinity(0))
    try:
        allowed, _, period = quota.read_text(encoding="utf-8").partition(" ")
        return max(1, min(cores, math.ceil(int(allowed) / int(period))))
    except (OSError, ValueError):  # no such file, or no limit
        return cores
