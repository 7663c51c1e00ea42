import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from marloop.verbs import VERBS
from serving.settings import ROOT
from training.improve.ablate import Ablation
from training.improve.learning_curve import LearningCurve
from training.improve.practices import document, effects
from training.improve.practices.document import PRACTICES, Practice
from training.improve.search_report import Search
from training.report.champion import Report

DOCS = ROOT / "docs"
ABOUT = {"command": "learning-curve", "model": "wine", "seconds": 61.0, "machine": "an abacus"}
RESULT: dict[str, Any] = {
    "command": "report",
    "model": "wine",
    "seconds": 61.0,
    "machine": "an abacus",
    "held_out": 1000,
    "primary": "rmse",
    "rows": [{"model": "wine, preset default", "rmse": 1.5}, {"model": "mean", "rmse": 2.5}],
    "intervals": {"rmse": [1.25, 1.75]},
    "calibration": None,
    "fit_seconds": 1.0,
    "parity": {"rows": 10, "torch": 0.0},
    "gains": {},
}
REPORT = Report.from_document(RESULT)
ROWS = (
    Practice("Tasting", "`taste`", ["training/fitting/fit.py"], "report-wine", "against", ["mean"]),
    Practice("Ageing", "`age`", ["training/fitting/fit.py"], "report-cellar", "calibrated"),
    Practice("Bottling", "`bottle`", ["training/packaging/archive.py", "serving/registry.py"], note="see the label"),
)


def test_the_page_is_what_the_command_writes() -> None:
    assert (DOCS / "practices.md").read_text() == document.render_folder(DOCS / document.RESULTS)


def test_every_result_has_a_row_in_the_table_at_the_top() -> None:
    assert set(document.read_results(DOCS / document.RESULTS)) <= {row.result for row in PRACTICES}


def test_every_row_of_the_page_names_files_and_commands_that_exist() -> None:
    text = (DOCS / "practices.md").read_text()
    for path in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (DOCS / path).exists(), path
    verbs = {verb.name for row in VERBS.values() for verb in row}
    assert set(re.findall(r"`marloop ([a-z-]+)", text)) <= verbs
    assert "python -m" not in text
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= targets


def test_every_command_with_a_result_can_be_rendered() -> None:
    results = document.read_results(DOCS / document.RESULTS)
    assert {type(result) for result in results.values()} == set(document.KINDS)
    for result in results.values():
        assert result.markdown()


@pytest.mark.parametrize("path", sorted((DOCS / "practices").glob("*.json")), ids=lambda path: path.stem)
def test_every_kept_result_is_read_and_written_as_it_is(path: Path, tmp_path: Path) -> None:
    kept = msgspec.json.decode(path.read_bytes())
    (kind,) = (kind for kind in document.KINDS if kind.__struct_config__.tag == kept["command"])
    result = kind.from_document(kept)
    assert msgspec.json.decode(msgspec.json.encode(result.to_document())) == kept
    assert msgspec.json.decode(document.write_result(result, tmp_path).read_bytes()) == kept


def test_every_row_has_an_effect_of_its_result_or_a_note() -> None:
    for row in PRACTICES:
        assert (row.effect in effects.EFFECTS) if row.result else row.note


def test_a_row_has_its_effect_from_the_result_and_one_without_a_result_yet_is_left_out() -> None:
    text = document.render({"report-wine": REPORT}, practices=ROWS)
    effect = "rmse 1.5000 (1.2500 to 1.7500) against 2.5000 of the mean"
    assert f"| Tasting | `taste` | [fit.py](../training/fitting/fit.py) | {effect} |" in text
    assert "Ageing" not in text
    archive = "[archive.py](../training/packaging/archive.py), [registry.py](../serving/registry.py)"
    assert f"| Bottling | `bottle` | {archive} | see the label |" in text


def test_effects_by_slice_and_of_pretraining_are_read_from_their_rows() -> None:
    models = {"sentiment, preset full": 0.875, "VADER": 0.625}
    slices = [{"slice": "movie", "model": name, "polarity": value} for name, value in models.items()]
    known = {"held_out": 10, "intervals": {}}
    result = RESULT | {"rows": [{"model": "sentiment, preset full"}], "slices": [known | row for row in slices]}
    assert (
        effects.by_slice(Report.from_document(result), "polarity", "VADER")
        == "polarity: movie 0.8750 against 0.6250 of VADER"
    )
    points = {
        (100, "pretrained"): 0.75,
        (100, "from scratch"): 0.5,
        (500, "pretrained"): 0.8,
        (500, "from scratch"): 0.55,
    }
    run = {"slice": "movie", "epochs": 1, "seconds": 1.0, "held_out": 10}
    rows = [run | {"rows": size, "start": start, "polarity": value} for (size, start), value in points.items()]
    curve = {"metric": "polarity", "rows": rows, "steps": 1, "hyperparameters": {}, "baselines": []}
    assert effects.pretraining(LearningCurve.from_document(ABOUT | curve), "movie") == (
        "polarity, movie, pretrained against from scratch: "
        "0.7500 against 0.5000 with 100 rows; 0.8000 against 0.5500 with 500 rows"
    )


