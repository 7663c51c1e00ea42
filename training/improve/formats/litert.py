"""TensorFlow Lite, for phones and small boards: written by ``litert-torch``, run by ``ai-edge-litert`` (LiteRT).

``litert-torch`` needs an older ``typing-extensions`` (below 4.13, for xdsl 0.28) than pydantic 2.14 (from 4.16), so
that both cannot live in one environment: it has its own, which borrows torch from this one (``litert.txt``).
"""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from handlers.contract import Array, ModelContract
from handlers.engine import Engine
from training.improve.formats import litert_convert
from training.improve.formats.format import ExportError, Format, Source, naming_the_operator

TIMEOUT = 600  # s, of a conversion


class LiteRTEngine:
    """A TensorFlow Lite file, which takes one row at a time."""

    def __init__(self, path: Path, contract: ModelContract) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._run: Any = Interpreter(str(path), num_threads=1).get_signature_runner()
        details = self._run.get_input_details()
        self._inputs = {spec.name: (f"args_{i}", details[f"args_{i}"]) for i, spec in enumerate(contract.inputs)}
        self._outputs = contract.graph_outputs

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the outputs of a batch, row by row."""
        rows = [self._row(tensors, i) for i in range(len(next(iter(tensors.values()))))]
        return {name: np.concatenate([row[i] for row in rows]) for i, name in enumerate(self._outputs)}

    def _row(self, tensors: Mapping[str, Array], i: int) -> list[Array]:
        feed = {}
        for name, (argument, detail) in self._inputs.items():
            value = tensors[name][i : i + 1].astype(detail["dtype"])  # LiteRT takes an INT64 as INT32
            missing = [(0, most - size) for most, size in zip(detail["shape"], value.shape, strict=True)]
            feed[argument] = np.pad(value, missing) if any(more for _, more in missing) else value  # a short text
        answer = self._run(**feed)
        return [answer[f"output_{j}"] for j in range(len(self._outputs))]


class TensorFlowLite(Format):
    """TensorFlow Lite with all shapes fixed: one row, with as many tokens as the longest text has.

    Args:
        python: the interpreter of the environment that holds ``litert-torch``.
    """

    name = "tflite"
    files = ("model.tflite",)
    runtime = "ai-edge-litert"
    extra = "tflite"
    batch = "1, fixed"

    def __init__(self, python: Path) -> None:
        self._python = python

    def write_files(self, source: Source, folder: Path) -> None:
        """Write ``model.tflite``."""
        program = source.require_program(self.name)
        if not self._python.is_file():
            raise ExportError(
                f"the format tflite is written by litert-torch, in an environment of its own, and {self._python} is "
                "not there: run `make litert`, which takes 1 GB"
            )
        shapes = json.dumps([(value.dtype.name, value.shape) for value in source.row.values()])
        command = [self._python, litert_convert.__file__, program, folder / self.files[0], shapes]
        with naming_the_operator(source.contract.name, self.name):
            process = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=TIMEOUT)
            if process.returncode:
                raise RuntimeError(process.stderr)

    def open(self, folder: Path, contract: ModelContract) -> Engine:
        """Open the file on LiteRT."""
        return LiteRTEngine(folder / self.files[0], contract)
