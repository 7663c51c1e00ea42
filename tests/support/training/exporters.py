"""Which formats can be written and run here; the tests of the others are skipped, and say why."""

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from handlers.contract import Array, ModelContract
from serving.archive import PROGRAM
from training.improve.formats.format import Source

PYTHON = Path(os.environ.get("MARLOOP_LITERT_PYTHON", f"{sys.prefix}-litert/bin/python"))
INSTALLED = {
    "tflite": PYTHON.is_file() and importlib.util.find_spec("ai_edge_litert") is not None,
    "openvino": importlib.util.find_spec("openvino") is not None,
}
HOW = {
    "tflite": f"TensorFlow Lite is not written here: no ai-edge-litert, or no {PYTHON}; `make litert` installs both",
    "openvino": "OpenVINO is not installed: pip install -c constraints.txt -e '.[openvino]'",
}
FORMATS = [
    pytest.param(name, marks=pytest.mark.skipif(not INSTALLED.get(name, True), reason=HOW.get(name, "")))
    for name in ("onnx", "torch", "tflite", "openvino")
]


def source(module: nn.Module, contract: ModelContract, row: Mapping[str, Array], folder: Path) -> Source:
    """A module's program with a free batch, as an archive holds it."""
    example = tuple(torch.from_numpy(np.concatenate([value, value])) for value in row.values())
    batch = torch.export.Dim("batch")
    program = torch.export.export(module.eval(), example, dynamic_shapes=tuple({0: batch} for _ in example))
    graphs = folder / "archive"
    graphs.mkdir()
    torch.export.save(program, graphs / PROGRAM)
    return Source(contract, graphs, row)
