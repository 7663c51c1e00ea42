from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.training.variants import variant_row
from training.improve.optimize.result import Optimization, draw_optimization


def row(name: str, verdict: str, speedup: float, drop: float | None) -> dict[str, Any]:
    return variant_row(
        name,
        accuracy=None if drop is None else 0.9134 - drop / 100,
        drop=drop,
        drop_low=None if drop is None else drop - 0.1,
        drop_high=None if drop is None else drop + 0.1,
        speedup=speedup,
        speedup_low=speedup - 0.1,
        speedup_high=speedup + 0.1,
        verdict=verdict,
    ).to_document()


def markdown(result: dict[str, Any]) -> str:
    return Optimization.from_document(result).markdown()


@pytest.fixture
def result() -> dict[str, Any]:
    return {
        "command": "optimize",
        "model": "fashion",
        "version": "1.0",
        "task": "classification",
        "primary": "accuracy",
        "held_out": 10_000,
        "max_drop": 0.5,
        "shares": [0.5],
        "threads": 1,
        "int8_instructions": "AVX-512 VNNI",
        "chosen": "int8 static",
        "decision": "int8 static, 1.23 times as fast",
        "left_out": {"pruned 50 %": "no layer"},
        "seconds": 12.3,
        "machine": "a machine",
        "rows": [
            row("float32", "the champion", 1.0, 0.0),
            row("float16", "not faster", 0.9, 0.01),
            row("int8 static", "chosen", 1.23, -0.05),
            row("int4", "computes NaN or infinity", 2.0, None),
        ],
    }


def test_the_table_has_the_champion_first_and_then_the_fastest(result: dict[str, Any]) -> None:
    lines = markdown(result).splitlines()
    assert lines[2] == (
        "| float32 | 246 kB | 0.9134 |  | 0.0363, 0.05 | 1.89, 2.5 | 33,862 | 3.1 MB |  | the champion |"
    )
    assert [line.split(" | ")[0] for line in lines[3:6]] == ["| int4", "| **int8 static**", "| float16"]
    assert "-0.05 (-0.15 to +0.05)" in lines[4]
    assert "1.23 (1.13 to 1.33)" in lines[4]
    assert lines[3].count("–") == 2


def test_every_row_has_as_many_cells_as_the_head(result: dict[str, Any]) -> None:
    assert {len(line) for line in Optimization.from_document(result).cells()} == {10}
    assert {len(line) for line in Optimization.from_document(result).brief()} == {7}


def test_a_terminal_shows_the_same_without_intervals(result: dict[str, Any]) -> None:
    _, _, int4, int8, _ = Optimization.from_document(result).brief()
    assert int4 == ["int4", "246 kB", "–", "0.0363", "1.89", "2.00", "computes NaN or infinity"]
    assert int8 == ["int8 static", "246 kB", "-0.05", "0.0363", "1.89", "1.23", "chosen"]


def test_what_was_decided_and_what_could_not_be_made_is_told(result: dict[str, Any]) -> None:
    text = markdown(result)
    assert "**Chosen: int8 static, 1.23 times as fast.**" in text
    assert "Not made: pruned 50 % (no layer)." in text
    assert "Without pruning" not in text
    assert "Without pruning (`--prune 0`)." in markdown(result | {"shares": []})
    assert "A point is one row in a hundred." in text
    nothing = markdown(result | {"chosen": None, "decision": "none is surely faster"})
    assert "**The champion stays: none is surely faster.**" in nothing


def test_parts_of_the_held_out_rows_have_a_table_of_their_own(result: dict[str, Any]) -> None:
    assert "| variant |" not in markdown(result).split("\n\n", 1)[1]
    for row in result["rows"]:
        row["movie: accuracy"] = 0.8
    lines = markdown(result).splitlines()
    assert lines[lines.index("| variant | movie: accuracy |") + 2] == "| float32 | 0.8000 |"


def test_the_picture_can_be_opened(result: dict[str, Any], tmp_path: Path) -> None:
    draw_optimization(Optimization.from_document(result), tmp_path / "optimize.png")
    with Image.open(tmp_path / "optimize.png") as picture:
        assert picture.size[0] > 800


@pytest.mark.parametrize(
    ("metric", "unit"),
    [
        ("rmse", "one percent of the champion's RMSE"),
        ("cost", "one percent of the champion's cost"),
        ("auc of yes", "a hundredth of auc of yes"),
    ],
)
def test_a_point_is_told_in_the_metric_that_decides(result: dict[str, Any], metric: str, unit: str) -> None:
    rows = [row | {metric: 0.5} for row in result["rows"]]
    text = markdown(result | {"primary": metric, "rows": rows})
    assert f"A point is {unit}." in text
    assert f"| size | {metric} | points lost |" in text
