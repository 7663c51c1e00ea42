"""Marloop's handler without contract and telemetry: the same wire, graph and batches, nothing checked.

It replaces an archive's entry point, and shows the cost of both.
"""

import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import orjson

from handlers import wire
from handlers.message import Request, Response


class Bare:
    """The handler of one model."""

    def initialize(self, context: Any) -> None:
        """Load the model, with the session's options of the real handler."""
        logging.getLogger().setLevel(logging.WARNING)
        os.environ["TS_DECODE_INPUT_REQUEST"] = "false"
        wire.install(True, sys.modules["ts"].__version__, self._answer)
        directory = Path(context.system_properties["model_dir"])
        contract = json.loads((directory / "contract.json").read_bytes())
        self._inputs, self._labels = contract["inputs"], contract["labels"]
        self._positions = {
            spec["name"]: {category: i for i, category in enumerate(spec["categories"])}
            for spec in self._inputs
            if spec.get("categories")
        }
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            directory / "model.onnx", options, providers=["CPUExecutionProvider"]
        )

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Exist because TorchServe looks for it; ``wire`` bypasses it."""
        raise NotImplementedError

    def _answer(self, requests: Sequence[Request]) -> list[Response]:
        rows = [orjson.loads(request.body) for request in requests]
        if len(self._inputs) == 1:
            tensors: dict[str, Any] = {self._inputs[0]["name"]: np.array([row["inputs"] for row in rows], np.uint8)}
        else:
            tensors = {spec["name"]: self._column(spec, rows) for spec in self._inputs}
        (output,) = self._session.run(None, tensors)
        if not self._labels:
            return [Response(200, orjson.dumps({"prediction": value})) for value in output.tolist()]
        answers = [
            {"label": self._labels[i], "index": i, "probability": float(row[i])}
            for i, row in zip(output.argmax(1).tolist(), output, strict=True)
        ]
        return [Response(200, orjson.dumps({"prediction": answer})) for answer in answers]

    def _column(self, spec: dict[str, Any], rows: list[dict[str, Any]]) -> Any:
        name = spec["name"]
        if name in self._positions:
            positions = self._positions[name]
            return np.array([positions[row[name]] for row in rows], np.int64)
        return np.array([row[name] for row in rows], np.float32 if spec["datatype"] == "FP32" else np.int64)
