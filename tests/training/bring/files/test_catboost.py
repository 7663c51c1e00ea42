"""Trees of CatBoost become an archive that answers as CatBoost does."""

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas
import pytest

from tests.training.bring.files.test_trees import NAMES, opened
from training.bring import sources
from training.bring.files import boosted
from training.bring.graph import BringError
from training.bring.sources import Reading

catboost = pytest.importorskip("catboost", reason="CatBoost is not installed: pip install -e '.[import-catboost]'")
OPTIONS = {"iterations": 10, "verbose": 0, "allow_writing_files": False, "thread_count": 1}


@pytest.fixture(scope="module")
def rows() -> Any:
    """Numbers, and missing ones."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 4))
    return pandas.DataFrame(np.where(rng.random(rows.shape) < 0.05, np.nan, rows), columns=NAMES)


def truth(rows: Any) -> Any:
    return rows.fillna(0).to_numpy() @ [1, 2, -1, 0.5]


def test_a_file_of_catboost_answers_by_its_names_with_its_labels_and_without_a_value(tmp_path: Path, rows: Any) -> None:
    labels = np.array(["bad", "fair", "good"])[np.digitize(truth(rows), [-1, 1])]
    model = catboost.CatBoostClassifier(**OPTIONS).fit(rows, labels)
    model.save_model(str(tmp_path / "credit.cbm"))
    rows.assign(verdict=labels).to_csv(tmp_path / "rows.csv", index=False)
    served = opened(tmp_path / "credit.cbm", tmp_path, Reading(data=tmp_path / "rows.csv"), target="verdict")
    assert served.contract.labels == ("bad", "fair", "good")
    ((status, answer),) = served.post({"age": 0.3, "yearly_income": None, "c": -1.5, "d": 0.25}, x_top_k="3")
    shares = {each["label"]: each["probability"] for each in answer["prediction"]["top_k"]}
    (expected,) = model.predict_proba(pandas.DataFrame([[0.3, np.nan, -1.5, 0.25]], columns=NAMES))
    assert status == 200
    assert [shares[label] for label in served.contract.labels] == pytest.approx(expected, abs=1e-6)


def test_a_loss_of_counts_answers_its_exponent(tmp_path: Path, rows: Any) -> None:
    model = catboost.CatBoostRegressor(loss_function="Poisson", **OPTIONS).fit(rows, np.exp(truth(rows) / 3))
    joblib.dump(model, tmp_path / "counts.joblib")
    (tmp_path / "row.json").write_text('{"age": 0.3, "yearly income": 1, "c": -1.5, "d": 0.25}')
    served = opened(tmp_path / "counts.joblib", tmp_path, Reading(tmp_path / "row.json", trust=True))
    expected = model.predict(pandas.DataFrame([[0.3, 1, -1.5, 0.25]], columns=NAMES))[0]
    assert served.contract.example.response == {"prediction": pytest.approx(expected, rel=1e-5)}


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"loss_function": "MultiRMSE"}, r"\(CatBoost's MultiRMSE\) does not convert"),
        ({"grow_policy": "Lossguide"}, "does not convert to ONNX: .*non symmetric trees"),
        ({"cat_features": ["job"]}, r"no numbers \(cat_features: job\), which CatBoost does not write as ONNX: encode"),
    ],
)
def test_trees_that_do_not_convert_are_named(tmp_path: Path, rows: Any, options: Any, fault: str) -> None:
    total = truth(rows)
    several = np.stack([total, -total], 1) if "loss_function" in options else total
    columns = rows.assign(job="pilot") if "cat_features" in options else rows
    model = catboost.CatBoostRegressor(**OPTIONS, **options).fit(columns, several)
    model.save_model(str(tmp_path / "model.cbm"))
    with pytest.raises(BringError, match=fault):
        boosted.convert(tmp_path / "model.cbm", "catboost")


def test_a_damaged_file_gets_a_sentence(tmp_path: Path, rows: Any) -> None:
    model = catboost.CatBoostRegressor(**OPTIONS).fit(rows, truth(rows))
    model.save_model(str(tmp_path / "model.cbm"))
    content = (tmp_path / "model.cbm").read_bytes()
    for name, part in {"empty": b"", "cut": content[: len(content) // 2], "junk": b"junk" * 9}.items():
        (tmp_path / f"{name}.cbm").write_bytes(part)
        with pytest.raises(BringError, match=f"{name}.cbm is no model of CatBoost"):
            sources.read(tmp_path / f"{name}.cbm")
