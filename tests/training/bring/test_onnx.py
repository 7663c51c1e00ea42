"""An ONNX file that somebody else made becomes an archive that answers as the file does."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

from handlers.contract import ModelContract
from handlers.engine import load_engine
from handlers.formats.codec import Codec
from handlers.handler import ModelHandler
from handlers.message import JSON, OCTETS, Request
from serving import archive
from serving.registry import Registry
from tests.support.training import graphs
from training.__main__ import app
from training.bring import sources
from training.bring.draft import Draft, ImportOptions, draft
from training.bring.graph import BringError
from training.bring.importing import bring
from training.packaging.registration import Result
from training.packaging.result_file import Trained


class Imported:
    """An archive, opened as a worker opens it."""

    def __init__(self, result: Result, folder: Path) -> None:
        archive.unpack(result.archive, folder)
        self.result, self.contract = result, result.contract
        name = archive.read_config(folder)["handler"]["engine"]
        engine = load_engine(name, folder, self.contract, 1)
        self.handler = ModelHandler(self.contract, engine, Codec(self.contract, 1024))
        self.handler.check_example()

    def post(self, *bodies: Any, **headers: str) -> list[tuple[int, Any]]:
        """Answer requests that came together."""
        named = {"content-type": JSON} | {name.replace("_", "-"): value for name, value in headers.items()}
        requests = [Request(msgspec.json.encode(body), named, id=f"r-{i}") for i, body in enumerate(bodies)]
        responses = self.handler.handle(requests)
        return [(response.status, msgspec.json.decode(response.body)) for response in responses]


@pytest.fixture
def imported(tmp_path: Path) -> Any:
    def of(text: str, opset: int = 19, **options: Any) -> Imported:
        drafted = drafted_of(text, tmp_path, opset, **options)
        return Imported(bring(drafted, Registry(tmp_path / "store")), tmp_path / "unpacked")

    return of


def drafted_of(text: str, folder: Path, opset: int = 19, **options: Any) -> Draft:
    example = options.pop("example", None)
    if example is not None:
        (folder / "example.json").write_bytes(msgspec.json.encode(example))
        options["example"] = folder / "example.json"
    file = graphs.save(text, folder / "model.onnx", opset)
    return draft(sources.read(file), ImportOptions(name="credit", **options))


def original(text: str, **tensors: Any) -> list[Any]:
    """The answers of the file's graph by ONNX Runtime alone."""
    session = onnxruntime.InferenceSession(graphs.model(text).SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, tensors))


def test_one_number_a_row_is_a_regression_in_every_protocol(imported: Any) -> None:
    model = imported(graphs.REGRESSION, example={"x": [1, 2, 3]})
    assert (model.contract.task, model.contract.example.response) == ("regression", {"prediction": 14.0})
    (((status, native)), v1, v2) = model.post(
        {"inputs": [1, 1, 1]},
        {"instances": [[1, 0, 0], [0, 1, 0]]},
        {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [0, 0, 1]}]},
    )
    assert (status, native) == (200, {"prediction": 6.0})
    assert v1 == (200, {"predictions": [1.0, 2.0]})
    assert v2[1]["outputs"] == [{"name": "variable", "shape": [1], "datatype": "FP32", "data": [3.0]}]


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        (graphs.LOGITS, ("a", "b", "c"), lambda y: np.exp(y) / np.exp(y).sum()),
        (graphs.PROBABILITIES, ("no", "yes"), lambda y: y),
        (graphs.LOGIT, ("no", "yes"), lambda y: np.array([1 - 1 / (1 + np.exp(-y[0])), 1 / (1 + np.exp(-y[0]))])),
    ],
    ids=["logits", "probabilities", "a logit"],
)
def test_scores_of_labels_are_a_classification(
    imported: Any, text: str, labels: tuple[str, ...], expected: Any
) -> None:
    model = imported(text, labels=labels, example=[0.5, 2.0])
    wanted = expected(original(text, input=np.array([[0.5, 2.0]], np.float32))[0][0])
    ((status, answer),) = model.post({"inputs": [0.5, 2.0]}, x_top_k=str(len(labels)))
    assert status == 200
    shares = {each["label"]: each["probability"] for each in answer["prediction"]["top_k"]}
    assert [shares[label] for label in labels] == pytest.approx(wanted.tolist(), abs=1e-6)


