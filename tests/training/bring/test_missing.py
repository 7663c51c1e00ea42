"""Data with empty cells: what a model that was trained elsewhere gets for them, and that it answers as it did there."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from handlers.contract import ModelContract, TensorSpec
from serving.registry import Registry
from tests.support.training import graphs
from tests.training.bring.test_onnx import Imported
from training.bring import sources
from training.bring.draft import Draft, ImportOptions, describe, draft
from training.bring.graph import BringError
from training.bring.importing import bring
from training.bring.sources import Reading

ROWS = "age,debt\n1,2\n,4\n5,\n" + "".join(f"{i % 40},{i % 9}\n" for i in range(400))


def drafted(folder: Path, text: str = graphs.GAPS, rows: str = ROWS, contract: str = "") -> Draft:
    (folder / "rows.csv").write_text(rows)
    (folder / "contract.yaml").write_text(contract)
    options = ImportOptions(name="credit", data=folder / "rows.csv", contract=folder / "contract.yaml")
    return draft(sources.read(graphs.save(text, folder / "model.onnx")), options)


def served(folder: Path, draft: Draft) -> Imported:
    return Imported(bring(draft, Registry(folder / "store")), folder / "unpacked")


def test_a_column_with_empty_cells_is_guessed_to_be_nullable_and_marked(tmp_path: Path) -> None:
    guessed = drafted(tmp_path)
    assert [(spec.nullable, spec.default) for spec in guessed.contract.inputs] == [(True, None), (True, None)]
    lines = {part: (text, why) for part, text, why in describe(guessed)}
    assert lines["input age"][0].endswith("or null")
    assert lines["input age"][1] == "1 rows of rows.csv lack it; the graph gets NaN"
    model = served(tmp_path, guessed)
    answers = model.post({"age": 3, "debt": 4}, {"age": None, "debt": 4}, {"debt": 4}, {})
    assert answers == [(200, {"prediction": value}) for value in (7, 24, 24, 40)]
    summary = model.contract.reference.inputs["debt"]
    assert summary.missing is not None
    assert summary.missing.counts == {"present": 402, "missing": 1}
    assert np.isfinite(summary.numbers).all()


def test_the_first_row_of_the_data_may_lack_a_value_and_is_the_example(tmp_path: Path) -> None:
    model = served(tmp_path, drafted(tmp_path, rows="age,debt\n,2\n1,2\n"))
    assert (model.contract.example.request, model.contract.example.response) == (
        {"age": None, "debt": 2},
        {"prediction": 22},
    )
    assert ModelContract.from_json(model.contract.to_json()) == model.contract


def test_the_contracts_file_says_a_default_or_that_nothing_may_be_missing(tmp_path: Path) -> None:
    model = served(tmp_path, drafted(tmp_path, contract="inputs: {age: {default: 7}, debt: {nullable: true}}"))
    assert model.post({"debt": 1}) == [(200, {"prediction": 8})]
    with pytest.raises(BringError, match=r"column 'age': 1 rows have no value, and age \(FP32\) needs one"):
        drafted(tmp_path, contract="inputs: {age: {nullable: false}}")
    with pytest.raises(BringError, match="a default needs nullable: true"):
        drafted(tmp_path, rows="age,debt\n1,2\n3,4\n", contract="inputs: {age: {default: 7}}")
    full = drafted(tmp_path, rows="age,debt\n1,2\n3,4\n")
    assert not any(spec.nullable for spec in full.contract.inputs)
    assert b"nullable" not in full.contract.to_json()


def test_a_column_without_any_value_or_of_whole_numbers_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BringError, match="column 'age': no row has a value"):
        drafted(tmp_path, rows="age,debt\n,1\n,2\n")
    whole = graphs.GAPS.replace("float[N,2] x", "int64[N,2] n").replace("{\n", "{\n  x = Cast <to = 1> (n)\n", 1)
    with pytest.raises(BringError, match=r"1 rows have no value, and age \(INT64\) needs one"):
        drafted(tmp_path, whole, "age,debt\n1,2\n,2\n")


def test_strings_may_be_missing_too(tmp_path: Path) -> None:
    rows = "color,size\nred,1\n,2\nblue,3\n"
    model = served(tmp_path, drafted(tmp_path, graphs.TEXTS, rows))
    (color, _) = model.contract.inputs
    assert color == TensorSpec("color", "BYTES", categories=("", "blue", "red"), nullable=True, default="")
    assert model.post({"size": 2}, {"color": "red", "size": 2}) == [(200, {"prediction": 2}), (200, {"prediction": 12})]
    contract = "inputs: {color: {categories: [blue, red], default: blue}}"
    model = served(tmp_path / "other", drafted(tmp_path, graphs.TEXTS, rows, contract))
    assert model.post({"size": 2}, {"color": None, "size": 2}) == [(200, {"prediction": 22}), (200, {"prediction": 22})]


WORDS = "color,size\n" + "".join(f"{word},1\n" for word in ("red", *(f"colour {i}" for i in range(300))))


def test_texts_that_are_no_closed_set_may_be_missing_too(tmp_path: Path) -> None:
    guessed = drafted(tmp_path, graphs.TEXTS, WORDS + ",2\n" * 5)
    assert guessed.contract.inputs[0] == TensorSpec("color", "BYTES", nullable=True, default="")
    assert {part: why for part, _, why in describe(guessed)}["input color"] == (
        "5 rows of rows.csv lack it; the graph gets ''"
    )
    model = served(tmp_path, guessed)
    lacking: list[dict[str, Any]] = [{"size": 2}, {"color": None, "size": 2}, {"color": "", "size": 2}]
    assert model.post(*lacking) == [(200, {"prediction": 2})] * 3
    summary = model.contract.reference.inputs["color"]
    assert summary.missing is not None
    assert summary.missing.counts == {"present": 301, "missing": 5}
    assert summary.numbers[[0, -1]].tolist() == [3, 10]  # characters of those that are there


def test_the_contracts_file_says_what_the_graph_gets_for_a_missing_text(tmp_path: Path) -> None:
    contract = "inputs: {color: {nullable: true, default: red}}"
    model = served(tmp_path, drafted(tmp_path, graphs.TEXTS, WORDS, contract))
    assert model.post({"size": 2}, {"color": "blue", "size": 2}) == [
        (200, {"prediction": 12}),
        (200, {"prediction": 22}),
    ]
    rows = WORDS + ",2\n"
    with pytest.raises(BringError, match=r"1 rows have no value, and color \(BYTES\) needs one"):
        drafted(tmp_path, graphs.TEXTS, rows, "inputs: {color: {nullable: false}}")
    for wrong in ("{nullable: true}", "{nullable: true, default: 3}"):
        with pytest.raises(BringError, match="a nullable text needs a default that is one, such as ''"):
            drafted(tmp_path, graphs.TEXTS, WORDS, f"inputs: {{color: {wrong}}}")


CLOCK = """(int64[N] at, double[N] due) => (double[N] y)
{ seconds = Cast <to = 11> (at) y = Sub(due, seconds) }"""


def test_a_column_of_times_is_guessed_and_becomes_seconds(tmp_path: Path) -> None:
    rows = "at,due\n" + "2013-03-01T11:00:00+01:00,2013-03-01T10:00:30.5Z\n" * 2 + "2013-03-01T10:00:01Z,\n"
    guessed = drafted(tmp_path, CLOCK, rows, "inputs: {due: {default: 0}}")
    assert [(spec.timestamp, spec.range) for spec in guessed.contract.inputs] == [(True, None), (True, None)]
    assert {part: why for part, _, why in describe(guessed)}["input at"] == "a text in rows.csv"
    model = served(tmp_path, guessed)
    at, due = "2013-03-01T10:00:00Z", "2013-03-01T10:00:30.500000Z"
    assert model.contract.example.request == {"at": at, "due": due}
    assert model.contract.example.response == {"prediction": 30.5}
    assert model.post({"at": at}) == [(200, {"prediction": -1362132000})]
    assert model.contract.reference.inputs["at"].quantiles is None  # time goes on
    with pytest.raises(BringError, match="column 'at': not every value is time with its zone, such as 2013"):
        drafted(tmp_path, CLOCK, rows + "2013-03-01T10:00:01,\n")


def test_a_pipeline_with_imputers_answers_as_it_does_itself(tmp_path: Path) -> None:
    skops = pytest.importorskip("skops.io", reason="skops is not installed: pip install -e '.[import]'")
    pytest.importorskip("skl2onnx", reason="skl2onnx is not installed: pip install -e '.[import]'")
    rng = np.random.default_rng(0)
    data = pandas.DataFrame({"age": rng.normal(40, 9, 300).round(1), "income": rng.normal(50, 9, 300).round(1)})
    data["job"] = rng.choice(["clerk", "nurse", "pilot"], 300)
    truth = data["age"] + 2 * data["income"] + 9 * (data["job"] == "nurse")
    for column in data:
        data.loc[rng.random(300) < 0.2, column] = np.nan
    data["job"] = data["job"].fillna("")
    words = make_pipeline(SimpleImputer(missing_values="", strategy="most_frequent"), OneHotEncoder())
    columns = [("numbers", SimpleImputer(strategy="median"), ["age", "income"]), ("words", words, ["job"])]
    model = make_pipeline(ColumnTransformer(columns), LinearRegression()).fit(data, truth)
    skops.dump(model, tmp_path / "credit.skops")
    data.assign(truth=truth).to_csv(tmp_path / "rows.csv", index=False)
    options: dict[str, Any] = {"data": tmp_path / "rows.csv", "target": "truth"}
    brought = sources.read(tmp_path / "credit.skops", Reading(data=tmp_path / "rows.csv", trust=True))
    opened = served(tmp_path, draft(brought, ImportOptions(name="credit", **options)))
    assert [spec.nullable for spec in opened.contract.inputs] == [True, True, True]
    nurse: dict[str, Any] = {"income": 60, "job": "nurse"}
    rows = [nurse | {"age": 30.5}, nurse, {"age": None}]
    for row, (status, answer) in zip(rows, opened.post(*rows), strict=True):
        lacking: dict[str, Any] = {"age": np.nan, "income": np.nan, "job": ""}
        own = pandas.DataFrame([lacking | row]).astype({"age": float, "income": float})
        assert status == 200
        assert answer["prediction"] == pytest.approx(model.predict(own)[0], rel=1e-5)
    assert msgspec.json.decode(opened.contract.to_json())["format"] == 2
