from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, ClassVar

import msgspec
import pytest
from typer.testing import CliRunner

from serving.settings import Folders
from tests.support.training.quadrants import Quadrants
from tests.support.training.trainings import CACHE, load
from training import recipes
from training.__main__ import app
from training.fitting.fit import fit
from training.improve.ablate import START, Ablation, ablate
from training.improve.ablation_plot import draw_ablation
from training.improve.budget import Budget, measure, within
from training.improve.sharing.runs import OutOfTimeError
from training.improve.variants import practices, together
from training.recipe import Hyperparameters, Recipe
from training.recipes.linear import Linear


class Corners(Quadrants):
    """Quadrants that are learned from one slow start, and count their trainings."""

    starts: ClassVar[dict[str, str]] = {"slow": "It hardly learns."}
    presets: ClassVar[dict[str, Hyperparameters]] = {"slow": Hyperparameters(epochs=2, batch_size=50, lr=2e-3)}

    def __init__(self) -> None:
        self.fitted: list[Hyperparameters] = []

    def module(self, hp: Hyperparameters, data: Any) -> Any:
        self.fitted.append(hp)
        return super().module(hp, data)


def ablation(recipe: Recipe[Any], folder: Path, **options: Any) -> dict[str, Any]:
    """Ablate within a budget of these options; those that are none of it are the ablation's."""
    about = {name: options.pop(name) for name in ("starts", "only") if name in options}
    return ablate(recipe, Folders(folder, folder), Budget(**options), **about).to_document()


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return ablation(Corners(), tmp_path_factory.mktemp("ablation"), seeds=2, rows=200)