def test_several_outputs_are_answered_by_name_and_rows_of_any_length_together(imported: Any) -> None:
    example = {"input_ids": [3, 4, 5], "attention_mask": [1, 1, 0]}
    model = imported(graphs.HEADS, example=example)
    assert model.contract.task == "tensors"
    assert [spec.name for spec in model.contract.outputs] == ["total", "masked_1"]
    bodies = [example, {"input_ids": [7], "attention_mask": [1]}, {"input_ids": [1, 1, 1], "attention_mask": [1, 1, 1]}]
    assert model.post(*bodies) == [model.post(body)[0] for body in bodies]
    assert model.post(*bodies)[0] == (200, {"prediction": {"total": 7.0, "masked_1": [3.0, 4.0, 0.0]}})
    (((status, answer)),) = model.post({"instances": [bodies[0], bodies[2]]})
    assert (status, [row["total"] for row in answer["predictions"]]) == (200, [7.0, 3.0])


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ({"input_ids": [1, 2], "attention_mask": [1]}, "attention_mask has 1 where input_ids has 2"),
        ({"input_ids": [], "attention_mask": []}, ""),
        ({"input_ids": [1] * 1025, "attention_mask": [1] * 1025}, ""),
        ({"input_ids": [[1]], "attention_mask": [1]}, ""),
    ],
)
def test_sizes_that_do_not_fit_are_the_clients_fault(imported: Any, body: Any, fault: str) -> None:
    model = imported(graphs.HEADS)
    ((status, answer), (other, _)) = model.post(body, {"input_ids": [1], "attention_mask": [1]})
    assert (status, other) == (400, 200)
    assert fault in answer["error"]["message"]
    tensors = [
        {"name": name, "shape": [1, np.asarray(values).size], "datatype": "INT64", "data": np.ravel(values).tolist()}
        for name, values in body.items()
    ]
    if body["input_ids"] != [[1]]:
        assert model.post({"inputs": tensors})[0][0] == 400


def test_rows_of_one_request_have_one_length(imported: Any) -> None:
    rows = [{"input_ids": [1], "attention_mask": [1]}, {"input_ids": [1, 2], "attention_mask": [1, 2]}]
    ((status, answer),) = imported(graphs.HEADS).post({"instances": rows})
    assert status == 400
    assert answer["path"] == "$.instances[1].input_ids"


def test_a_batch_fixed_at_one_is_freed_where_the_answers_stay_the_same(imported: Any) -> None:
    model = imported(graphs.FREEABLE, example=[1, 2, 3])
    assert model.contract.max_rows > 1
    assert model.post({"instances": [[1, 1, 1], [2, 2, 2]]})[0][1] == {"predictions": [[2, 2, 2], [4, 4, 4]]}


def test_a_batch_fixed_at_one_by_an_operator_runs_row_by_row(imported: Any) -> None:
    model = imported(graphs.FIXED, example=[[1, 2], [3, 4]])
    assert model.contract.max_rows == 1
    bodies = [{"inputs": [[i, i], [i, i]]} for i in range(5)]
    assert [answer["prediction"] for _, answer in model.post(*bodies)] == [[i] * 4 for i in range(5)]
    ((status, answer),) = model.post({"instances": [[[1, 1], [1, 1]]] * 2})
    assert (status, answer["code"]) == (413, "too_many_rows")


@pytest.mark.parametrize("options", [{}, {"example": [1, 2]}])
def test_a_graph_whose_rows_look_at_each_other_runs_them_one_by_one(imported: Any, options: dict[str, Any]) -> None:
    model = imported(graphs.CENTRED, **options)
    assert model.contract.max_rows == 1
    assert [answer["prediction"] for _, answer in model.post({"inputs": [1, 2]}, {"inputs": [5, 5]})] == [
        [0, 0],
        [0, 0],
    ]


