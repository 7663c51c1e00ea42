"""The model that every peer serves: one ONNX Runtime session, and the look-up of categories that the model needs.

Each peer's code is its server and nothing else, so that peers differ in the server only.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


class Model:
    """A model on the CPU, one thread.

    Args:
        directory: holds ``model.onnx`` and ``contract.json``.
    """

    def __init__(self, directory: Path) -> None:
        self.contract: dict[str, Any] = json.loads((directory / "contract.json").read_bytes())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            directory / "model.onnx", options, providers=["CPUExecutionProvider"]
        )
        inputs = self.contract["inputs"]
        self._positions = {
            spec["name"]: {category: i for i, category in enumerate(spec["categories"])}
            for spec in inputs
            if spec.get("categories")
        }
        self._dtypes = {spec["name"]: {"FP32": np.float32, "UINT8": np.uint8}.get(spec["datatype"]) for spec in inputs}

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Answer rows.

        Args:
            rows: a value of each feature by name; for a model with one array, that array under ``inputs``.

        Returns:
            A number a row, or the likeliest label with its index and probability.

        Raises:
            KeyError: a feature is missing, or a category is unknown.
        """
        named = len(self._dtypes) > 1
        tensors = {
            name: self._column(name, [row[name if named else "inputs"] for row in rows]) for name in self._dtypes
        }
        (output,) = self._session.run(None, tensors)
        labels = self.contract["labels"]
        if not labels:
            return output.tolist()  # type: ignore[no-any-return]
        best = output.argmax(1).tolist()
        return [
            {"label": labels[i], "index": i, "probability": float(row[i])} for i, row in zip(best, output, strict=True)
        ]

    def _column(self, name: str, values: list[Any]) -> Any:
        if name in self._positions:
            positions = self._positions[name]
            return np.array([positions[value] for value in values], np.int64)
        return np.array(values, self._dtypes[name] or np.int64)
