"""An estimator of scikit-learn becomes an archive that answers as it does."""

from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
import pandas
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler
from sklearn.svm import LinearSVC

from serving.registry import Registry
from tests.training.bring.test_onnx import Imported
from training.bring import sources
from training.bring.draft import ImportOptions, draft
from training.bring.graph import BringError
from training.bring.importing import bring
from training.bring.sources import Reading

skops = pytest.importorskip("skops.io", reason="skops is not installed: pip install -e '.[import]'")
pytest.importorskip("skl2onnx", reason="skl2onnx is not installed: pip install -e '.[import]'")
ROW = {"age": 30, "yearly income": 55.5, "job": "pilot"}


def frame(rows: int = 300) -> pandas.DataFrame:
    rng = np.random.default_rng(0)
    return pandas.DataFrame(
        {
            "age": rng.integers(18, 80, rows),
            "yearly income": rng.normal(50, 10, rows).round(2),
            "job": rng.choice(["clerk", "nurse", "pilot"], rows),
        }
    )


def pipeline(last: Any) -> Pipeline:
    columns = [
        ("numbers", StandardScaler(), ["age", "yearly income"]),
        ("words", OneHotEncoder(handle_unknown="ignore"), ["job"]),
    ]
    data = frame()
    truth = np.where(data["yearly income"] + 5 * (data["job"] == "pilot") > 52, "good", "bad")
    return make_pipeline(ColumnTransformer(columns), last).fit(data, truth)


def opened(path: Path, folder: Path, reading: Reading, **options: Any) -> Imported:
    given = ImportOptions(name="credit", example=reading.example, data=reading.data, **options)
    return Imported(bring(draft(sources.read(path, reading), given), Registry(folder / "store")), folder / "unpacked")


def example(folder: Path, value: Any) -> Path:
    path = folder / "example.json"
    path.write_bytes(msgspec.json.encode(value))
    return path


@pytest.mark.parametrize(
    "last", [LogisticRegression(max_iter=500), GradientBoostingClassifier(n_estimators=10, random_state=0)]
)
def test_a_pipeline_of_strings_and_numbers_answers_as_it_does_itself(tmp_path: Path, last: Any) -> None:
    model = pipeline(last)
    skops.dump(model, tmp_path / "credit.skops")
    unknown = skops.get_untrusted_types(file=tmp_path / "credit.skops")
    served = opened(tmp_path / "credit.skops", tmp_path, Reading(example(tmp_path, ROW), trust=bool(unknown)))
    assert [spec.name for spec in served.contract.inputs] == ["age", "yearly_income", "job"]
    assert served.contract.labels == ("bad", "good")
    row = {"age": 41, "yearly_income": 51.25, "job": "clerk"}
    expected = model.predict_proba(pandas.DataFrame([[41, 51.25, "clerk"]], columns=list(ROW)))[0]
    ((status, answer),) = served.post(row, x_top_k="2")
    shares = {each["label"]: each["probability"] for each in answer["prediction"]["top_k"]}
    assert status == 200
    assert [shares["bad"], shares["good"]] == pytest.approx(expected, abs=1e-5)
    ((unseen, _),) = served.post(row | {"job": "baker"})
    assert unseen == 200  # the encoder ignores what it does not know


def test_data_give_types_categories_and_metrics(tmp_path: Path) -> None:
    model, data = pipeline(LogisticRegression(max_iter=500)), frame()
    data.assign(verdict=model.predict(data)).to_csv(tmp_path / "rows.csv", index=False)
    joblib.dump(model, tmp_path / "credit.joblib")
    reading = Reading(data=tmp_path / "rows.csv", trust=True)
    served = opened(tmp_path / "credit.joblib", tmp_path, reading, target="verdict")
    specs = {spec.name: spec for spec in served.contract.inputs}
    assert (specs["age"].datatype, specs["job"].categories) == ("INT64", ("clerk", "nurse", "pilot"))
    assert served.contract.evaluation.metrics["accuracy"] == 1
    ((status, answer),) = served.post({"age": 30, "yearly_income": 50, "job": "baker"})
    assert (status, answer["error"]["code"]) == (400, "unknown_category")


def test_an_estimator_without_names_takes_a_matrix(tmp_path: Path) -> None:
    rows = frame()[["age", "yearly income"]].to_numpy(np.float32)
    model = RandomForestRegressor(10, random_state=0).fit(rows, rows @ [1, 2])
    joblib.dump(model, tmp_path / "forest.pkl")
    served = opened(tmp_path / "forest.pkl", tmp_path, Reading(example(tmp_path, [30, 55.5]), trust=True))
    ((status, answer),) = served.post({"inputs": [40, 45]})
    assert (status, answer["prediction"]) == (200, pytest.approx(model.predict([[40, 45]])[0], rel=1e-5))


NUMBERS = frame()[["age", "yearly income"]]
TOTAL = NUMBERS.sum(axis=1)
THIRDS = np.array(["bad", "fair", "good"])[np.digitize(TOTAL, [85, 105])]


