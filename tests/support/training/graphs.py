"""Small ONNX graphs as other people's tools write them, from the text form of ``onnx.parser``."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, parser

REGRESSION = """(float[N,3] x) => (float[N,1] variable)
<float[3,1] w = {1.0, 2.0, 3.0}> { variable = MatMul(x, w) }"""
LOGITS = """(float[N,2] input) => (float[N,3] logits)
<float[2,3] w = {1.0, 0.0, -1.0, 0.0, 2.0, 1.0}> { logits = MatMul(input, w) }"""
PROBABILITIES = """(float[N,2] input) => (float[N,2] p)
<float[2,2] w = {1.0, 0.0, -1.0, 2.0}> { l = MatMul(input, w) p = Softmax <axis = 1> (l) }"""
LOGIT = """(float[N,2] input) => (float[N,1] logit)
<float[2,1] w = {1.0, -1.0}> { logit = MatMul(input, w) }"""
HEADS = """(int64[N,T] input_ids, float[N,T] attention_mask) => (float[N] total, float[N,T] masked_1)
<int64[1] one = {1}> {
  values = Cast <to = 1> (input_ids)
  masked_1 = Mul(values, attention_mask)
  total = ReduceSum <keepdims = 0> (masked_1, one)
}"""
FIXED = """(float[1,2,2] pixel_values) => (float[1,4] flat)
<int64[2] shape = {1, 4}> { flat = Reshape(pixel_values, shape) }"""
FREEABLE = """(float[1,3] x) => (float[1,3] doubled)
{ doubled = Add(x, x) }"""
BOXES = """(float[N,4] values) => (float[M,2] boxes, float[M] scores)
<float[1] zero = {0.0}, int64[2] shape = {-1, 1}> {
  flat = Squeeze(values)
  over = Greater(flat, zero)
  scores = Compress <axis = 0> (flat, over)
  column = Reshape(scores, shape)
  boxes = Concat <axis = 1> (column, column)
}"""
CENTRED = """(float[N,2] x) => (float[N,2] y)
<int64[1] first = {0}> { mean = ReduceMean <keepdims = 1> (x, first) y = Sub(x, mean) }"""
INDEX = """(float[N,3] x) => (int64[N] best)
{ best = ArgMax <axis = 1, keepdims = 0> (x) }"""
SCALED = """(float scale, float[N,2] x) => (float[N,2] y)
{ y = Mul(x, scale) }"""
UNBATCHED = """(float[2,2] image) => (float total)
{ total = ReduceSum <keepdims = 0> (image) }"""
GAPS = """(float[N,2] x) => (float[N,1] y)
<float[1] twenty = {20.0}, float[2,1] w = {1.0, 1.0}> {
  gone = IsNaN(x)
  whole = Where(gone, twenty, x)
  y = MatMul(whole, w)
}"""
TEXTS = """(string[N] color, float[N] size) => (float[N,1] score)
<string[2] names = {"red", "blue"}, float[2] weights = {10.0, 20.0}> {
  wide = Unsqueeze(color, axis)
  hit = Equal(wide, names)
  numbers = Cast <to = 1> (hit)
  weighted = Mul(numbers, weights)
  sum = ReduceSum <keepdims = 1> (weighted, axis)
  tall = Unsqueeze(size, axis)
  score = Add(sum, tall)
}"""


def model(text: str, opset: int = 19) -> onnx.ModelProto:
    """Return a checked model of one graph."""
    body = text.replace("<string[2]", "<int64[1] axis = {1}, string[2]")
    parsed: onnx.ModelProto = parser.parse_model(f'<ir_version: 9, opset_import: ["" : {opset}]> graph {body}')
    # The text form has no dots in names, as graphs of torch have.
    return onnx.load_from_string(parsed.SerializeToString().replace(b"masked_1", b"masked.1"))


def save(text: str, path: Path, opset: int = 19) -> Path:
    """Write a model, and return its path."""
    onnx.save(model(text, opset), path)
    return path


def of_pictures(shape: tuple[int | str, ...], size: int, kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """Return a graph of three logits, to which each value of a picture adds a share of its own.

    Args:
        shape: of the input ``pixels``.
        size: values of a picture.
        kind: ONNX's number of its datatype.
    """
    weights = np.random.default_rng(5).normal(0, 0.1, (size, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["pixels"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["values", "rows"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "pictures",
        [helper.make_tensor_value_info("pixels", kind, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ("N" if shape[0] == "N" else 1, 3))],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.array([-1, size]), "rows")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model
