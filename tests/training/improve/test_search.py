import math
import platform
import sqlite3
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import psutil
import pytest
from torch import Tensor
from typer.testing import CliRunner

from serving import documents
from serving.settings import Folders
from tests.support.training.quadrants import Quadrants
from tests.support.training.trainings import CACHE, load
from training import recipes
from training.__main__ import app
from training.data import DataError
from training.fitting.fit import fit
from training.improve.budget import Budget, measure, within
from training.recipe import Hyperparameters, Recipe
from training.recipes.linear import Linear

optuna = pytest.importorskip("optuna", reason="optuna is not installed: pip install -e '.[search]'")
from optuna.trial import TrialState  # noqa: E402

from training.improve import search  # noqa: E402
from training.improve.search_report import BEST, Search, draw_search, gain  # noqa: E402
from training.improve.sharing import study as studies  # noqa: E402


class Corners(Quadrants):
    """Quadrants whose default preset hardly learns, so that a search has something to find."""

    presets: ClassVar[dict[str, Hyperparameters]] = {"slow": Hyperparameters(epochs=4, batch_size=50, lr=1e-3)}


class Interrupted(Corners):
    """Ctrl-C in the third trial."""

    left = 3

    def module(self, hp: Hyperparameters, data: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return super().module(hp, data)


class Hopeless(Corners):
    """All trials after the preset's and the first few learn the wrong."""

    presets: ClassVar[dict[str, Hyperparameters]] = {"brisk": Hyperparameters(epochs=4, batch_size=50, lr=0.02)}
    trial = 0

    def module(self, hp: Hyperparameters, data: Any) -> Any:
        self.trial += 1
        return super().module(hp, data)

    def loss(self, output: Tensor, target: Tensor, hp: Hyperparameters) -> Tensor:
        sign = 1 if self.trial <= 6 else -1
        return sign * super().loss(output, target, hp).clamp(max=5)


def found(recipe: Recipe[Any], runs: Path, trials: int = 12, **options: Any) -> dict[str, Any]:
    about = {name: options.pop(name) for name in ("preset", "step") if name in options}
    return search.search(recipe, Folders(CACHE, runs), Budget(trials=trials, **options), seed=0, **about).to_document()


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return found(Corners(), tmp_path_factory.mktemp("search"), seeds=2)


def test_the_first_trial_is_the_preset_and_the_best_is_no_worse(result: dict[str, Any]) -> None:
    first, *others = result["trials"]
    preset = Corners.presets["slow"]
    assert (first["lr"], first["batch_size"], first["schedule"]) == (preset.lr, preset.batch_size, preset.schedule)
    complete = [trial for trial in result["trials"] if trial["state"] == "complete"]
    best = max(complete, key=lambda trial: trial["value"])
    assert result["found"] == {name: best[name] for name in result["found"]}
    assert best["value"] > first["value"]
    assert len({trial["lr"] for trial in others}) > 5


def test_the_comparison_is_what_both_do_with_other_seeds_on_the_same_rows_and_epochs(
    result: dict[str, Any], tmp_path: Path
) -> None:
    data = within(load(Quadrants()), None)
    preset = Corners.presets["slow"]
    presets = {"slow": preset, BEST: replace(preset, **result["found"])}
    for row in result["rows"]:
        trained = fit(Quadrants(), replace(presets[row["preset"]], seed=row["seed"]), data, tmp_path)
        assert len(trained.history) == result["budget"]["epochs"] == 4
        assert row["test"] == pytest.approx(measure(trained, data.test))
        assert data.validation
        assert row["validation"] == pytest.approx(measure(trained, data.validation))
    assert [(row["preset"], row["seed"]) for row in result["rows"]] == [("slow", 1), ("slow", 2), (BEST, 1), (BEST, 2)]
    assert result["better"] is True
    assert gain("accuracy", Search.from_document(result).rows, "test").sum() > 0


def test_what_mattered_sums_to_one(result: dict[str, Any]) -> None:
    complete = [trial for trial in result["trials"] if trial["state"] == "complete"]
    assert len(complete) >= search.FOR_IMPORTANCE
    assert result["importance"].keys() == result["found"].keys()
    assert sum(result["importance"].values()) == pytest.approx(1)


def test_a_search_goes_on_from_its_file(tmp_path: Path) -> None:
    told: list[str] = []
    first = found(Corners(), tmp_path, 3, seeds=1)
    again = found(Corners(), tmp_path, 5, seeds=1, step=told.append)
    assert again["trials"][:3] == first["trials"]
    assert len(again["trials"]) == 5
    assert [line.split()[1] for line in told if line.startswith("trial ")] == ["3", "4"]
    assert len(found(Corners(), tmp_path, 5, seeds=1)["trials"]) == 5


def test_other_epochs_or_rows_are_another_study(tmp_path: Path) -> None:
    for options in ({}, {"epochs": 2}, {"epochs": 2, "rows": 100}):
        assert len(found(Corners(), tmp_path, 2, seeds=1, **options)["trials"]) == 2
    with sqlite3.connect(tmp_path / "search-quadrants.db") as database:
        assert database.execute("select count(*) from studies").fetchone() == (3,)
    database.close()


def test_ctrl_c_keeps_the_trials_that_are_done(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        found(Interrupted(), tmp_path, 5)
    kept = found(Corners(), tmp_path, 2, seeds=1)["trials"]
    assert [(trial["number"], trial["state"]) for trial in kept] == [(0, "complete"), (1, "complete")]


def test_a_hopeless_trial_is_pruned_and_recorded(tmp_path: Path) -> None:
    recipe = Hopeless()
    trials = found(recipe, tmp_path, 10, seeds=1)["trials"]
    pruned = [trial for trial in trials if trial["state"] == "pruned"]
    assert pruned
    assert all(trial["epochs"] < 4 for trial in pruned)
    assert len(trials) == 10


def test_a_regression_without_validation_rows_is_searched_for_the_lowest_loss(tmp_path: Path) -> None:
    linear = found(Linear(), tmp_path, 6, seeds=1, preset="tutorial", epochs=20)
    values = [trial["value"] for trial in linear["trials"] if trial["state"] == "complete"]
    assert (linear["metric"], linear["budget"]["rows"], linear["budget"]["validation"]) == ("rmse", 4, 1)
    best = min(linear["trials"], key=lambda trial: trial["value"])
    assert best["value"] == min(values)
    assert linear["found"]["lr"] == best["lr"]


def test_what_was_found_is_a_preset(result: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recipe, "found_folder", tmp_path / "presets")
    recipe = Corners()
    assert "found" not in recipe.preset_names
    with pytest.raises(KeyError, match="no preset 'found'"):
        recipe.preset("found")
    path = search.write_preset(recipe, result["hyperparameters"])
    assert recipe.preset_names == ("slow", "found")
    assert recipe.preset("found") == replace(Corners.presets["slow"], **result["found"])
    path.write_bytes(msgspec.json.encode({"lr": "fast"}))
    with pytest.raises(ValueError, match=f"{path} holds no hyperparameters: .*lr.*; search again, or delete it"):
        recipe.preset("found")
    path.write_bytes(msgspec.json.encode({"luck": 1}))
    with pytest.raises(ValueError, match="no luck"):
        recipe.preset("found")


def test_the_epochs_of_a_found_preset_are_the_presets_own(tmp_path: Path) -> None:
    short = found(Corners(), tmp_path, 2, seeds=1, epochs=1)
    assert short["hyperparameters"]["epochs"] == 4


def test_the_report_says_what_both_do(result: dict[str, Any], tmp_path: Path) -> None:
    text = Search.from_document(result).markdown()
    assert text.startswith("12 trials, ")
    assert "| slow | " in text
    assert f"| {BEST} | " in text
    assert "`lr` " in text
    draw_search(Search.from_document(result), tmp_path / "search.png")
    assert (tmp_path / "search.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_searches_and_its_preset_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recipe, "found_folder", tmp_path / "presets")
    options = [f"--runs={tmp_path}", f"--output={tmp_path / 'docs'}", "--trials=8", "--seeds=1", "--seed=1"]
    done = CliRunner().invoke(app, ["search", "linear", "--preset=tutorial", "--epochs=5", *options])
    assert done.exit_code == 0, done.output
    assert "marloop train linear --preset found" in done.output
    assert (tmp_path / "docs" / "pictures" / "search-linear.png").exists()
    written = msgspec.json.decode((tmp_path / "docs" / "search-linear.json").read_bytes())
    hp = recipes.find("linear").preset("found")
    assert asdict(hp) == written["hyperparameters"]
    assert hp.epochs == 100


def test_fashion_is_searched_in_its_own_space(tmp_path: Path) -> None:
    recipe = recipes.find("fashion")
    try:
        smoke = found(recipe, tmp_path, 2, preset="smoke", rows=200, seeds=1)
    except DataError as error:
        pytest.skip(str(error))
    assert smoke["found"].keys() > {"lr", "dropout", "label_smoothing", "shift", "erase"}


def opened(runs: Path, step: list[str]) -> Any:
    recipe = Corners()
    hp = recipe.preset(None)
    return studies.open_study(recipe, hp, within(load(recipe), None), runs, 0, step.append)


@pytest.mark.parametrize("process", [("elsewhere", 1, 0.0), ("", 2**22 + 1, 1.0), ("", 1, 1.0), None])
def test_a_search_that_was_killed_in_its_first_trial_tries_the_preset_when_it_goes_on(
    tmp_path: Path, process: tuple[str, int, float] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = opened(tmp_path, []).ask()
    if process:
        host, *rest = process
        trial.set_user_attr(studies.PROCESS, (host or platform.node(), *rest))
    else:
        monkeypatch.setattr(studies, "UNREPORTED", -1e9)
    told: list[str] = []
    study = opened(tmp_path, told)
    if process and process[0]:  # another machine may still be at it
        assert (told, study.get_trials(states=(TrialState.WAITING,))) == ([], [])
        return
    assert told == ["trial 0 was killed"]
    (waiting,) = study.get_trials(states=(TrialState.WAITING,))
    assert waiting.system_attrs["fixed_params"]["lr"] == Corners().preset(None).lr
    assert opened(tmp_path, told).get_trials(states=(TrialState.WAITING,)) == [waiting]  # once is enough


def test_a_trial_that_still_runs_is_left_alone(tmp_path: Path) -> None:
    process = psutil.Process()
    trial = opened(tmp_path, []).ask()
    trial.set_user_attr(studies.PROCESS, (platform.node(), process.pid, process.create_time()))
    told: list[str] = []
    assert opened(tmp_path, told).trials[0].state == TrialState.RUNNING
    assert told == []


@pytest.mark.parametrize("damage", [lambda content: content[:3000], lambda content: b"no database" * 1000])
def test_a_damaged_file_is_put_aside_and_the_search_begins_anew(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    opened(tmp_path, [])
    path = tmp_path / "search-quadrants.db"
    path.write_bytes(content := damage(path.read_bytes()))
    told: list[str] = []
    assert len(opened(tmp_path, told).get_trials(states=(TrialState.WAITING,))) == 1
    (aside,) = tmp_path.glob("search-quadrants.db.damaged-*")
    assert aside.read_bytes() == content
    assert f"it is kept as {aside.name}, and the search begins anew" in told[0]


def test_a_result_with_trainings_that_went_astray_is_written_and_rendered(result: dict[str, Any]) -> None:
    astray = {**result, "rows": [row | {"validation": math.nan, "test": math.inf} for row in result["rows"]]}
    again = documents.from_json(documents.to_json(astray))
    assert again["rows"][0]["validation"] is None
    assert "| – |" in Search.from_document(again).markdown()
