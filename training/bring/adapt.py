"""The served graph: the file's, between the contract's inputs and outputs."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.compose import add_prefix

from handlers.contract import DTYPES, TensorSpec
from handlers.engine.signature import Head
from training.bring.feeds import Feed, Pixels
from training.bring.graph import DATATYPES, OPSETS, Brought
from training.bring.heads import Answers

OLDEST = 8  # format of ONNX with opset 17; weights of the first ones are inputs too
PREFIX = "model/"  # of all names of the file's graph, so that none is that of a contract
# ONNX's numbers of datatypes; NumPy has no bfloat16, so that the graph casts it.
KINDS = {name: kind for kind, name in DATATYPES.items()} | {"BF16": TensorProto.FLOAT}


def adapt(model: Brought, feeds: Sequence[Feed], answers: Answers, bare: Collection[int]) -> onnx.ModelProto:
    """Return a graph with the contract's inputs and outputs.

    Args:
        bare: positions of the file's outputs that lack the batch's axis.
    """
    graph = add_prefix(model.converted, PREFIX)
    if not any(entry.domain in OPSETS for entry in graph.opset_import):
        graph.opset_import.append(helper.make_opsetid("", 17))
    graph.ir_version = max(graph.ir_version, OLDEST)
    work = _Work(graph, model.opset or 17, bare)
    for feed in feeds:
        work.feed(feed)
    outputs = [output.name for output in graph.graph.output]
    del graph.graph.input[:], graph.graph.output[:], graph.graph.value_info[:]
    graph.graph.input.extend(work.inputs)
    for i, head in enumerate(answers.heads):
        work.head(head, model, outputs[head.at], answers.shape(i))
    graph.graph.output.extend(work.outputs)
    body = list(graph.graph.node)
    del graph.graph.node[:]
    graph.graph.node.extend([*work.before, *body, *work.after])
    onnx.checker.check_model(graph)
    return graph


class _Work:
    """Nodes that are added before and after a graph."""

    def __init__(self, graph: onnx.ModelProto, opset: int, bare: Collection[int]) -> None:
        self._graph, self._opset, self._bare = graph, opset, bare
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.before: list[onnx.NodeProto] = []
        self.after: list[onnx.NodeProto] = []

    def feed(self, feed: Feed) -> None:
        """Make an input of the graph of the contract's."""
        columns = [self._input(spec, feed) for spec in feed.specs]
        target = f"{PREFIX}{feed.port.name}"
        if feed.is_matrix:
            wide = [self._reshaped(self.before, name, [-1, 1]) for name in columns]
            self._node(self.before, "Concat", wide, target, axis=1)
        elif feed.batched:
            self._node(self.before, "Identity", columns, target)
        else:
            self._node(self.before, "Squeeze", [columns[0], *self._axes([0])], target, **self._axes_attribute([0]))

    def head(self, head: Head, model: Brought, source: str, shape: Sequence[int]) -> None:
        """Make an output of the contract of the graph's."""
        kind = model.outputs[head.at].kind
        if head.at in self._bare:
            inputs = [source, *self._axes([0])]
            source = self._made(self.after, "Unsqueeze", inputs, **self._axes_attribute([0]))
        if head.place is not None:
            source = self._made(self.after, "Gather", [source, self._constant(np.array(head.place))], axis=1)
        elif head.step == "column":
            source = self._reshaped(self.after, source, [-1])
        elif head.step == "softmax":
            source = self._made(self.after, "Softmax", [source], axis=1)
        elif head.step == "sigmoid":
            likely = self._made(self.after, "Sigmoid", [self._reshaped(self.after, source, [-1, 1])])
            one = self._constant(np.ones(1, DTYPES[DATATYPES[kind]]))
            source = self._made(self.after, "Concat", [self._made(self.after, "Sub", [one, likely]), likely], axis=1)
        self._node(self.after, "Identity", [source], head.name)
        self.outputs.append(helper.make_tensor_value_info(head.name, kind, _sizes(head.name, shape)))

    def _input(self, spec: TensorSpec, feed: Feed) -> str:
        """Add an input of the contract, and return the name of its values in the graph's datatype."""
        kind = TensorProto.INT64 if spec.categories or feed.is_text else KINDS[spec.datatype]
        shape = (-1, -1) if feed.is_text else spec.shape
        self.inputs.append(helper.make_tensor_value_info(spec.name, kind, _sizes(spec.name, shape)))
        name = spec.name
        if spec.categories:
            names = self._constant(np.array(spec.categories, object))
            return self._made(self.before, "Gather", [names, name], axis=0)
        if feed.pixels:
            name, kind = self._pixels(name, kind, feed.pixels, len(spec.shape))
        if kind != feed.port.kind:
            name = self._made(self.before, "Cast", [name], to=feed.port.kind)
        return name

    def _pixels(self, name: str, kind: int, pixels: Pixels, axes: int) -> tuple[str, int]:
        """Return the name and kind of the values that ``Pixels.apply`` makes of a picture.

        Args:
            axes: number of the picture's.
        """
        if pixels.is_bgr:
            name = self._made(self.before, "Gather", [name, self._constant(np.array([2, 1, 0]))], axis=3)
        if pixels.has_arithmetic:
            name, kind = self._made(self.before, "Cast", [name], to=TensorProto.FLOAT), TensorProto.FLOAT
            for operator, numbers in (("Div", pixels.scale), ("Sub", pixels.mean), ("Div", pixels.std)):
                name = self._made(self.before, operator, [name, self._constant(np.array(numbers, np.float32))])
        if axes == 3 and pixels.layout != "nhw":
            at = [1 if pixels.layout == "nchw" else 3]
            name = self._made(self.before, "Unsqueeze", [name, *self._axes(at)], **self._axes_attribute(at))
        elif pixels.layout == "nchw":
            name = self._made(self.before, "Transpose", [name], perm=[0, 3, 1, 2])
        return name, kind

    def _reshaped(self, nodes: list[onnx.NodeProto], name: str, shape: list[int]) -> str:
        return self._made(nodes, "Reshape", [name, self._constant(np.array(shape, np.int64))])

    def _axes(self, axes: list[int]) -> list[str]:
        """Return the axes as an input, which they are since opset 13."""
        return [self._constant(np.array(axes, np.int64))] if self._opset >= 13 else []

    def _axes_attribute(self, axes: list[int]) -> dict[str, list[int]]:
        return {} if self._opset >= 13 else {"axes": axes}

    def _constant(self, values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> str:
        name = f"constant_{len(self._graph.graph.initializer)}"
        self._graph.graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def _made(self, nodes: list[onnx.NodeProto], kind: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{kind.lower()}_{len(self.before)}_{len(self.after)}"
        self._node(nodes, kind, inputs, name, **attributes)
        return name

    @staticmethod
    def _node(nodes: list[onnx.NodeProto], kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))


def _sizes(name: str, shape: Sequence[int]) -> list[str | int]:
    return ["batch", *(f"{name}_{i}" if size == -1 else size for i, size in enumerate(shape[1:]))]
