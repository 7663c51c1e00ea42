"""Learning from feedback: what a file must be, which rows are held out, and that what changed is learned."""

import io
import json
import math
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from handlers.contract import TensorSpec
from handlers.engine import load_engine
from handlers.formats.tokens import FILE, PAD, TextTokenizer
from serving.registry import Registry
from serving.settings import Folders
from tests.support.documents import document
from tests.support.training.quadrants import Quadrants
from tests.support.training.rows import START, Row, between, doubled, of_split, row, write
from tests.support.training.trainings import CACHE, load
from tests.training.conftest import Train
from training import champion, pipeline, recipes
from training.__main__ import app
from training.data import DataError, sha256
from training.feedback import Feedback, as_many_steps, extend, learnable, read_feedback, split
from training.packaging.export import run
from training.packaging.registration import Result, TrainOptions
from training.recipe import Data, Split
from training.recipes.linear import Linear
from training.report.terminal import print_result

LINEAR = Linear()
FLIGHTS = recipes.find("flights")
OTHER_ROWS = (
    "measured on other rows than the champion, so that nothing tells which is better: see `marloop promote {} {}`"
)


def linear_rows(folder: Path, rows: list[Row]) -> Feedback:
    return read_feedback(write(folder / "rows.jsonl", rows), LINEAR, load(LINEAR))


def seconds(part: Split) -> list[int]:
    """Of each row, after the start."""
    assert part.time is not None
    return [int(time - START.timestamp()) for time in part.time]


def test_rows_become_arrays_like_the_recipes_own_in_order_of_time(tmp_path: Path) -> None:
    found = linear_rows(tmp_path, [row(2.5, 6, x=3), row(1, 2.0, x=1.0)])
    own = load(LINEAR).train
    assert found.rows.inputs["x"].dtype == own.inputs["x"].dtype
    assert found.rows.target.dtype == own.target.dtype
    assert found.rows.inputs["x"].tolist() == [1, 3]
    assert found.rows.target.tolist() == [2, 6]
    assert seconds(found.rows) == [1, 2]
    assert (found.since, found.until) == (START + timedelta(seconds=1), START + timedelta(seconds=2.5))
    assert found.sha256 == sha256((tmp_path / "rows.jsonl").read_bytes())
    assert (found.refused, found.fault) == (0, "")


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        (row(0, 2.0, x="1"), r"\$\.x: Expected `float`, got `str`; right would be number from -1e\+06 to 1e\+06"),
        (row(0, 2.0, x=1e9), r"\$\.x: "),
        (row(0, 2.0, x=[1.0]), r"\$\.x: "),
        (row(0, 2.0, x=None), r"\$\.x: "),
        (row(0, 2.0), "its features are none; right would be x"),
        (row(0, 2.0, x=1.0, instances=[{"x": 1.0}]), "its features are x, instances; right would be x"),
        (row(0, "2", x=1.0), r"\$\.label: the label is '2'; right would be a number from -1e\+09 to 1e\+09"),
        (row(0, True, x=1.0), r"\$\.label: the label is True"),
        (row(0, None, x=1.0), r"\$\.label: the label is None"),
        (row(0, 1e300, x=1.0), r"\$\.label: the label is 1e\+300; right would be a number from -1e\+09 to 1e\+09"),
    ],
)
def test_a_row_that_does_not_fit_is_left_out_counted_and_explained(tmp_path: Path, wrong: Row, fault: str) -> None:
    found = linear_rows(tmp_path, [row(0, 2.0, x=1.0), wrong, row(1, 4.0, x=2.0), row(2, None, x=1.0)])
    assert found.rows.target.tolist() == [2, 4]
    assert found.refused == 2
    assert found.fault.startswith("line 2, ")
    assert re.search(fault, found.fault)


def test_a_file_of_which_nothing_fits_is_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows.jsonl: none of its 1 rows fits linear; the first: line 1, \$.label: "):
        linear_rows(tmp_path, [row(0, "two", x=1.0)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "it is empty"),
        ('{"time": "2026-03-01T12:00:00Z", "features": {"x": 1.0}, "lab', "is damaged in line 1, "),
        ("[1]", r"is damaged in line 1, \$: Expected `object`"),
        ('{"time": "2026-03-01T12:00:00Z", "label": 2.0}', r"is damaged in line 1, \$.features: "),
        ('{"time": "2026-03-01T12:00:00", "features": {}, "label": 2.0}', r"is damaged in line 1, \$.time: "),
        ('{"time": "yesterday", "features": {}, "label": 2.0}', r"is damaged in line 1, \$.time: "),
        ("\xff\x00", "is damaged in line 1, "),
    ],
)
def test_a_file_that_is_empty_or_damaged_is_an_error_that_names_the_place(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match=f"rows.jsonl:? {message}"):
        read_feedback(path, LINEAR, load(LINEAR))


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows.jsonl cannot be read: No such file"):
        read_feedback(tmp_path / "rows.jsonl", LINEAR, load(LINEAR))


