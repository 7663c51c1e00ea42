"""A folder of transformers and an ONNX file that take pictures; ``test_pictures`` looks at their answers."""

from pathlib import Path

import onnx

from tests.support.training import graphs
from tests.support.training.kinds.made import Made

MOBILENET = {
    "image_processor_type": "MobileNetV2ImageProcessor",
    "size": {"shortest_edge": 37},
    "crop_size": {"height": 32, "width": 32},
}
CONTRACT = """
labels: [anger, joy, no feeling]
inputs:
  pixels:
    background: ignore
    picture: {resize: shortest, size: 36, rounding: even, mean: [0.5, 0.4, 0.3], std: [0.2, 0.3, 0.4]}
"""


def pets(folder: Path) -> Made:
    """A folder of transformers with its processor."""
    from tests.support.training import huggingface

    model = huggingface.save_pictures(folder / "model", "ResNet", MOBILENET, id2label=huggingface.EMOTIONS)
    return Made(model, (), told="ResNetForImageClassification")


def pixels(folder: Path) -> Made:
    """An ONNX file, whose picture the contract's file describes."""
    onnx.save(graphs.of_pictures(("N", 3, 32, 32), 3 * 32 * 32), folder / "graph.onnx")
    (folder / "contract.yaml").write_text(CONTRACT)
    return Made(folder / "graph.onnx", ("--contract", folder / "contract.yaml"), told="or a picture, its shortest edge")