@pytest.mark.parametrize(
    ("model", "data", "truth"),
    [
        (LogisticRegression(max_iter=500, class_weight="balanced"), NUMBERS, THIRDS),
        (RandomForestClassifier(10, class_weight={"bad": 1, "fair": 2, "good": 3}, random_state=0), NUMBERS, THIRDS),
        (GradientBoostingRegressor(n_estimators=10, random_state=0), NUMBERS, TOTAL),
        (Ridge(), NUMBERS[["age"]], TOTAL),
        (make_pipeline(ColumnTransformer([("x", "passthrough", ["age"])]), Ridge()), NUMBERS[["age"]], TOTAL),
        (make_pipeline(StandardScaler(), Ridge()), NUMBERS[["age"]], TOTAL),
        (make_pipeline(LogisticRegression(max_iter=500)), NUMBERS, TOTAL > 95),
        (make_pipeline(PCA(2), Ridge()), NUMBERS, TOTAL),
        (make_pipeline(PolynomialFeatures(2), Ridge()), NUMBERS, TOTAL),
        (make_pipeline(SimpleImputer(), RandomForestRegressor(5, random_state=0)), NUMBERS, TOTAL),
    ],
)
def test_an_estimator_of_a_frame_of_numbers_has_its_names(tmp_path: Path, model: Any, data: Any, truth: Any) -> None:
    joblib.dump(model.fit(data, truth), tmp_path / "model.joblib")
    row = dict(zip(data.columns, (41, 51.25), strict=False))
    served = opened(tmp_path / "model.joblib", tmp_path, Reading(example(tmp_path, row), trust=True))
    assert [spec.name for spec in served.contract.inputs] == ["age", "yearly_income"][: len(data.columns)]
    answer = served.contract.example.response["prediction"]
    given = pandas.DataFrame([row])
    if served.contract.labels:
        shares = model.predict_proba(given)[0]
        assert served.contract.labels == tuple(map(str, model.classes_))
        assert answer["label"] == str(model.predict(given)[0])
        assert answer["probability"] == pytest.approx(shares.max(), abs=1e-5)
    else:
        assert answer == pytest.approx(model.predict(given)[0], rel=1e-5)


def test_boosted_histograms_with_categories_are_served_as_they_are(tmp_path: Path) -> None:
    data = NUMBERS.assign(job=np.arange(300) % 3)
    model = HistGradientBoostingClassifier(max_iter=3, categorical_features=["job"]).fit(data, data["job"] == 1)
    joblib.dump(model, tmp_path / "model.joblib")
    row = {"age": 41, "yearly income": 51.25, "job": 1}
    brought = sources.read(tmp_path / "model.joblib", Reading(example(tmp_path, row), trust=True))
    assert brought.graph is None
    assert "it does not convert to ONNX (Field onnx.AttributeProto.ints: Expected an int" in brought.notes[0]
    assert brought.original is not None
    _, shares = brought.original.run({"X": np.array([[41, 51.25, 1], [41, 51.25, 0]], np.float32)})
    wanted = model.predict_proba(pandas.DataFrame([row, row | {"job": 0}]))
    assert shares == pytest.approx(wanted, abs=1e-6)


def test_code_in_a_file_runs_only_where_it_is_trusted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (print, ("this must not run",))

    joblib.dump(Evil(), tmp_path / "evil.joblib")
    with pytest.raises(BringError, match="is a pickle: reading it runs its code. --trust allows that; skops"):
        sources.read(tmp_path / "evil.joblib", Reading(example(tmp_path, ROW)))
    assert "this must not run" not in capsys.readouterr().out
    (tmp_path / "cut.joblib").write_bytes(b"\x80\x05cut")
    with pytest.raises(BringError, match="cannot be read: "):
        sources.read(tmp_path / "cut.joblib", Reading(trust=True))
    (tmp_path / "cut.skops").write_bytes(b"PK\x03\x04")
    with pytest.raises(BringError, match="cannot be read: "):
        sources.read(tmp_path / "cut.skops")


@pytest.mark.parametrize(
    ("model", "row", "fault"),
    [
        (StandardScaler(), None, "holds a StandardScaler, which predicts nothing"),
        (pipeline(LinearSVC()), ROW, "has no predict_proba; CalibratedClassifierCV gives it one"),
        (pipeline(LogisticRegression()), None, "--example or --data must tell which of them are strings"),
        (pipeline(LogisticRegression()), {"age": 1}, "lacks 'yearly income'; the estimator was fitted with age"),
    ],
)
def test_what_does_not_come_in_gets_a_sentence(tmp_path: Path, model: Any, row: Any, fault: str) -> None:
    joblib.dump(model, tmp_path / "model.joblib")
    given = example(tmp_path, row) if row else None
    with pytest.raises(BringError, match=fault):
        sources.read(tmp_path / "model.joblib", Reading(given, trust=True))
