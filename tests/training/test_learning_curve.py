from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from tests.training.quadrants import Quadrants
from training.learning_curve import learning_curve, write
from training.recipe import Data, Hyperparameters
from training.recipes.linear import Linear

pytest.importorskip("matplotlib")


@dataclass(frozen=True)
class Thinned(Hyperparameters):
    rows: int | None = None
    pretrained: bool = True


class Sectors(Quadrants):
    """Quadrants whose rows can be thinned; pretrained, it knows them already. The test has two slices."""

    presets: ClassVar[Mapping[str, Thinned]] = {"default": Thinned(epochs=2, batch_size=50, lr=1e-9)}

    def load(self, hp: Any, cache: Path) -> Data:
        data = super().load(hp, cache)
        slices = np.array(["upper", "lower"], object)[(data.test.inputs["north"] < 0).astype(int)]
        return replace(data, train=data.train.head(hp.rows), test=replace(data.test, slices=slices))

    def module(self, hp: Any, data: Data) -> nn.Module:
        module = super().module(hp, data)
        if hp.pretrained:
            first, last = module.get_submodule("layers.0"), module.get_submodule("layers.2")
            assert isinstance(first, nn.Linear)
            assert isinstance(last, nn.Linear)
            corners = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
            with torch.no_grad():
                first.weight[:] = corners.repeat(4, 1)
                first.bias[:] = 0
                last.weight[:] = torch.eye(4).repeat(1, 4)
                last.bias[:] = 0
        return module


@pytest.fixture(scope="module")
def curve(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("curve")
    return learning_curve(Sectors(), None, [20, 400], cache=folder, checkpoints=folder, steps=6)


def test_each_size_is_trained_from_both_starts_for_at_least_the_steps(curve: dict[str, Any]) -> None:
    runs = [(point["start"], point["rows"], point["epochs"]) for point in curve["points"]]
    assert runs == [("pretrained", 20, 6), ("from scratch", 20, 6), ("pretrained", 400, 2), ("from scratch", 400, 2)]


def test_the_starts_differ_and_each_is_evaluated_by_slice(curve: dict[str, Any]) -> None:
    for pretrained, scratch in (curve["points"][:2], curve["points"][2:]):
        assert pretrained["evaluation"]["metrics"]["accuracy"] == 1.0
        assert scratch["evaluation"]["metrics"]["accuracy"] < 0.8
        assert pretrained["evaluation"]["slices"].keys() == {"upper", "lower"}


def test_it_is_written_as_json_and_as_a_picture(curve: dict[str, Any], tmp_path: Path) -> None:
    text, picture = write(curve, "accuracy", tmp_path)
    assert msgspec.json.decode(text.read_bytes())["points"] == curve["points"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert (text.name, picture.name) == ("quadrants.json", "quadrants.png")


def test_an_unknown_metric_is_an_error_that_lists_those_there_are(curve: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no metric 'speed'; there are accuracy, precision, recall, f1, auc"):
        write(curve, "speed", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_whose_data_cannot_be_thinned_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="linear has no hyperparameter `rows`"):
        learning_curve(Linear(), None, [3], cache=tmp_path, checkpoints=tmp_path)