def test_categories_and_classes_are_told_by_name(tmp_path: Path) -> None:
    data = load(FLIGHTS)
    flight = {"distance": 1400.0, "hour": 8, "carrier": "UA", "origin": "EWR", "dest": "IAH"}
    rows = [row(0, 200.0, **flight), row(1, 200.0, **(flight | {"dest": "XXX"}))]
    found = read_feedback(write(tmp_path / "rows.jsonl", rows), FLIGHTS, data)
    origin = next(spec for spec in data.inputs if spec.name == "origin")
    assert [origin.categories[i] for i in found.rows.inputs["origin"]] == ["EWR"]
    assert "unknown dest 'XXX'" in found.fault
    points = [row(0, "SW", east=-1.0, north=-1.0), row(1, "south", east=-1.0, north=-1.0)]
    classified = read_feedback(write(tmp_path / "points.jsonl", points), Quadrants(), load(Quadrants()))
    assert classified.rows.target.tolist() == [2]
    assert classified.rows.target.dtype == np.int64
    assert "the label is 'south'; right would be one of 4 class names" in classified.fault


class Reviews(Quadrants):
    """Of texts; only what reading needs."""

    name = "reviews"
    labels = ("bad", "good")
    entry_point = "text"


def test_texts_become_tokens_as_long_as_the_recipes_own(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="tokenizers is not installed: pip install -e '.[sentiment]'")
    from tests.support.handlers.texts import settings

    tokens, target = np.full((3, 8), PAD, np.int64), np.zeros(3, np.int64)
    own = Split({"text": tokens}, target, texts={"text": np.array(["", "", ""], object)})
    data = Data(own, own, (TensorSpec("text", "BYTES"),), "", assets={FILE: settings()})
    rows = [row(0, "good", text="good film"), row(1, "bad", text="  "), row(2, "bad", text="bad")]
    found = read_feedback(write(tmp_path / "rows.jsonl", rows), Reviews(), data)
    expected = TextTokenizer(settings())(["good film", "bad"]).indices
    assert found.rows.inputs["text"].shape == (2, 8)
    np.testing.assert_array_equal(found.rows.inputs["text"][:, : expected.shape[1]], expected)
    assert (found.rows.inputs["text"][:, expected.shape[1] :] == PAD).all()
    assert found.rows.texts["text"].tolist() == ["good film", "bad"]
    assert found.refused == 1
    joined = own.followed_by(found.rows)
    assert joined.texts["text"].tolist()[3:] == ["good film", "bad"]


class Grid(Quadrants):
    """Of small arrays."""

    name = "grid"


def test_a_small_array_is_learned_and_a_large_one_cannot_be(tmp_path: Path) -> None:
    def data(*size: int) -> Data:
        own = Split({"cells": np.zeros((2, *size), np.float32)}, np.zeros(2, np.int64))
        return Data(own, own, (TensorSpec("cells", "FP32", (-1, *size)),), "")

    path = write(tmp_path / "rows.jsonl", [row(0, "NE", cells=[[1, 2], [3, 4]]), row(1, "NE", cells=[[1, 2]])])
    found = read_feedback(path, Grid(), data(2, 2))
    assert found.rows.inputs["cells"].tolist() == [[[1, 2], [3, 4]]]
    assert found.fault.startswith("line 2, $.inputs")
    with pytest.raises(DataError, match="grid cannot learn from feedback: of cells, which has over 64 values a row"):
        read_feedback(path, Grid(), data(8, 9))


def test_what_can_be_learned_is_told_from_the_contract(linear: Result) -> None:
    contract = linear.contract
    assert learnable(contract) is None
    picture = msgspec.structs.replace(contract, inputs=(TensorSpec("image", "UINT8", (-1, 28, 28)),))
    assert (
        learnable(picture) == "of image, which has over 64 values a row or sizes that vary, only the mean is captured"
    )
    small = msgspec.structs.replace(contract, inputs=(TensorSpec("image", "UINT8", (-1, 8, 8)),))
    assert learnable(small) is None


