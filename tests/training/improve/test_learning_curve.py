import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from serving.settings import Folders
from tests.support.training.quadrants import Quadrants
from training.fitting import fit
from training.improve.learning_curve import CurveOptions, LearningCurve, draw_curve, learning_curve, print_curve
from training.recipe import Data, Hyperparameters
from training.recipes.linear import Linear

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install -e .")


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
    return learning_curve(Sectors(), Folders(folder, folder), CurveOptions(sizes=[20, 400], steps=6)).to_document()


def test_each_size_is_trained_from_both_starts_for_at_least_the_steps(curve: dict[str, Any]) -> None:
    runs = dict.fromkeys((row["start"], row["rows"], row["epochs"]) for row in curve["rows"])
    assert list(runs) == [
        ("pretrained", 20, 6),
        ("from scratch", 20, 6),
        ("pretrained", 400, 2),
        ("from scratch", 400, 2),
    ]


def test_the_starts_differ_and_each_has_a_row_for_every_slice(curve: dict[str, Any]) -> None:
    for size in (20, 400):
        rows = {(row["start"], row["slice"]): row for row in curve["rows"] if row["rows"] == size}
        assert rows.keys() == {(start, name) for start in ("pretrained", "from scratch") for name in ("upper", "lower")}
        for (start, _), row in rows.items():
            assert (row["accuracy"] == 1.0) if start == "pretrained" else (row["accuracy"] < 0.8)
    assert sum(row["held_out"] for row in curve["rows"][:2]) == 200
    assert [(row["baseline"], row["slice"]) for row in curve["baselines"]] == [
        ("always NE", "upper"),
        ("always NE", "lower"),
    ]


def test_its_table_has_a_line_a_run_and_a_baseline_and_a_column_a_slice(curve: dict[str, Any]) -> None:
    heading, _, *lines = LearningCurve.from_document(curve).markdown().splitlines()
    assert heading == "| start | rows | epochs | s | accuracy, upper | accuracy, lower |"
    assert [line.split(" | ")[0] for line in lines[:5]] == [
        "| pretrained",
        "| from scratch",
        "| pretrained",
        "| from scratch",
        "| always NE",
    ]
    assert lines[0].endswith(" | 1.0000 | 1.0000 |")
    assert "at least 6 steps" in lines[-1]


def test_its_picture_is_drawn(curve: dict[str, Any], tmp_path: Path) -> None:
    picture = tmp_path / "practices" / "learning-curve-quadrants.png"
    draw_curve(LearningCurve.from_document(curve), picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_an_interrupted_curve_goes_on_with_the_run_that_was_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, fitted = fit.fit, []
    folders = Folders(tmp_path, tmp_path)

    def fit_twice(*arguments: Any) -> Any:
        fitted.append(arguments)
        if len(fitted) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    def measure() -> dict[str, Any]:
        return learning_curve(Sectors(), folders, CurveOptions(sizes=[20, 40], steps=6)).to_document()

    monkeypatch.setattr(fit, "fit", fit_twice)
    with pytest.raises(KeyboardInterrupt):
        measure()
    assert len(list(tmp_path.rglob("curve-*.json"))) == 2
    assert [row["rows"] for row in measure()["rows"]] == [20] * 4 + [40] * 4
    assert len(fitted) == 5
    assert not list(tmp_path.rglob("curve-*.json"))


def test_an_unknown_metric_is_an_error_that_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no metric 'speed'; there are accuracy, precision, recall, f1, auc"):
        learning_curve(Sectors(), Folders(tmp_path, tmp_path), CurveOptions(None, [20], "speed", 1))


def test_a_recipe_whose_data_cannot_be_thinned_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="linear has no hyperparameter `rows`"):
        learning_curve(Linear(), Folders(tmp_path, tmp_path), CurveOptions(sizes=[3]))


def test_a_learning_curve_is_printed_with_its_baselines() -> None:
    run = {"start": "pretrained", "rows": 1_500, "epochs": 2, "seconds": 9.6, "slice": "", "held_out": 9, "f1": 0.75}
    about = {"command": "learning-curve", "model": "wine", "seconds": 9.6, "machine": "an abacus"}
    shown = {"metric": "f1", "steps": 6, "hyperparameters": {}}
    baselines = [{"baseline": "mean", "slice": "", "f1": 0.5}]
    curve = LearningCurve.from_document({**about, **shown, "rows": [run], "baselines": baselines})
    file = io.StringIO()
    print_curve(curve, Console(file=file, width=80))
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in file.getvalue().splitlines()]
    assert ["pretrained", "1,500", "2", "10", "0.7500"] in rows
    assert ["mean", "", "", "", "0.5000"] in rows