def test_whole_numbers_are_answered(imported: Any) -> None:
    assert imported(graphs.INDEX).post({"inputs": [1, 9, 2]})[0] == (200, {"prediction": 1})


def test_an_input_without_a_batch_is_a_value_of_each_row(imported: Any) -> None:
    model = imported(graphs.SCALED)
    assert model.post({"scale": 3, "x": [1, 2]}, {"scale": 2, "x": [1, 2]}) == [
        (200, {"prediction": [3.0, 6.0]}),
        (200, {"prediction": [2.0, 4.0]}),
    ]


def test_an_example_that_the_graph_answers_with_nan_gets_a_sentence(tmp_path: Path) -> None:
    drafted = drafted_of("(float[N,2] x) => (float[N,2] y) { y = Log(x) }", tmp_path, example=[-1, 1])
    with pytest.raises(
        BringError, match="its own example is refused: .*y is nan in row 0.*give another row: --example"
    ):
        bring(drafted, Registry(tmp_path / "store"))


def test_a_variable_number_of_boxes_is_answered(imported: Any) -> None:
    model = imported(graphs.BOXES, example=[1, -1, 2, -2])
    assert model.contract.task == "tensors"
    bodies = [{"inputs": values} for values in ([1, -1, 2, -2], [-1, -1, -1, -1], [4, 3, 2, 1])]
    answers = [answer["prediction"] for _, answer in model.post(*bodies)]
    assert answers[0] == {"boxes": [[1, 1], [2, 2]], "scores": [1, 2]}
    assert answers[1] == {"boxes": [], "scores": []}
    assert len(answers[2]["boxes"]) == 4


@pytest.mark.parametrize("opset", [11, 13, 19])
def test_a_graph_without_a_batch_answers_a_row_at_a_time(imported: Any, opset: int) -> None:
    model = imported(graphs.UNBATCHED, opset, example=[[1, 2], [3, 4]])
    assert model.contract.inputs[0].shape == (-1, 2, 2)
    assert model.post({"inputs": [[1, 1], [1, 1]]}, {"inputs": [[2, 2], [2, 2]]}) == [
        (200, {"prediction": 4.0}),
        (200, {"prediction": 8.0}),
    ]


def test_columns_of_the_data_name_the_features_and_bound_them(imported: Any, tmp_path: Path) -> None:
    rows = "age (years),income,debt,rate\n" + "".join(
        f"{20 + i},{i * 10},{i},{20 + i + 20 * i + 3 * i}\n" for i in range(50)
    )
    (tmp_path / "rows.csv").write_text(rows)
    model = imported(graphs.REGRESSION, data=tmp_path / "rows.csv", target="rate")
    assert [spec.name for spec in model.contract.inputs] == ["age_years", "income", "debt"]
    assert model.contract.evaluation.metrics["rmse"] == pytest.approx(0, abs=1e-4)
    assert set(model.contract.reference.inputs) == {"age_years", "income", "debt"}
    row = {"age_years": 30, "income": 100, "debt": 10}
    assert model.post(row)[0] == (200, {"prediction": 260.0})
    ((status, answer),) = model.post(row | {"age_years": 1e9})
    assert (status, answer["error"]["code"]) == (400, "out_of_range")