def test_the_newest_share_is_held_out(tmp_path: Path) -> None:
    learned, held_out = split(linear_rows(tmp_path, doubled(40)), 0.1)
    assert seconds(learned) == list(range(36))
    assert seconds(held_out) == [36, 37, 38, 39]


def test_rows_of_one_second_are_held_out_together(tmp_path: Path) -> None:
    rows = [row(second, 2.0, x=1.0) for second in [*range(17), 17.2, 17.9, 17.5, 17.1, 18]]
    learned, held_out = split(linear_rows(tmp_path, rows), 0.1)
    assert seconds(learned) == list(range(17))
    assert seconds(held_out) == [17, 17, 17, 17, 18]
    oldest_alike = [row(second, 2.0, x=1.0) for second in [0] * 19 + [1, 2]]
    learned, held_out = split(linear_rows(tmp_path, oldest_alike), 0.5)
    assert seconds(held_out) == [1, 2]


def test_too_few_rows_to_hold_any_out_are_an_error_that_says_how_many_are_needed(tmp_path: Path) -> None:
    assert len(split(linear_rows(tmp_path, doubled(20)), 0.1)[1]) == 2
    with pytest.raises(DataError, match="19 rows of feedback are too few to hold 0.1 of them out: give 20 or more"):
        split(linear_rows(tmp_path, doubled(19)), 0.1)
    with pytest.raises(DataError, match="the 30 rows of feedback are nearly all of one second"):
        split(linear_rows(tmp_path, [row(0, 2.0, x=1.0)] * 30), 0.1)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 10.0, math.nan])
def test_a_share_that_is_none_is_an_error(tmp_path: Path, share: float) -> None:
    with pytest.raises(ValueError, match="must be between 0 and 1"):
        split(linear_rows(tmp_path, doubled(40)), share)


def extended(folder: Path, rows: list[Row], share: float = 0.1) -> Data:
    return extend(LINEAR, LINEAR.preset(None), load(LINEAR), write(folder / "rows.jsonl", rows), share)


def test_feedback_is_learned_like_the_recipes_own_rows_and_the_lineage_tells_of_it(tmp_path: Path) -> None:
    own = load(LINEAR)
    rows = [*doubled(39), row(39, "four", x=2.0), row(39.5, 4.0, x=2.0)]
    found = extended(tmp_path, rows)
    assert sorted(found.train.target) == sorted([*own.train.target, *(one["label"] for one in rows[:36])])
    assert len(found.test) == 4
    assert found.feedback
    assert document(found.feedback) == {
        "rows": 40,
        "held_out": 4,
        "since": "2026-03-01T12:00:00+00:00",
        "until": "2026-03-01T12:00:39.500000+00:00",
        "held_out_since": "2026-03-01T12:00:36+00:00",
        "sha256": sha256((tmp_path / "rows.jsonl").read_bytes()),
        "refused": 1,
    }


def test_the_sum_of_the_data_tells_other_feedback_and_another_share_apart(tmp_path: Path) -> None:
    sums = {extended(tmp_path, rows, share).sha256 for rows, share in [(doubled(40), 0.1), (doubled(40), 0.2)]}
    sums |= {extended(tmp_path, doubled(41)).sha256, load(LINEAR).sha256}
    assert len(sums) == 4
    assert extended(tmp_path, doubled(40)).sha256 in sums


def test_flights_fade_with_their_age_and_none_of_the_held_out_days_is_learned() -> None:
    data, hp = load(FLIGHTS), FLIGHTS.preset(None)
    year = FLIGHTS.timeline(data)
    assert year is not None
    rows, held_out = between(year, "2013-02-10", "2013-02-14"), between(year, "2013-02-14", "2013-02-16")
    found = FLIGHTS.with_feedback(data, rows, held_out, hp)
    assert found.test is held_out
    time, weight = found.train.time, found.train.weight
    assert time is not None
    assert weight is not None
    assert held_out.time is not None
    assert rows.time is not None
    assert time.max() == rows.time.max() < held_out.time.min()
    assert weight.max() == 1
    age = (time.max() - time) / 86400
    np.testing.assert_allclose(weight, 0.5 ** (age / 7), rtol=1e-5)
    summer = FLIGHTS.with_feedback(data, between(year, "2013-06-01", "2013-06-02"), held_out=rows, hp=hp)
    assert summer.train.time is not None


