"""Low-rank adapters in a graph of OpenVINO: each token gets the change of its own request's adapter.

Where a layer computes ``x W``, the change of its adapter is ``(x D) U`` of two narrow matrices. Those of all adapters
stand side by side, and a mask leaves each token only its own part. So one pass computes requests of several adapters,
and a request of none gets zeros (as Punica's SGMV does by gathering, Chen et al. 2023).
"""

import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from handlers.contract import Array
from handlers.language.decoders.adapters import Adapter, layer_names, rank_of

INPUT = "adapters"  # of the graph, int64 ``(tokens,)``: 0 for none, else the number of the token's adapter from 1 on
_PARTS = len(tuple(layer_names(1)))  # layers of a block with weights
_NUMBER = re.compile(r"MatMul_(\d+)")


def add_adapters(model: Any, adapters: Mapping[str, Adapter]) -> None:
    """Add adapters to a graph whose tokens are the first dimension.

    Args:
        adapters: at least one, by name.

    Raises:
        ValueError: one does not fit the model; says where.
    """
    from openvino import opset13 as ops

    layers = _layers(model)
    ranks = [rank_of(adapter) for adapter in adapters.values()]
    starts = [*accumulate(ranks, initial=0)]
    own = np.zeros((len(ranks) + 1, starts[-1]), np.float32)
    for i in range(len(ranks)):
        own[i + 1, starts[i] : starts[i + 1]] = 1
    numbers = ops.parameter([-1], np.int64, name=INPUT)
    numbers.output(0).set_names({INPUT})
    mask = ops.unsqueeze(ops.gather(own, numbers, np.int64(0)), np.int64(1))
    for name in sorted({name for adapter in adapters.values() for name in adapter}):
        if name not in layers:
            raise ValueError(f"an adapter changes {name}; the model has {len(layers) // _PARTS} layers")
        node = layers[name]
        down, up = _side_by_side(name, _shape(node), adapters, starts)
        users = node.output(0).get_target_inputs()
        narrow = ops.multiply(ops.matmul(node.input_value(0), down, False, True), mask)
        changed = ops.add(node.output(0), ops.matmul(narrow, up, False, True))
        for user in users:
            user.replace_source_output(changed.output(0))
    model.add_parameters([numbers])


def numbers_of(adapters: Sequence[str], of_parts: Sequence[str], lengths: Sequence[int]) -> Array:
    """Return what the graph's input needs, the number of each token's adapter.

    Args:
        adapters: all, in their order in the graph.
        of_parts: the adapter of each part of a batch; empty for none.
        lengths: tokens of each part.
    """
    return np.repeat(np.array([adapters.index(name) + 1 if name else 0 for name in of_parts], np.int64), lengths)


def _side_by_side(
    layer: str, shape: tuple[int, int], adapters: Mapping[str, Adapter], starts: Sequence[int]
) -> tuple[Array, Array]:
    """Return the matrices of all adapters of a layer, FP32 ``(ranks, inputs)`` and ``(outputs, ranks)``."""
    outputs, inputs = shape
    down, up = np.zeros((starts[-1], inputs), np.float32), np.zeros((outputs, starts[-1]), np.float32)
    for start, (title, adapter) in zip(starts, adapters.items(), strict=False):
        if layer not in adapter:
            continue
        change = adapter[layer]
        rank = change.down.shape[0]
        if change.down.shape != (rank, inputs) or change.up.shape != (outputs, rank):
            made = f"{change.down.shape[1]} inputs and {change.up.shape[0]} outputs"
            fault = f"it was made for {made}, and the model has {inputs} and {outputs}"
            raise ValueError(f"the adapter {title} is of another model: in {layer} {fault}")
        down[start : start + rank], up[:, start : start + rank] = change
    return down, up


def _layers(model: Any) -> dict[str, Any]:
    """Return the nodes of the layers with weights by name; the writer of the graph numbered them in its order."""
    found = []
    for node in model.get_ops():
        number = _NUMBER.fullmatch(node.get_friendly_name())
        shape = node.input(1).get_partial_shape() if number and node.get_type_name() == "MatMul" else None
        if number and shape is not None and shape.is_static and len(shape) == 2:
            found.append((int(number[1]), node))
    nodes = [node for _, node in sorted(found, key=lambda pair: pair[0])][:-1]  # the last one makes the logits
    count = len(nodes) // _PARTS
    layers = dict(zip(layer_names(count), nodes, strict=False))
    if not count or len(nodes) % _PARTS or not all(_is_block(layers, number) for number in range(count)):
        raise ValueError("the layers of this model are not those of Llama, so that adapters cannot be put beside them")
    return layers


def _is_block(layers: Mapping[str, Any], number: int) -> bool:
    """Tell whether a block's layers have the shapes of attention and of a gated feed-forward part."""
    query, key, value, output, gate, up, down = (
        _shape(layers[f"layers.{number}.{part}"]) for part in (name.split(".", 2)[2] for name in layer_names(1))
    )
    attends = query == output[::-1] and key == value and key[1] == query[1]
    return attends and gate == up == down[::-1] and gate[1] == query[1]


def _shape(node: Any) -> tuple[int, int]:
    """Return a layer's outputs and inputs."""
    outputs, inputs = node.input(1).get_partial_shape()
    return outputs.get_length(), inputs.get_length()
