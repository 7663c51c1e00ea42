"""Convert a ``torch.export`` program to TensorFlow Lite; runs by itself, in the environment that has litert-torch.

python litert_convert.py model.pt2 model.tflite '[["float32", [1]]]'
"""

import json
import sys
from typing import Any


def convert(program_path: str, output_path: str, inputs: list[tuple[str, list[int]]]) -> None:
    """Convert a program.

    Args:
        inputs: datatype and fixed shape of each.

    Raises:
        RuntimeError: an operator cannot be lowered; the message names it.
    """
    import litert_torch
    import torch

    program = torch.export.load(program_path)
    module = program.run_decompositions({torch.ops.aten.one_hot.default: _one_hot}).module()
    _drop_assertions(module.graph)
    module.recompile()
    example = tuple(torch.zeros(shape, dtype=getattr(torch, datatype)) for datatype, shape in inputs)
    litert_torch.convert(module, example).export(output_path)


def _one_hot(index: Any, classes: int) -> Any:
    """Encode without torch's own decomposition, whose scatter and assertion cannot be lowered."""
    import torch

    return (index.unsqueeze(-1) == torch.arange(classes, device=index.device)).long()


def _drop_assertions(graph: Any) -> None:
    """Remove assertions: they compute nothing, and cannot be lowered."""
    for node in list(graph.nodes):
        if node.op == "call_function" and str(node.target).startswith("aten._assert"):
            graph.erase_node(node)
    graph.eliminate_dead_code()


if __name__ == "__main__":
    convert(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