def test_flights_of_long_ago_are_left_out() -> None:
    data, hp = load(FLIGHTS), FLIGHTS.preset(None)
    year = FLIGHTS.timeline(data)
    assert year is not None
    rows, held_out = between(year, "2013-07-01", "2013-07-03"), between(year, "2013-07-03", "2013-07-04")
    assert len(FLIGHTS.with_feedback(data, rows, held_out, hp).train) == len(rows)


def test_few_rows_are_learned_in_as_many_steps_as_many_are() -> None:
    hp = FLIGHTS.preset(None)
    assert as_many_steps(hp, 39 * hp.batch_size, 39 * 100).batch_size == 100
    assert as_many_steps(hp, 39 * hp.batch_size, 39).batch_size == 32
    assert as_many_steps(hp, 39 * hp.batch_size, 80 * hp.batch_size) == hp


def rmse(result: Result, rows: Split, folder: Path) -> float:
    """Of a version's own graph, on some rows."""
    with zipfile.ZipFile(result.archive) as archive:
        archive.extract("model.onnx", folder / result.contract.version)
    engine = load_engine("onnxruntime", folder / result.contract.version, result.contract, 1)
    output = run(FLIGHTS, engine, rows, ("air_time",))
    return float(np.sqrt(np.mean((output - rows.target) ** 2)))


def test_flights_of_summer_are_learned_from_feedback(flights: Result, train: Train, tmp_path: Path) -> None:
    year = FLIGHTS.timeline(load(FLIGHTS))
    assert year is not None
    days = between(year, "2013-07-01", "2013-07-11")
    path = write(tmp_path / "rows.jsonl", of_split(days, load(FLIGHTS).inputs))
    result = train(FLIGHTS, None, feedback=path, hold_out=0.2, promote="never")
    told = document(result.contract.lineage)["feedback"]
    assert told["rows"] == len(days)
    held_out = days.tail(told["held_out"])
    assert held_out.time is not None
    assert held_out.time[0] == datetime.fromisoformat(told["held_out_since"]).timestamp()
    found, champions = rmse(result, held_out, tmp_path), rmse(flights, held_out, tmp_path)
    assert document(result.contract.evaluation)["metrics"]["rmse"] == pytest.approx(found, rel=1e-4)
    assert champions > 14
    assert found < 0.75 * champions
    usual = {name: "usual" in summary for name, summary in document(result.contract.reference)["inputs"].items()}
    assert all(usual.values())


def test_a_few_days_of_summer_are_enough_to_err_less(flights: Result, train: Train, tmp_path: Path) -> None:
    year = FLIGHTS.timeline(load(FLIGHTS))
    assert year is not None
    learned, later = between(year, "2013-06-01", "2013-06-05"), between(year, "2013-06-05", "2013-06-08")
    path = write(tmp_path / "rows.jsonl", of_split(learned, load(FLIGHTS).inputs))
    result = train(FLIGHTS, None, feedback=path, hold_out=0.07, promote="never")
    found, champions = (rmse(one, later, tmp_path / name) for name, one in (("new", result), ("old", flights)))
    assert found < 0.85 * champions


def quarters(rotated: int, count: int, places: int) -> list[Row]:
    """Points of some quadrants of the plane, whose names have moved on."""
    corners = [(1, 1), (-1, 1), (-1, -1), (1, -1)]
    chance, rows = np.random.default_rng(0), []
    for second in range(count):
        place = second % places
        east, north = (side * float(size) for side, size in zip(corners[place], chance.uniform(0.1, 1, 2), strict=True))
        rows.append(row(second, Quadrants.labels[(place + rotated) % 4], east=east, north=north))
    return rows


