"""ONNX: a file, or a folder in which its weights lie beside it."""

from dataclasses import replace
from pathlib import Path

import onnx
from onnx.external_data_helper import uses_external_data

from serving.registry import file_sha256
from training.bring.graph import BringError, Brought, inputs_of, labels_of, port_of

LARGEST = 2_000_000_000  # bytes of a graph with its weights, the limit of protobuf


def read(path: Path) -> Brought:
    """Read a model.

    Raises:
        BringError: it is none, its weights are missing, or it is too large.
    """
    file = _file(path)
    try:
        model = onnx.load(file, load_external_data=False)
    except Exception as error:  # protobuf's class differs between its implementations
        raise BringError(f"{file} is no ONNX file: it cannot be decoded; it may be cut off") from error
    if not model.graph.node:
        raise BringError(f"{file} is no ONNX file: it holds no operator")
    outside = [weight for weight in model.graph.initializer if uses_external_data(weight)]
    try:
        onnx.load_external_data_for_model(model, str(file.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise BringError(f"{file}: its weights lie in other files, of which one cannot be read: {error}") from error
    if model.ByteSize() > LARGEST:
        raise BringError(f"{file} has {model.ByteSize() / 1e9:.1f} GB with its weights; at most 2 GB can be imported")
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise BringError(f"{file} is no valid ONNX graph: {str(error).strip().splitlines()[0]}") from error
    labels = labels_of(model.graph.node)
    without_maps(model)
    brain = _without_bfloat16(model)
    notes = (f"{len(outside)} weights lie in other files",) if outside else ()
    ports = (inputs_of(model), map(port_of, model.graph.output))
    inputs, outputs = (tuple(replace(port, brain=port.name in brain) for port in some) for some in ports)
    if not inputs:
        raise BringError(f"{file} has no inputs: it always answers the same")
    return Brought(file.name, "ONNX", file_sha256(file), model, inputs, outputs, labels, notes)


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.onnx"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise BringError(f"{path} must hold one .onnx file; it holds {names}")
    return found[0]


def without_maps(model: onnx.ModelProto) -> None:
    """Answer the array of probabilities where scikit-learn's converter answers a list of maps."""
    makers = {name: node for node in model.graph.node for name in node.output}
    for output in model.graph.output:
        node = makers.get(output.name)
        if node is not None and node.op_type == "ZipMap":
            output.CopyFrom(onnx.helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, None))
            model.graph.node.remove(node)


def _without_bfloat16(model: onnx.ModelProto) -> set[str]:
    """Cast inputs and outputs of bfloat16, which no NumPy array can hold, from and to FP32; return their names."""
    graph, short, found = model.graph, onnx.TensorProto.BFLOAT16, set()
    for value, is_input in [*((each, True) for each in graph.input), *((each, False) for each in graph.output)]:
        if value.type.tensor_type.elem_type != short:
            continue
        inner = f"{value.name}_bfloat16"
        found.add(value.name)
        for node in graph.node:
            for names in (node.input,) if is_input else (node.input, node.output):
                for i, name in enumerate(names):
                    if name == value.name:
                        names[i] = inner
        ends = ([value.name], [inner]) if is_input else ([inner], [value.name])
        cast = onnx.helper.make_node("Cast", *ends, to=short if is_input else onnx.TensorProto.FLOAT)
        graph.node.insert(0 if is_input else len(graph.node), cast)
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return found
