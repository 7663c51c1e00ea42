"""A recipe of several targets: fitted, measured for each, exported, packaged, and taught by feedback."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from handlers.contract import Array, Task, TensorSpec
from handlers.engine import ENGINES
from serving import archive
from serving.registry import Registry
from tests.support.training.quadrants import Quadrants
from tests.support.training.trainings import CACHE
from tests.training.conftest import Train
from training.champion import RecipeChampion
from training.feedback import read_feedback
from training.packaging.dry_run import dry_run
from training.recipe import Data, Hyperparameters, Split
from training.report.champion import champion_report


class Both(nn.Module):
    """A number for each target."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, *columns: Tensor) -> Tensor:
        """FP32 (n,) each -> FP32 (n, 2)."""
        return self.linear(torch.stack(columns, 1))  # type: ignore[no-any-return]


class Turned(Quadrants):
    """Sum and difference of a point's coordinates."""

    name = "turned"
    task: ClassVar[Task] = "regression"
    outputs: ClassVar[tuple[TensorSpec, ...]] = (TensorSpec("sum", "FP32"), TensorSpec("difference", "FP32"))
    labels: ClassVar[tuple[str, ...]] = ()

    def load(self, hp: Hyperparameters, cache: Path) -> Data:
        """Points of the quadrants."""
        data = super().load(hp, cache)

        def turned(split: Split) -> Split:
            east, north = split.inputs["east"], split.inputs["north"]
            return replace(split, target=np.stack([east + north, east - north], 1))

        return replace(data, train=turned(data.train), test=turned(data.test), validation=None)

    def module(self, hp: Hyperparameters, data: Data) -> nn.Module:
        """A linear layer."""
        return Both()

    def baselines(self, data: Data) -> Mapping[str, Array]:
        """Always zero."""
        return {"zero": np.zeros((len(data.test), 2), np.float32)}


def test_every_target_is_learned_measured_and_answered_by_name(train: Train, tmp_path: Path) -> None:
    result = train(Turned())
    contract, evaluation = result.contract, result.contract.evaluation
    assert list(evaluation.metrics) == [name + end for end in ("", " of difference") for name in ("rmse", "mae", "r2")]
    assert all(value is not None and value < 0.1 for name, value in evaluation.metrics.items() if "rmse" in name)
    assert evaluation.learned is not None
    assert evaluation.learned.metrics.keys() == evaluation.metrics.keys()
    assert contract.example.response["prediction"].keys() == {"sum", "difference"}
    assert contract.reference.targets.keys() == {"difference"}
    archive.unpack(result.archive, tmp_path / "unpacked")
    tensors = {"east": np.array([0.5], np.float32), "north": np.array([0.25], np.float32)}
    for engine in ENGINES.values():
        outputs = engine(tmp_path / "unpacked", contract, 1).run(tensors)
        assert {name: value.tolist() for name, value in outputs.items()} == {
            "sum": [pytest.approx(0.75, abs=0.1)],
            "difference": [pytest.approx(0.25, abs=0.1)],
        }
    page = champion_report(RecipeChampion(Turned(), CACHE), Registry(tmp_path / "store")).page.read_text("utf-8")
    assert "truth, difference" in page


def test_a_recipe_of_several_targets_passes_the_dry_run_and_one_of_a_single_column_does_not(tmp_path: Path) -> None:
    dry_run(Turned(), tmp_path, lambda text: None)

    class Flat(Turned):
        def module(self, hp: Hyperparameters, data: Data) -> nn.Module:
            net = Both()
            net.linear = nn.Linear(2, 1)
            return net

    with pytest.raises(Exception, match=r"returned a tensor \(1, 1\) for 1 rows; it must be \(1, 2\)"):
        dry_run(Flat(), tmp_path, lambda text: None)


def test_feedback_is_learned_by_name(tmp_path: Path) -> None:
    lines = [
        {"time": f"2024-01-0{day}T00:00:00Z", "features": {"east": 0.5, "north": 0.25}, "label": label}
        for day, label in enumerate([{"sum": 0.75, "difference": 0.25}, {"difference": 1, "sum": 2}, 0.75], 1)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    recipe = Turned()
    feedback = read_feedback(tmp_path / "rows.jsonl", recipe, recipe.load(recipe.preset(None), CACHE))
    assert feedback.rows.target.tolist() == [[0.75, 0.25], [2.0, 1.0]]
    assert feedback.refused == 1
    assert "an object with a number for each of sum, difference" in feedback.fault