def test_inputs_of_tensors_are_watched_where_data_are_given(imported: Any, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("scale,shift\n" + "".join(f"{i},{i % 5}\n" for i in range(20)))
    text = (
        "(float[N] scale, float[N] shift) => (float[N] up, float[N] down) {"
        " up = Add(scale, shift) down = Sub(scale, shift) }"
    )
    model = imported(text, data=tmp_path / "rows.csv")
    assert (model.contract.task, model.contract.reference.output) == ("tensors", None)
    assert model.contract.reference.inputs["shift"].numbers[[0, -1]].tolist() == [0, 4]
    assert model.post({"scale": 3, "shift": 1})[0] == (200, {"prediction": {"up": 4.0, "down": 2.0}})


def test_strings_of_the_data_are_categories_and_without_data_any_text(imported: Any, tmp_path: Path) -> None:
    free = imported(graphs.TEXTS, example={"color": "red", "size": 1})
    assert free.post({"color": "red", "size": 1}, {"color": "green", "size": 2}) == [
        (200, {"prediction": 11.0}),
        (200, {"prediction": 2.0}),
    ]
    (tmp_path / "rows.csv").write_text("color,size\nred,1\nblue,2\n")
    closed = draft(sources.read(tmp_path / "model.onnx"), ImportOptions(name="closed", data=tmp_path / "rows.csv"))
    model = Imported(bring(closed, Registry(tmp_path / "store")), tmp_path / "closed")
    assert model.contract.inputs[0].categories == ("blue", "red")
    ((status, answer), (other, error)) = model.post({"color": "blue", "size": 1}, {"color": "green", "size": 1})
    assert (status, answer, other) == (200, {"prediction": 21.0}, 400)
    assert "closest: " in error["error"]["expected"]


def test_many_strings_stay_free_text_whose_length_is_watched_as_far_as_it_is_captured(
    imported: Any, tmp_path: Path
) -> None:
    words = ["red", *(f"colour {i}" for i in range(300)), "x" * 3000]
    (tmp_path / "rows.csv").write_text("color,size\n" + "".join(f"{word},1\n" for word in words))
    model = imported(graphs.TEXTS, data=tmp_path / "rows.csv")
    assert model.contract.inputs[0].categories == ()
    assert model.contract.reference.inputs["color"].numbers[[0, -1]].tolist() == [3, 2000]
    assert model.post({"color": "never seen", "size": 2}) == [(200, {"prediction": 2.0})]
    (status, answer), *_ = model.post({"color": None, "size": 2})
    assert (status, answer["error"]["code"]) == (400, "wrong_type")


def test_bfloat16_is_asked_and_answered_as_such(imported: Any) -> None:
    text = "(bfloat16[N,2] x) => (bfloat16[N,2] y, bfloat16[N,2] z) { y = Identity(x) z = Identity(y) }"
    model = imported(text, example=[1.5, 2.0])
    assert [spec.datatype for spec in (*model.contract.inputs, *model.contract.outputs)] == ["BF16"] * 3
    assert model.post({"inputs": [0.5, 0.1]})[0] == (
        200,
        {"prediction": {"y": [0.5, 0.100097656], "z": [0.5, 0.100097656]}},
    )
    item = {"name": "x", "shape": [1, 2], "datatype": "BF16", "parameters": {"binary_data_size": 4}}
    head = msgspec.json.encode({"inputs": [item], "parameters": {"binary_data_output": True}})
    body = head + np.array([0x3F00, 0x3DCD], "<u2").tobytes()
    headers = {"content-type": OCTETS, "inference-header-content-length": str(len(head))}
    response = model.handler.handle([Request(body, headers, id="r")])[0]
    assert response.body[-8:] == 2 * np.array([0x3F00, 0x3DCD], "<u2").tobytes()


def test_weights_beside_the_file_come_along(tmp_path: Path) -> None:
    folder = tmp_path / "outside"
    folder.mkdir()
    weights = helper.make_tensor(
        "w", TensorProto.FLOAT, [1000, 1], np.arange(1000, dtype=np.float32).tobytes(), raw=True
    )
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1000])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "m.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    drafted = draft(sources.read(folder), ImportOptions(name="wide"))
    opened = Imported(bring(drafted, Registry(tmp_path / "store")), tmp_path / "unpacked")
    assert opened.post({"inputs": [1] * 1000})[0][1]["prediction"] == pytest.approx(499500)
    (folder / "weights").unlink()
    with pytest.raises(BringError, match="its weights lie in other files, of which one cannot be read"):
        sources.read(folder)