def ablated(**differences: float) -> Ablation:
    """An ablation with these differences of accuracy; two starts, the second with nothing but itself."""
    known = dict.fromkeys(("seconds", "train", "validation", "test", "test_spread", "gap"), 0.5)
    rows = [
        known | {"start": "plain", "practice": name, "changes": "", "difference": value, "difference_spread": 0.0025}
        for name, value in {"start": 0.0, **differences}.items()
    ]
    rows = [row | {"epochs": 4.0} for row in [*rows, rows[0] | {"start": "deep"}]]
    budget = {"rows": 1, "validation": 1, "test": 1, "seeds": 1}
    result = {"metric": "accuracy", "budget": budget, "starts": {}, "rows": rows, "curves": []}
    return Ablation.from_document(ABOUT | {"command": "ablate"} | result)


def test_the_effect_of_a_training_practice_is_its_difference_to_each_start_that_it_was_tried_from() -> None:
    assert effects.ablated(ablated(dropout=-0.0125), "dropout") == "−1.25 ± 0.25 points from `plain`"
    assert effects.ablated(ablated(), "dropout") == "not tried"
    both = {"epochs × 3": 0.02, "epochs × 3, early stopping": 0.015}
    assert (
        effects.ablated(ablated(**both), "epochs × 3, early stopping", "epochs × 3")
        == "+1.50 ± 0.25 points from `plain` (run to its end: +2.00 ± 0.25)"
    )


def test_the_effect_of_a_search_is_how_much_better_its_best_trial_is_on_held_out_rows() -> None:
    tests = {"quick": (0.90, 0.88), "best trial": (0.91, 0.91)}
    known = {"seed": 1, "validation": 0.9, "seconds": 1.0}
    rows = [known | {"preset": name, "test": value} for name, values in tests.items() for value in values]
    trial = {"number": 0, "state": "complete", "epochs": 1, "value": 0.9, "seconds": 1.0, "lr": 0.1}
    budget = {"rows": 1, "validation": 1, "test": 1, "seeds": 1, "epochs": 1}
    hyperparameters = {"found": {}, "hyperparameters": {}, "importance": {}, "better": True}
    result = {"metric": "accuracy", "preset": "quick", "rows": rows, "trials": [trial] * 30, "budget": budget}
    assert (
        effects.searched(Search.from_document(ABOUT | {"command": "search"} | hyperparameters | result))
        == "+2.00 points of accuracy against preset quick in the same budget, after 30 trials"
    )


def test_a_result_has_a_section_with_its_table_its_cost_and_its_picture() -> None:
    text = document.render({"report-wine": REPORT}, ["report-wine.png", "other.png"], ROWS)
    assert "## Evaluation and calibration\n\n### `wine`\n" in text
    assert "`marloop report wine`, 61 s on an abacus." in text
    assert "| wine, preset default | 1.5000 (1.2500 to 1.7500) |\n| mean | 2.5000 |" in text
    assert "![Evaluation and calibration: wine](practices/pictures/report-wine.png)" in text
    assert "other.png" not in text
    assert "## Compression" not in text


def test_a_result_is_written_where_the_page_finds_it(tmp_path: Path) -> None:
    path = document.write_result(REPORT, tmp_path / "practices")
    assert path == tmp_path / "practices" / "report-wine.json"
    assert document.read_results(tmp_path / "practices") == {"report-wine": REPORT}
    assert document.write_page(tmp_path).read_text() == document.render({"report-wine": REPORT})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is no result of a command"),
        (b"[]", "is no result of a command"),
        (msgspec.json.encode({"command": "report"}), "is no result of a command: "),
        (msgspec.json.encode(RESULT | {"command": "taste"}), "the command 'taste' has no section"),
    ],
)
def test_a_file_that_is_no_result_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "odd.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"odd.json.*{message}"):
        document.read_results(tmp_path)
