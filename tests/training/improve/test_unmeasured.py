"""A metric that the held-out rows do not tell is left out with its reason, stored as such, and promotes nothing."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from rich.console import Console

from handlers.contract import ModelContract
from monitoring.live.limits import expected
from serving.registry import Registry
from serving.settings import Folders
from tests.support.documents import document, evaluated, replaced
from tests.support.serving.stores import contract_of_doubling
from tests.support.training import rows
from training import pipeline
from training.figures.text import figure
from training.packaging.registration import Result, TrainOptions, register
from training.recipe import Split
from training.recipes.linear import Linear
from training.report import terminal
from training.statistics.criteria import is_better
from training.statistics.decisive import Scoring
from training.statistics.evaluate import evaluate

ONE_LABEL = [*rows.doubled(240), *(rows.row(240 + i, 4.0, x=2.0) for i in range(60))]


def test_a_training_whose_newest_rows_have_one_label_only_leaves_a_registry_that_is_read(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "store")
    path = rows.write(tmp_path / "rows.jsonl", ONE_LABEL)
    options = TrainOptions(preset="tutorial", promote="never", feedback=path, hold_out=0.2)
    result = pipeline.train(Linear(), registry, Folders(tmp_path, tmp_path / "runs"), options)
    assert b"NaN" not in registry.path.read_bytes()
    (version,) = Registry(registry.store).models()["linear"].values()
    assert version.evaluation == document(result.contract.evaluation)
    assert version.evaluation["metrics"]["r2"] is None
    assert version.evaluation["metrics"]["rmse"] >= 0
    assert version.evaluation["unmeasured"] == {"r2": "all rows have the same truth"}
    assert "r2" not in version.evaluation["intervals"]
    assert "r2" not in expected(version.measured)
    console = Console(record=True, width=200)
    terminal.print_result(result, console)
    assert "r2 could not be measured: all rows have the same truth" in console.export_text()
    assert result.report
    assert "all rows have the same truth" in result.report.read_text()


@pytest.mark.parametrize(
    ("output", "target", "unmeasured"),
    [
        ([1.0, 2.0], [3.0, 3.0], {"r2": "all rows have the same truth"}),
        ([1.0], [3.0], {"r2": "1 rows are too few"}),
        ([1.0, np.nan], [1.0, 2.0], dict.fromkeys(("rmse", "mae", "r2"), "the model answers NaN or infinity")),
        ([1.0, np.inf], [1.0, 2.0], dict.fromkeys(("rmse", "mae", "r2"), "the model answers NaN or infinity")),
    ],
)
def test_a_regression_says_what_its_rows_do_not_tell(
    output: list[float], target: list[float], unmeasured: dict[str, str]
) -> None:
    answers, truth = np.array(output, np.float32), np.array(target, np.float32)
    found = document(evaluate(Scoring("regression"), Split({}, truth), answers, {"same": truth}))
    assert found["unmeasured"] == unmeasured
    assert {name for name, value in found["metrics"].items() if value is None} == unmeasured.keys()
    assert not unmeasured.keys() & found["intervals"].keys()


def test_a_rare_event_that_is_not_among_the_held_out_rows_has_no_auc() -> None:
    output = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]], np.float32)
    scoring, split = Scoring("classification", ("no", "yes")), Split({}, np.zeros(3, np.int64))
    found = document(evaluate(scoring, split, output, {"never": output}))
    assert found["metrics"]["auc"] is found["baselines"]["never"]["auc"] is None
    assert found["metrics"]["accuracy"] == pytest.approx(2 / 3)
    assert found["unmeasured"] == {"auc": "all rows have the same label"}
    assert [one["auc"] for one in found["per_class"]] == [None, None]
    assert msgspec.json.decode(msgspec.json.encode(found)) == found


def test_a_slice_of_one_row_and_a_metric_of_the_recipes_own_do_not_end_the_evaluation() -> None:
    values = np.array([1, 2, 3], np.float32)
    scoring = Scoring("regression", own=lambda output, target: {"share": float("nan")})
    found = document(evaluate(scoring, Split({}, values, slices=np.array(["a", "a", "b"])), values, {}))
    assert found["slices"]["b"]["metrics"] == {"rmse": 0.0, "mae": 0.0, "r2": None, "share": None}
    assert found["unmeasured"] == {"share": "it is not defined for these rows"}


def registered(registry: Registry, **evaluation: Any) -> Result:
    contract = contract_of_doubling()
    draft = replaced(contract, evaluation=evaluation, lineage={"created": "2026-01-01T00:00:00+00:00"})
    return register(draft, ModelContract.to_json, registry, "auto", check=lambda path: None)


@pytest.mark.parametrize(
    ("champion", "challenger", "why"),
    [
        ({"rmse": 2.0}, {"rmse": None}, "rmse could not be measured, as it is no finite number"),
        ({"rmse": 2.0}, {}, "rmse could not be measured"),
        ({"rmse": 2.0}, {"rmse": float("nan")}, "rmse could not be measured"),
        ({"rmse": 2.0}, {"rmse": float("-inf")}, "rmse could not be measured"),
    ],
)
def test_a_version_without_the_metric_that_decides_is_not_promoted(
    tmp_path: Path, champion: dict[str, Any], challenger: dict[str, Any], why: str
) -> None:
    registry = Registry(tmp_path)
    assert registered(registry, metrics=champion).state == "champion"
    result = registered(registry, metrics=challenger)
    assert result.state == "challenger"
    assert why in result.why
    assert "marloop promote doubling 1.1" in result.why
    assert not is_better("regression", evaluated(challenger), evaluated(champion))
    assert registry.promotions() == []


def test_a_champion_without_the_metric_is_replaced_by_hand_alone(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    assert registered(registry, metrics={"rmse": None}).state == "challenger"  # the first version too
    registry.promote("doubling", "1.0")
    result = registered(registry, metrics={"rmse": 1.0})
    assert result.state == "challenger"
    assert "the champion's rmse is not known" in result.why


def test_a_training_that_replaces_the_champion_leaves_a_note(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registered(registry, metrics={"rmse": 2.0})
    registered(registry, metrics={"rmse": 1.0})
    (promotion,) = (one for one in registry.promotions() if one.former)
    assert (promotion.version, promotion.former, promotion.by) == ("1.1", "1.0", "training")
    assert promotion.why == "rmse 1.0000 is at least as good as the champion's 2.0000"


def test_a_figure_that_could_not_be_had_is_a_dash() -> None:
    assert figure(None) == "–"