def test_a_classification_learns_the_class_names_of_feedback_that_lacks_one_of_them(
    quadrants: Result, train: Train, tmp_path: Path
) -> None:
    shutil.copytree(quadrants.archive.parent, tmp_path / "store")
    path = write(tmp_path / "rows.jsonl", quarters(rotated=1, count=1500, places=3))
    result = train(Quadrants(), None, feedback=path)
    evaluation = document(result.contract.evaluation)
    assert evaluation["rows"] == 150
    assert evaluation["confusion"][0] == [0, 0, 0, 0]
    assert evaluation["per_class"][0]["auc"] is None
    assert evaluation["metrics"]["accuracy"] > 0.9  # the recipe's own quadrants would give 0
    assert (result.state, result.why) == ("challenger", OTHER_ROWS.format("quadrants", "1.1"))


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Linear with feedback, the first version of its store."""
    folder = tmp_path_factory.mktemp("fed")
    path = write(folder / "rows.jsonl", doubled(20))
    options = TrainOptions(preset="tutorial", feedback=path)
    return pipeline.train(LINEAR, Registry(folder / "store"), Folders(CACHE, folder / "runs"), options)


def test_a_champion_that_was_measured_on_feedback_is_compared_with_no_other_version(
    fed: Result, train: Train, tmp_path: Path
) -> None:
    assert fed.state == "champion"
    assert document(fed.contract.evaluation)["held_out_since"] == "2026-03-01T12:00:18+00:00"
    shutil.copytree(fed.archive.parent, tmp_path / "store")
    result = train(LINEAR, "tutorial", result_file=tmp_path / "result.json")
    assert (result.state, result.why) == ("challenger", OTHER_ROWS.format("linear", "1.1"))
    assert "held_out_since" not in json.loads((tmp_path / "result.json").read_bytes())


def test_the_table_says_that_the_rows_are_of_the_feedback(fed: Result) -> None:
    file = io.StringIO()
    print_result(fed, Console(file=file, width=120))
    assert "2 rows held out of the newest feedback" in file.getvalue()
    assert fed.report is not None
    assert "rows held out of the newest feedback" in fed.report.read_text()


def test_what_needs_the_data_of_a_version_that_learned_from_feedback_says_what_to_do(
    fed: Result, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"linear 1.0 learned from 18 rows of feedback as well \(2026-03-01") as raised:
        champion.open_champion(LINEAR, Registry(fed.archive.parent), CACHE, tmp_path)
    assert "marloop train linear --promote always" in str(raised.value)


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    """``marloop train linear`` with feedback, in a process of its own."""
    places = [f"--store={folder / 'store'}", f"--runs={folder / 'runs'}", f"--result={folder / 'told' / 'result.json'}"]
    return subprocess.Popen(
        [sys.executable, "-m", "training", "train", "linear", f"--feedback={folder / 'rows.jsonl'}", *places, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_killed_command_goes_on_with_the_same_file_and_tells_its_result_to_a_program(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", doubled(40))
    options = ("--preset=tutorial", "--promote=never", "--hold-out=0.25")
    with start(tmp_path, *options) as first:
        assert first.stdout is not None
        assert any(line.startswith("epoch 45/100 ") for line in first.stdout)
        first.kill()
    assert not (tmp_path / "told").exists()
    second = start(tmp_path, *options)
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 0, output
    assert f"linear: reading the feedback in {tmp_path / 'rows.jsonl'}\n" in output
    assert "linear: learning 30 rows of feedback as well; the 10 newest are held out\n" in output
    assert f"going on from {tmp_path / 'runs'}" in output
    assert "epoch 20/100 " not in output
    assert json.loads((tmp_path / "told" / "result.json").read_bytes()) == {
        "model": "linear",
        "version": "1.0",
        "archive": str(tmp_path / "store" / "linear-1.0.mar"),
        "state": "challenger",
        "why": "as asked: promote never",
        "held_out_since": "2026-03-01T12:00:30+00:00",
    }


def test_a_damaged_file_ends_the_command_with_an_error_that_programs_are_told_too(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{")
    result = CliRunner().invoke(
        app, ["train", "linear", f"--feedback={tmp_path / 'rows.jsonl'}", f"--result={tmp_path / 'result.json'}"]
    )
    assert result.exit_code == 1
    assert f"error: {tmp_path / 'rows.jsonl'} is damaged in line 1" in result.output
    told = json.loads((tmp_path / "result.json").read_bytes())
    assert told.keys() == {"model", "error"}
    assert "is damaged in line 1" in told["error"]


class Lacking(Linear):
    """A line whose ``x`` may be missing, and then counts as 3."""

    def load(self, hp: Any, cache: Path) -> Data:
        """The rows of ``Linear``."""
        data = super().load(hp, cache)
        return replace(data, inputs=tuple(msgspec.structs.replace(s, nullable=True, default=3.0) for s in data.inputs))


def test_a_row_that_lacks_a_value_learns_its_default_and_stays_known_as_lacking(tmp_path: Path) -> None:
    recipe = Lacking()
    file = write(tmp_path / "rows.jsonl", [row(0, 2.0, x=None), row(1, 2.0, x=1.0)])
    found = read_feedback(file, recipe, recipe.load(recipe.preset(None), CACHE)).rows
    assert found.inputs["x"].tolist() == [3, 1]
    assert found.missing["x"].tolist() == [True, False]
