"""Export of a module around a model of transformers, with one input."""

from typing import Any

import onnx
import torch
from torch import Tensor, nn

from training.bring.files.huggingface.folder import Folder
from training.bring.graph import BringError, first_line
from training.packaging.export import quiet, strip_origin


def export(
    folder: Folder, module: nn.Module, rows: Tensor, shapes: tuple[Any, ...], name: str, outputs: int
) -> onnx.ModelProto:
    """Convert a module to an ONNX graph.

    Args:
        rows: two, to export with.
        shapes: the sizes of its input that vary, as ``torch.export`` takes them.
        name: of the input.
        outputs: number of them.

    Raises:
        BringError: it does not export; says why.
    """
    names = [f"head_{i}" for i in range(outputs)]  # the exporter does not look whether a name is that of an inner value
    try:
        with quiet(), torch.inference_mode():
            program = torch.export.export(module.eval(), (rows,), dynamic_shapes=shapes)
            exported = torch.onnx.export(program, input_names=[name], output_names=names, dynamo=True, verbose=False)
    except Exception as error:  # of either exporter, or of the model itself
        raise BringError(f"{folder.architecture} does not export: {first_line(error)}") from error
    assert exported is not None
    strip_origin(exported.model_proto)
    return exported.model_proto