def test_the_first_version_is_champion_and_one_that_nothing_tells_about_is_not(tmp_path: Path) -> None:
    drafted, registry = drafted_of(graphs.REGRESSION, tmp_path), Registry(tmp_path / "store")
    first, second, third = bring(drafted, registry), bring(drafted, registry), bring(drafted, registry, "always")
    assert [result.state for result in (first, second, third)] == ["champion", "challenger", "champion"]
    assert "marloop promote credit 1.1" in second.why
    assert third.contract.lineage.imported == first.contract.lineage.imported
    assert ModelContract.from_json(third.contract.to_json()) == third.contract


BAD: list[tuple[str, bytes | str, str]] = [
    ("cut off", "cut", "it may be cut off|is no valid ONNX graph"),
    ("empty", b"", "it holds no operator"),
    ("no model", b"PK\x03\x04" + bytes(100), "cannot be decoded|holds no operator|no valid"),
    ("opset", "(float[N,1] x) => (float[N,1] y) { y = Identity(x) }", "ONNX Runtime .* cannot run it: .*opset"),
    ("operator", "(float[N,1] x) => (float[N,1] y) { y = com.acme.Magic(x) }", "Magic"),
    (
        "sequence",
        "(seq(float[N]) x) => (float[N] y) <int64 i = {0}> { y = SequenceAt(x, i) }",
        "x is a sequence, and no tensor",
    ),
    ("complex", "(complex64[N] x) => (complex64[N] y) { y = Identity(x) }", "datatype COMPLEX64"),
]


@pytest.mark.parametrize(("case", "content", "expected"), BAD, ids=[case for case, _, _ in BAD])
def test_a_bad_file_gets_a_sentence(tmp_path: Path, case: str, content: bytes | str, expected: str) -> None:
    path = tmp_path / "bad.onnx"
    if content == "cut":
        whole = graphs.save(graphs.REGRESSION, path).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif isinstance(content, str):
        domains = '"" : 99' if case == "opset" else '"" : 19, "com.acme" : 1'
        onnx.save(onnx.parser.parse_model(f"<ir_version: 9, opset_import: [{domains}]> g {content}"), path)
    else:
        path.write_bytes(content)
    with pytest.raises(BringError, match=expected):
        draft(sources.read(path), ImportOptions(name="bad"))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"labels": ("a", "b", "c")}, "no output has a score for each of the 3 labels"),
        ({"task": "classification"}, "needs the names of its classes: --labels"),
        ({"example": {"x": [1, 2]}}, "example.json: .*length >= 3 at"),
        ({"example": {"y": 1}}, "example.json: "),
    ],
)
def test_what_does_not_fit_the_graph_gets_a_sentence(tmp_path: Path, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(BringError, match=expected):
        drafted_of(graphs.REGRESSION, tmp_path, **options)


def test_a_program_reads_the_new_version_as_json(tmp_path: Path) -> None:
    file = graphs.save(graphs.REGRESSION, tmp_path / "model.onnx", 19)
    command = ["import", str(file), "--name", "credit", "--store", str(tmp_path / "store"), "--json"]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    version = msgspec.json.decode(done.stdout, type=Trained)
    assert (done.exit_code, version.model, version.version, version.state) == (0, "credit", "1.0", "champion")
    assert Path(version.archive).is_file()
    assert "opset 19" in done.stderr
    file.write_bytes(b"none")
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert (done.exit_code, done.stdout, done.stderr[:6]) == (1, "", "error:")


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_names_of_classes_stand_in_a_file_with_or_without_a_byte_order_mark(tmp_path: Path, mark: bytes) -> None:
    file = graphs.save(graphs.LOGITS, tmp_path / "model.onnx", 19)
    names = tmp_path / "names.txt"
    names.write_bytes(mark + "hôtel, Nice\r\nbar\r\ncafé\r\n".encode())
    command = ["import", str(file), "--name", "places", "--store", str(tmp_path / "store"), "--labels", str(names)]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    contract = Registry(tmp_path / "store").champion_contract("places")
    assert contract.labels == ("hôtel, Nice", "bar", "café")
    names.write_text("hôtel\nbar\ncafé\n", "latin-1")
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert f"--labels: {names} is no text in UTF-8 with a name a line" in done.output
