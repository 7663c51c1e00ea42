"""Boosted trees become an archive that answers as their library does, close to their thresholds and without a value."""

import re
from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
import pandas
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from serving.registry import Registry
from tests.training.bring.test_onnx import Imported
from training.bring import sources
from training.bring.draft import ImportOptions, draft
from training.bring.files import boosted
from training.bring.graph import BringError
from training.bring.importing import bring
from training.bring.sources import Reading

xgboost = pytest.importorskip("xgboost", reason="XGBoost is not installed: pip install -e '.[import-trees]'")
lightgbm = pytest.importorskip("lightgbm", reason="LightGBM is not installed: pip install -e '.[import-trees]'")
pytest.importorskip("onnxmltools", reason="onnxmltools is not installed: pip install -e '.[import-trees]'")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
NAMES = ["age", "yearly income", "c", "d"]
LETTERS = np.array(["a", "b", "c"])


@pytest.fixture(scope="module")
def data() -> Any:
    """Rows with missing values, and numbers, classes and shares to be learned from them."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(600, 4))
    total = rows @ [1, 2, -1, 0.5]
    holes = np.where(rng.random(rows.shape) < 0.05, np.nan, rows)
    return pandas.DataFrame(holes, columns=NAMES), total, np.digitize(total, [-1, 1]), (total > 0).astype(int)


def grown(data: Any, objective: str, **options: Any) -> Any:
    """A booster of LightGBM."""
    rows, total, thirds, halves = data
    truth = thirds if objective.startswith("multi") else halves if objective in ("binary", "lambdarank") else total
    truth = np.exp(truth / 3) if objective == "poisson" else truth
    parameters = {"objective": objective, "verbose": -1, "num_threads": 1, **options}
    group = [40] * 15 if objective == "lambdarank" else None
    return lightgbm.train(parameters, lightgbm.Dataset(rows.to_numpy(), truth, group=group), 20)


def opened(path: Path, folder: Path, reading: Reading = Reading(), **options: Any) -> Imported:  # noqa: B008
    given = ImportOptions(name="trees", example=reading.example, data=reading.data, **options)
    return Imported(bring(draft(sources.read(path, reading), given), Registry(folder / "store")), folder / "unpacked")


def note(path: Path) -> str:
    """What an import tells of the difference at the thresholds; the test fails where a missing value differs."""
    (text,) = boosted.convert(path, "lightgbm").notes
    return text


def test_a_file_of_xgboost_answers_by_its_names_and_without_a_value(tmp_path: Path, data: Any) -> None:
    rows, _, _, halves = data
    model = xgboost.XGBClassifier(n_estimators=20, n_jobs=1).fit(rows, halves)
    rows.assign(good=halves).to_csv(tmp_path / "rows.csv", index=False)
    for suffix in ("json", "ubj"):
        model.save_model(tmp_path / f"credit.{suffix}")
        folder = tmp_path / suffix
        reading = Reading(data=tmp_path / "rows.csv")
        served = opened(tmp_path / f"credit.{suffix}", folder, reading, target="good", labels=("bad", "good"))
        assert [spec.name for spec in served.contract.inputs] == ["age", "yearly_income", "c", "d"]
        row = {"age": 0.3, "yearly_income": None, "c": -1.5, "d": 0.25}
        ((status, answer),) = served.post(row, x_top_k="2")
        shares = {each["label"]: each["probability"] for each in answer["prediction"]["top_k"]}
        (expected,) = model.predict_proba(pandas.DataFrame([[0.3, np.nan, -1.5, 0.25]], columns=NAMES))
        assert status == 200
        assert [shares["bad"], shares["good"]] == pytest.approx(expected, abs=1e-6)


def test_a_matrix_without_names_is_asked_as_one(tmp_path: Path, data: Any) -> None:
    rows, total, _, _ = data
    model = xgboost.XGBRegressor(n_estimators=20, n_jobs=1).fit(rows.to_numpy(), total)
    model.save_model(tmp_path / "model.json")
    (tmp_path / "row.json").write_text("[1, 0.5, 0.25, 0]")
    served = opened(tmp_path / "model.json", tmp_path, Reading(tmp_path / "row.json"))
    ((status, answer),) = served.post({"inputs": [-1, 2, 0, 0.5]})
    assert (status, answer["prediction"]) == (200, pytest.approx(model.predict([[-1, 2, 0, 0.5]])[0], rel=1e-5))


@pytest.mark.parametrize(
    ("objective", "labels"),
    [("count:poisson", 0), ("rank:pairwise", 0), ("multi:softmax", 3), ("multi:softprob", 3), ("binary:hinge", 2)],
)
def test_objectives_of_xgboost_answer_as_they_do(tmp_path: Path, data: Any, objective: str, labels: int) -> None:
    rows, total, thirds, halves = data
    truth = {"count:poisson": np.exp(total / 3), "multi:softmax": thirds, "multi:softprob": thirds}.get(
        objective, halves
    )
    matrix = xgboost.DMatrix(rows, truth, group=[40] * 15 if objective.startswith("rank") else None)
    parameters = {"objective": objective, "nthread": 1} | ({"num_class": 3} if labels == 3 else {})
    xgboost.train(parameters, matrix, 10).save_model(tmp_path / "model.json")
    model = boosted.convert(tmp_path / "model.json", "xgboost")
    assert (model.columns, len(model.labels), len(model.notes)) == (tuple(NAMES), labels, 1)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"booster": "dart"}, "holds the booster dart; trees of gbtree alone convert"),
        ({"objective": "reg:logistic"}, "close to its thresholds the graph differs by .* from XGBoost's reg:logistic"),
        ({"missing": -1.0}, "takes -1.0 for a missing value, and its graph would not"),
    ],
)
def test_trees_of_xgboost_that_do_not_convert_are_named(tmp_path: Path, data: Any, options: Any, fault: str) -> None:
    rows, _, _, halves = data
    joblib.dump(xgboost.XGBRegressor(n_estimators=5, n_jobs=1, **options).fit(rows, halves), tmp_path / "m.joblib")
    with pytest.raises(BringError, match=fault):
        sources.read(tmp_path / "m.joblib", Reading(trust=True))


def test_large_answers_are_compared_by_their_size(tmp_path: Path, data: Any) -> None:
    rows, total, _, _ = data
    model = xgboost.XGBRegressor(n_estimators=200, n_jobs=1).fit(rows, total * 1e5)
    model.save_model(tmp_path / "model.ubj")
    rows.to_csv(tmp_path / "rows.csv", index=False)
    assert opened(tmp_path / "model.ubj", tmp_path, Reading(data=tmp_path / "rows.csv")).contract.task == "regression"


@pytest.mark.parametrize(
    ("objective", "options"),
    [
        ("regression", {}),
        ("mape", {}),
        ("poisson", {}),
        ("lambdarank", {}),
        ("binary", {}),
        ("multiclass", {"num_class": 3}),
        ("regression", {"boosting": "dart"}),
        ("regression", {"use_missing": False}),
        ("regression", {"num_leaves": 2, "min_data_in_leaf": 1000}),
    ],
)
def test_trees_of_lightgbm_convert(tmp_path: Path, data: Any, objective: str, options: Any) -> None:
    grown(data, objective, **options).save_model(tmp_path / "model.txt")
    assert "at most on 2,000 rows at the thresholds" in note(tmp_path / "model.txt")


def test_a_file_of_lightgbm_answers_at_thresholds_that_fp32_does_not_hold(tmp_path: Path) -> None:
    rows = np.array([[0.1], [0.3]] * 50, np.float32)
    text = lightgbm.train({"verbose": -1, "num_threads": 1}, lightgbm.Dataset(rows, rows[:, 0]), 1).model_to_string()
    text = re.sub(r"\ntree_sizes=[^\n]*", "", re.sub(r"(?<=\nthreshold=)[^\n]+", "0.2", text))
    model = lightgbm.Booster(model_str=text)
    (tmp_path / "model.txt").write_text(text)
    (tmp_path / "row.json").write_text('{"X": 0.1}')
    served = opened(tmp_path / "model.txt", tmp_path, Reading(tmp_path / "row.json"))
    above = float(np.float32(0.2))  # 0.200000003, to which FP32 rounds the threshold
    ((_, answer),) = served.post({"X": above})
    assert answer["prediction"] == pytest.approx(model.predict([[above]])[0], rel=1e-6)
    assert answer["prediction"] != pytest.approx(model.predict([[0.2]])[0], rel=1e-6)


def test_data_whose_digits_fp32_does_not_hold_are_refused(tmp_path: Path) -> None:
    seconds = 1_760_000_000 + np.arange(200.0)
    frame = pandas.DataFrame({"time": seconds})
    frame.to_csv(tmp_path / "rows.csv", index=False)
    set_ = lightgbm.Dataset(frame, (seconds % 2), params={"min_data_in_bin": 1})
    lightgbm.train({"verbose": -1, "min_data_in_leaf": 1, "num_threads": 1}, set_, 5).save_model(tmp_path / "model.txt")
    with pytest.raises(BringError, match="to FP32, the datatype of the graph: train with smaller numbers"):
        boosted.convert(tmp_path / "model.txt", "lightgbm", tmp_path / "rows.csv")


@pytest.mark.parametrize(
    ("objective", "options", "fault"),
    [
        ("regression", {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}, "it has a random forest"),
        ("regression", {"linear_tree": True}, "it has linear models in its leaves"),
        (
            "regression",
            {"zero_as_missing": True},
            "the graph differs by .* from LightGBM's regression, more than 0.0001",
        ),
        ("binary", {"sigmoid": 2.0}, "the graph differs by .* from LightGBM's binary sigmoid:2"),
    ],
)
def test_trees_of_lightgbm_that_do_not_convert_are_named(
    tmp_path: Path, data: Any, objective: str, options: Any, fault: str
) -> None:
    grown(data, objective, **options).save_model(tmp_path / "model.txt")
    with pytest.raises(BringError, match=fault):
        boosted.convert(tmp_path / "model.txt", "lightgbm")


def test_categories_of_pandas_are_named(tmp_path: Path, data: Any) -> None:
    rows, total, _, _ = data
    jobs = rows.assign(job=pandas.Categorical(LETTERS[np.arange(600) % 3]))
    lightgbm.train({"verbose": -1, "num_threads": 1}, lightgbm.Dataset(jobs, total), 3).save_model(
        tmp_path / "model.txt"
    )
    with pytest.raises(BringError, match="was trained on pandas' categories, which do not convert"):
        boosted.convert(tmp_path / "model.txt", "lightgbm")


@pytest.mark.parametrize("kind", [xgboost.XGBClassifier, lightgbm.LGBMClassifier])
def test_an_estimator_alone_and_at_the_end_of_a_pipeline_answers_as_it_does(
    tmp_path: Path, data: Any, kind: Any
) -> None:
    rows, _, thirds, _ = data
    truth = LETTERS[thirds] if kind is lightgbm.LGBMClassifier else thirds
    quiet = {"verbose": -1} if kind is lightgbm.LGBMClassifier else {"objective": "multi:softmax"}
    alone = kind(n_estimators=10, n_jobs=1, **quiet).fit(rows, truth)
    pipeline = make_pipeline(StandardScaler(), kind(n_estimators=10, n_jobs=1, **quiet)).fit(rows, truth)
    row = dict(zip(NAMES, [0.3, -0.5, 1.5, 0.25], strict=True))
    in_contract = {name.replace(" ", "_"): value for name, value in row.items()}  # LightGBM's own too
    for name, model in (("alone", alone), ("pipeline", pipeline)):
        joblib.dump(model, tmp_path / f"{name}.joblib")
        (tmp_path / "row.json").write_bytes(msgspec.json.encode(row if name == "pipeline" else in_contract))
        reading = Reading(tmp_path / "row.json", trust=True)
        served = opened(tmp_path / f"{name}.joblib", tmp_path / name, reading)
        ((status, answer),) = served.post(served.contract.example.request, x_top_k="3")
        shares = [each["probability"] for each in sorted(answer["prediction"]["top_k"], key=lambda each: each["label"])]
        expected = model.predict_proba(pandas.DataFrame([row]))[0]
        assert status == 200
        assert shares == pytest.approx(expected, abs=1e-5)
        assert served.contract.labels == (tuple(LETTERS) if kind is lightgbm.LGBMClassifier else ("0", "1", "2"))


def test_a_damaged_or_foreign_file_gets_a_sentence(tmp_path: Path, data: Any) -> None:
    rows, total, _, _ = data
    xgboost.XGBRegressor(n_estimators=3, n_jobs=1).fit(rows, total).save_model(tmp_path / "a.json")
    model, text = (tmp_path / "a.json").read_text(), grown(data, "regression").model_to_string()
    damaged = {
        "empty.json": (b"", "is no model of XGBoost"),
        "cut.json": (model[: len(model) // 2].encode(), "is no model of XGBoost"),
        "another.json": (b'{"tree_info": []}', "is no model of XGBoost"),
        "newer.json": (model.replace('"version":[3,', '"version":[9,').encode(), "XGBoost 9.2, which is newer than"),
        "junk.ubj": (b"junk" * 9, "is no model of XGBoost"),
        "empty.txt": (b"", "its first line is not `tree`"),
        "cut.txt": (text[: len(text) // 2].encode(), r"is cut off: it has \d+ trees"),
        "newer.txt": (text.replace("version=v4", "version=v9").encode(), "has the format v9 of LightGBM; v2, v3, v4"),
        "binary.txt": (b"\xff\xfe", "is no text"),
        "leaves.txt": (text.replace("num_leaves=", "num_leaves=9", 1).encode(), "is no model of LightGBM"),
    }
    for name, (content, fault) in damaged.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BringError, match=f"{name}.* {fault}"):
            boosted.convert(tmp_path / name, sources.BOOSTED[Path(name).suffix])


def test_a_file_that_would_end_the_process_gets_a_sentence(tmp_path: Path, data: Any) -> None:
    text = grown(data, "regression").model_to_string()
    (tmp_path / "child.txt").write_text(text.replace("left_child=1", "left_child=777", 1))
    with pytest.raises(BringError, match="child.txt is damaged: lightgbm ends with SIG"):
        sources.read(tmp_path / "child.txt")
    (tmp_path / "cut.txt").write_text(text[:900])
    with pytest.raises(BringError, match="cut.txt is cut off: "):
        sources.read(tmp_path / "cut.txt")


def test_two_names_that_a_contract_cannot_tell_apart_are_refused(tmp_path: Path, data: Any) -> None:
    rows, total, _, _ = data
    clash = rows.set_axis(["a b", "a_b", "c", "d"], axis=1)
    xgboost.XGBRegressor(n_estimators=3, n_jobs=1).fit(clash, total).save_model(tmp_path / "model.json")
    with pytest.raises(BringError, match="two names become 'a_b'"):
        draft(boosted.convert(tmp_path / "model.json", "xgboost"), ImportOptions(name="trees"))