def row(result: dict[str, Any], practice: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = [one for one in result["rows"] if one["practice"] == practice]
    (only,) = found
    return only


def test_every_practice_that_the_model_knows_is_measured_and_then_what_helped_together(result: dict[str, Any]) -> None:
    names = [one["practice"] for one in result["rows"]]
    known = practices(Corners.presets["slow"], "classification")
    assert names == [START, *known, "all together", "those that helped"]
    assert "dropout" not in known  # has no such hyperparameter
    assert result["budget"] == {"rows": 200, "validation": 100, "test": 200, "seeds": 2}


def test_what_is_reported_is_what_the_trained_models_do(result: dict[str, Any], tmp_path: Path) -> None:
    data = within(load(Quadrants()), 200)
    models = {}
    for name, lr in {START: 0.002, "rate × 5": 0.01}.items():
        hp = replace(Corners.presets["slow"], lr=lr)
        models[name] = [fit(Quadrants(), replace(hp, seed=seed), data, tmp_path) for seed in (0, 1)]
    first, faster = ([measure(trained, data.test) for trained in models[name]] for name in (START, "rate × 5"))
    fitted = [measure(trained, data.train) for trained in models["rate × 5"]]
    reported = row(result, "rate × 5")
    assert reported["changes"] == "lr=0.01"
    assert reported["test"] == pytest.approx(fmean(faster))
    assert reported["test_spread"] == pytest.approx(stdev(faster))
    assert reported["gap"] == pytest.approx(fmean(fitted) - fmean(faster))
    differences = [b - a for a, b in zip(first, faster, strict=True)]
    assert reported["difference"] == pytest.approx(fmean(differences))
    assert reported["difference_spread"] == pytest.approx(stdev(differences))
    assert first[0] != first[1]  # another seed is another model
    assert row(result, START)["difference"] == 0


def test_curves_have_a_value_an_epoch(result: dict[str, Any]) -> None:
    curves = {one["practice"]: one["values"] for one in result["curves"]}
    assert len(curves[START]) == 2
    assert len(curves["epochs × 3"]) == 6
    assert curves.keys() == {one["practice"] for one in result["rows"]}


def test_it_goes_on_where_time_ran_out_and_makes_no_run_twice(tmp_path: Path) -> None:
    recipe, now = Corners(), iter(range(1_000))
    with pytest.raises(OutOfTimeError):
        ablation(recipe, tmp_path, seeds=2, only=["L1", "L2"], timeout=4, clock=lambda: float(next(now)))
    assert [(hp.l1, hp.weight_decay, hp.seed) for hp in recipe.fitted] == [(0, 0, 0), (0, 0, 1), (1e-4, 0, 0)]
    found = ablation(recipe, tmp_path, seeds=2, only=["L1", "L2"])
    assert [(hp.l1, hp.weight_decay, hp.seed) for hp in recipe.fitted[3:]] == [(1e-4, 0, 1), (0, 0.1, 0), (0, 0.1, 1)]
    assert [one["practice"] for one in found["rows"]] == [START, "L1", "L2"]
    assert ablation(recipe, tmp_path, seeds=2, only=["L1", "L2"]) == found
    assert len(recipe.fitted) == 6


def test_other_rows_or_epochs_are_other_runs(tmp_path: Path) -> None:
    recipe = Corners()
    for options in ({"rows": 100}, {"rows": 50}, {"rows": 50, "epochs": 1}, {"rows": 50, "epochs": 1}):
        ablation(recipe, tmp_path, seeds=1, only=["L1"], **options)
    assert len(recipe.fitted) == 3 * 2


def test_a_regression_is_measured_by_its_error_and_its_gap_is_how_much_larger_that_is(tmp_path: Path) -> None:
    found = ablation(Linear(), tmp_path, starts=["tutorial"], seeds=1, only=["rate", "smoothing"])
    assert found["metric"] == "rmse"
    start = row(found, START)
    assert start["gap"] == pytest.approx(start["test"] - start["train"])
    assert row(found, "rate × 5")["difference"] < 0  # the tutorial stops too early
    assert found["budget"]["validation"] == 1  # the last of five points, of which it learned four
    assert found["budget"]["rows"] == 4


def test_an_unknown_practice_is_an_error_that_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no practice has 'prayer' in its name; there are batch ÷ 2, batch × 4, rate"):
        ablation(Corners(), tmp_path, only=["prayer"])


@dataclass(frozen=True)
class Knobs(Hyperparameters):
    dropout: float = 0.0
    mirror: bool = True


def test_only_practices_that_change_something_are_tried() -> None:
    known = practices(Knobs(1, 8, 0.1, weight_decay=0.1), "regression")
    assert "dropout" in known
    assert "mirrored" not in known  # is already
    assert "L2" not in known
    assert "label smoothing" not in known


def test_together_the_better_of_two_practices_wins_and_longer_training_is_left_out() -> None:
    found = {"a": {"lr": 1, "l1": 1}, "b": {"lr": 2}, "c": {"shift": 1}, "d": {"epochs": 9}}
    assert together(found, {"a": 0.1, "b": 0.2, "c": -0.1, "d": 0.9}) == {
        "all together": {"lr": 2, "l1": 1, "shift": 1},
        "those that helped": {"lr": 2, "l1": 1},
    }
    assert "those that helped" not in together(found, dict.fromkeys(found, -1.0))


def test_the_table_has_a_line_a_variant_in_percent(result: dict[str, Any]) -> None:
    text = Ablation.from_document(result).markdown()
    assert "It hardly learns." in text
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(lines) == 2 + len(result["rows"])
    faster = row(result, "rate × 5")
    (line,) = [line for line in lines if line.startswith("| rate × 5 |")]
    assert f"{100 * faster['test']:.2f} ± {100 * faster['test_spread']:.2f}" in line
    assert f"{100 * faster['difference']:+.2f} ± " in line


def test_the_picture_is_drawn(result: dict[str, Any], tmp_path: Path) -> None:
    draw_ablation(Ablation.from_document(result), tmp_path / "ablation.png")
    assert (tmp_path / "ablation.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_writes_the_result_and_its_picture_and_says_when_time_was_short(tmp_path: Path) -> None:
    options = [f"--runs={tmp_path}", f"--output={tmp_path / 'docs'}", "--seeds=1", "--epochs=3", "--only=rate"]
    short = CliRunner().invoke(app, ["ablate", "linear", *options, "--timeout=0"])
    assert short.exit_code == 3
    assert "0 s are over; the same command goes on from what is done" in short.output
    done = CliRunner().invoke(app, ["ablate", "linear", *options])
    assert done.exit_code == 0, done.output
    assert "rate × 5" in done.output
    written = msgspec.json.decode((tmp_path / "docs" / "ablate-linear.json").read_bytes())
    assert (written["command"], written["model"]) == ("ablate", "linear")
    assert (tmp_path / "docs" / "pictures" / "ablate-linear.png").exists()


def test_fashion_starts_from_the_tutorials_network_and_knows_practices_of_pictures(tmp_path: Path) -> None:
    recipe = recipes.find("fashion")
    load(recipe)
    known = practices(recipe.preset("tutorial"), "classification")
    pictures = {"inputs standardised", "inputs denoised", "mirrored", "mirrored and shifted", "dropout"}
    assert pictures <= known.keys()
    found = ablate(recipe, Folders(CACHE, tmp_path), Budget(200, 1, 1), ["tutorial"], ["denoised"]).to_document()
    assert row(found, "inputs denoised")["changes"] == "denoise=True"
    assert row(found, "inputs denoised")["test"] > 0.05
