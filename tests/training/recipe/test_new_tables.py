"""``marloop new --csv``: the recipe of a table is short, clean, learns, and is served."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest

from serving.settings import ROOT, Folders
from tests.training.bring.test_onnx import Imported
from tests.training.conftest import Commands
from tests.training.recipe.conftest import TABLES, New, gain
from training import pipeline, recipes
from training.packaging.registration import TrainOptions
from training.recipe import to_tensors

tables = pytest.mark.parametrize("name", sorted(TABLES))


@tables
def test_a_recipe_says_what_the_columns_are_and_its_parts_fit_together(new: New, folder: Path, name: str) -> None:
    table = TABLES[name]
    code, output = new(table.frame, table.target, name=name)
    assert code == 0, output
    assert output.endswith(f"lines to edit; next:\n  make train MODEL={name}\n  make up\n")
    source = (folder / f"{name}.py").read_text()
    assert source.count("\n") < 60
    for part in table.says:
        assert part in source
    recipe = recipes.find(name)
    hp = recipe.preset(None)
    data = recipe.load(hp, Path())
    assert (len(data.train), len(data.validation or ()), len(data.test)) == (280, 40, 80)
    shape = (80, len(recipe.labels)) if recipe.labels else (80,)
    assert recipe.module(hp, data).eval()(*to_tensors(data.test)).shape == shape
    assert {tuple(values.shape) for values in recipe.baselines(data).values()} == {shape}


def test_recipes_pass_the_linter_the_formatter_and_the_type_checker(new: New, folder: Path) -> None:
    wide = pandas.DataFrame({f"column number {i}": TABLES["three"].frame["x"] + i for i in range(300)})
    odd = TABLES["mixed"].frame.rename(columns={"kind": 'the "kind"', "bought": "it's\\bought", "gap": "gap;é"})
    many = {"wide": wide.assign(y=wide["column number 0"] * 2), "odd": odd} | {n: t.frame for n, t in TABLES.items()}
    targets = {"wide": "y", "odd": "it's\\bought"} | {name: table.target for name, table in TABLES.items()}
    for name, frame in many.items():
        code, output = new(frame, targets[name], name=name)
        assert code == 0, output
    for command in (
        ["ruff", "check", "--config", "pyproject.toml", str(folder)],
        ["ruff", "format", "--check", "--config", "pyproject.toml", str(folder)],
        ["mypy", "--strict", *map(str, folder.glob("*.py"))],
    ):
        done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr
    assert len(recipes.find("wide").load(recipes.find("wide").preset(None), Path()).inputs) == 300


def test_a_recipe_passes_check_trains_beats_the_baseline_and_its_archive_answers(
    training: Commands, new: New, tmp_path: Path
) -> None:
    assert new(TABLES["mixed"].frame, "bought")[0] == 0
    code, output = training("check", "mine")
    assert output.endswith("mine: no fault found; `make train MODEL=mine` fits it\n"), output
    assert code == 0
    folders = Folders(tmp_path / "cache", tmp_path / "runs")
    result = pipeline.train(recipes.find("mine"), training.registry, folders, TrainOptions())
    assert gain(result) > 0.1
    assert result.state == "champion"
    served = Imported(result, tmp_path / "unpacked")
    known: dict[str, object] = {"gap": 2.5, "kind": "red"}
    answers = served.post(known, {"gap": -2.5, "kind": None}, {"gap": None}, {}, known | {"kind": "pink"})
    assert [status for status, _ in answers] == [200, 200, 200, 200, 400]
    assert [answer["prediction"]["label"] for _, answer in answers[:2]] == ["yes", "no"]
    assert answers[2] == answers[3]


def test_the_newest_rows_are_held_out_where_there_is_a_time_unless_asked_otherwise(new: New) -> None:
    frame = TABLES["times"].frame.sample(frac=1, random_state=1)
    assert "split by when: the newest fifth held out" in new(frame, "heat", name="ordered")[1]
    data = recipes.find("ordered").load(recipes.find("ordered").preset(None), Path())
    assert data.train.time is not None
    assert data.test.time is not None
    assert data.train.time.max() < data.test.time.min()
    assert "split at random" in new(frame, "heat", "--time", "-", name="shuffled")[1]
    assert recipes.find("shuffled").load(recipes.find("shuffled").preset(None), Path()).train.time is None


@pytest.mark.parametrize(
    ("form", "shown"),
    [("%d/%m/%Y", "%d/%m/%Y"), ("%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M"), ("%Y%m%d", "%Y%m%d"), ("%s", "s")],
)
def test_dates_of_several_forms_are_read(new: New, folder: Path, form: str, shown: str) -> None:
    days = pandas.date_range("2023-01-05", periods=400, freq="D")
    written = days.strftime(form) if form != "%s" else (days - pandas.Timestamp(0)) // pandas.Timedelta("1s")
    frame = TABLES["times"].frame.assign(when=written)
    code, output = new(frame, "heat", "--time", "when")
    assert code == 0, output
    assert f'time_format="{shown}"' in (folder / "mine.py").read_text()
    time = recipes.find("mine").load(recipes.find("mine").preset(None), Path()).test.time
    assert time is not None
    assert pandas.Timestamp(int(time.max()), unit="s").date() == days[-1].date()


def test_a_column_that_tells_the_target_is_named(new: New) -> None:
    frame = TABLES["mixed"].frame.assign(refund=TABLES["mixed"].frame["bought"].map({"yes": 2.5, "no": 0}))
    assert "  refund tells the target alone: is it there before the truth is?\n" in new(frame, "bought")[1]
    assert "alone" not in new(TABLES["mixed"].frame, "bought", name="other")[1]


@pytest.mark.parametrize(
    ("separator", "name"), [(";", "utf-8"), ("\t", "latin-1"), (",", "utf-8-sig"), ("|", "utf-16")]
)
def test_separators_and_encodings_are_found(new: New, separator: str, name: str) -> None:
    frame = TABLES["mixed"].frame.rename(columns={"gap": "größe"}).replace({"red": "röt"})
    text = frame.to_csv(index=False, sep=separator, decimal="," if separator == ";" else ".")
    code, output = new(text.encode(name), "bought")
    assert code == 0, output
    data = recipes.find("mine").load(recipes.find("mine").preset(None), Path())
    assert [spec.name for spec in data.inputs] == ["gr_e", "kind"]
    assert "röt" in data.inputs[1].categories
    gaps = data.train.inputs["gr_e"]
    assert np.isclose(np.nanmin(gaps), TABLES["mixed"].frame["gap"].min(), atol=0.5)


def test_a_sign_for_missing_numbers_is_read_as_such(new: New, folder: Path) -> None:
    frame = TABLES["mixed"].frame
    code, output = new(frame.assign(gap=frame["gap"].map(lambda gap: "?" if np.isnan(gap) else gap)), "bought")
    assert code == 0, output
    assert 'read={"na_values": ["?"]}' in (folder / "mine.py").read_text()


def test_the_task_is_as_asked_and_rows_without_truth_are_left_out(new: New, folder: Path) -> None:
    frame = TABLES["rare"].frame.assign(stars=np.arange(400) % 5 + 1.0)
    frame.loc[:9, "stars"] = np.nan
    assert "classification of 5 labels: 1, 2, 3, 4, 5\n10 rows without one are left out" in new(frame, "stars")[1]
    assert "\nregression\n" in new(frame, "stars", "--task", "regression", "--force")[1]
    assert 'task = "regression"' in (folder / "mine.py").read_text()
