from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from tests.training.improve.optimize.conftest import answers
from training.champion import FittedChampion
from training.improve.optimize import quantize
from training.improve.optimize.quantize import NotMadeError
from training.improve.optimize.variants import calibration

Convert = Callable[[FittedChampion, Path], Path]


def dynamic(champion: FittedChampion, folder: Path) -> Path:
    quantize.dynamic_int8(champion.graphs / "model.onnx", folder / "model.onnx")
    return folder


def static(champion: FittedChampion, folder: Path) -> Path:
    batches = calibration(champion)
    quantize.static_int8(champion.graphs / "model.onnx", folder / "model.onnx", batches)
    return folder


def half(champion: FittedChampion, folder: Path) -> Path:
    quantize.float16(champion.graphs / "model.onnx", folder / "model.onnx")
    return folder


ALL = pytest.mark.parametrize("convert", [dynamic, static, half])


def operators(graphs: Path) -> set[str]:
    return {node.op_type for node in onnx.load(graphs / "model.onnx").graph.node}


@pytest.mark.parametrize("convert", [dynamic, static])
def test_the_weights_of_both_layers_are_int8(champion: FittedChampion, tmp_path: Path, convert: Convert) -> None:
    graph = onnx.load(convert(champion, tmp_path) / "model.onnx").graph
    weights = [w for w in graph.initializer if len(w.dims) == 2]
    assert sorted(np.prod(w.dims).item() for w in weights) == [2 * 16, 16 * 4]
    assert {w.data_type for w in weights} == {TensorProto.INT8}


def test_dynamic_scales_activations_while_they_pass_and_static_beforehand(
    champion: FittedChampion, tmp_path: Path
) -> None:
    assert "DynamicQuantizeLinear" in operators(dynamic(champion, tmp_path))
    found = operators(static(champion, tmp_path))
    assert {"QuantizeLinear", "DequantizeLinear"} <= found
    assert "DynamicQuantizeLinear" not in found


def test_every_channel_has_a_scale_of_its_own(champion: FittedChampion, tmp_path: Path) -> None:
    graph = onnx.load(static(champion, tmp_path) / "model.onnx").graph
    assert (16,) in {tuple(w.dims) for w in graph.initializer if w.name.endswith("_scale")}


def test_the_initialisers_are_float16_and_the_contracts_types_stay(champion: FittedChampion, tmp_path: Path) -> None:
    graphs = half(champion, tmp_path)
    kinds = quantize.datatypes(graphs / "model.onnx")
    assert TensorProto.FLOAT16 in kinds
    assert TensorProto.FLOAT not in kinds
    session = onnxruntime.InferenceSession(graphs / "model.onnx")
    assert {tensor.type for tensor in [*session.get_inputs(), *session.get_outputs()]} == {"tensor(float)"}


@ALL
def test_answers_stay_close_for_any_number_of_rows(champion: FittedChampion, tmp_path: Path, convert: Convert) -> None:
    convert(champion, tmp_path)
    expected, found = answers(champion, champion.graphs), answers(champion, tmp_path)
    assert found.dtype == np.float32
    assert np.mean(found.argmax(1) == expected.argmax(1)) > 0.95
    assert 0 < np.abs(found - expected).max() < 0.3
    first = champion.trained.data.test.head(1).inputs
    assert answers(champion, tmp_path, first).shape == (1, 4)


@ALL
def test_the_same_graph_gives_the_same_bytes_without_traces(
    champion: FittedChampion, tmp_path: Path, convert: Convert
) -> None:
    first = (convert(champion, tmp_path) / "model.onnx").read_bytes()
    assert (convert(champion, tmp_path) / "model.onnx").read_bytes() == first
    model = onnx.load(tmp_path / "model.onnx")
    assert not model.metadata_props
    assert str(tmp_path).encode() not in first
    assert [tensor.type.tensor_type.shape.dim[0].dim_param for tensor in model.graph.input] == ["batch", "batch"]


@pytest.mark.parametrize(("convert", "kind"), [(quantize.dynamic_int8, "int8"), (quantize.float16, "float16")])
def test_a_graph_without_weights_is_refused(tmp_path: Path, convert: Callable[[Path, Path], None], kind: str) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "plain", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "plain.onnx")
    with pytest.raises(NotMadeError, match=f"it has no weights that could be {kind}"):
        convert(tmp_path / "plain.onnx", tmp_path / "small.onnx")


def test_what_is_no_graph_is_told_with_the_converters_reason(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"broken")
    with pytest.raises(NotMadeError, match="ONNX Runtime could not convert it to float16: "):
        quantize.float16(tmp_path / "broken.onnx", tmp_path / "small.onnx")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("flags\t\t: fpu avx2 avx512_vnni amx_int8\n", "AMX, AVX-512 VNNI"),
        ("Features\t: fp asimd asimddp\n", "Arm dot product"),
        ("flags\t\t: fpu avx2\n", ""),
    ],
)
def test_the_instructions_for_int8_are_read_from_the_kernels_list(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{text}")
    assert quantize.int8_instructions(tmp_path / "cpuinfo") == found


def test_without_the_list_no_instructions_are_assumed(tmp_path: Path) -> None:
    assert quantize.int8_instructions(tmp_path / "cpuinfo") == ""
