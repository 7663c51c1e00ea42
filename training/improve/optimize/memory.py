"""The memory of a graph, measured in a process of its own."""

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import psutil

from handlers.contract import Array, ModelContract
from handlers.engine import OnnxRuntimeEngine


def session_bytes(graphs: Path, contract: ModelContract, batch: Mapping[str, Array], threads: int) -> int:
    """Return the resident memory of a worker's loaded and run graph: weights and intermediate values.

    Args:
        graphs: folder of ``model.onnx``.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_measure, graphs, contract.to_json(), dict(batch), threads).result()


def _measure(graphs: Path, contract: bytes, batch: Mapping[str, Array], threads: int) -> int:
    described = ModelContract.from_json(contract)
    OnnxRuntimeEngine(graphs, described, threads)  # once before: the library's own memory is no graph's
    before = psutil.Process().memory_info().rss
    engine = OnnxRuntimeEngine(graphs, described, threads)
    engine.run(batch)
    return int(psutil.Process().memory_info().rss - before)
