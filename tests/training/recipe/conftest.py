"""Tables that are made up, and the command that writes recipes for them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas
import pytest

from tests.training.conftest import Commands
from training.packaging.registration import Result

ROWS = 400


@dataclass(frozen=True)
class Shown:
    """A table, and what a recipe for it should say."""

    frame: pandas.DataFrame
    target: str
    says: tuple[str, ...]


def tables() -> dict[str, Shown]:
    """Tables of several kinds, in each of which the target can be told in part."""
    rng = np.random.default_rng(0)
    x, y, noise = rng.normal(size=(3, ROWS))
    kind = rng.choice(["red", "green", "blue"], ROWS)
    days = pandas.date_range("2024-03-01", periods=ROWS, freq="6h").strftime("%Y-%m-%d %H:%M:%S")
    gap = np.where(rng.random(ROWS) < 0.2, np.nan, x)
    bands = np.array(["low", "middle", "high"])
    return {
        "numbers": Shown(
            pandas.DataFrame({"x": x, "y": y, "sum": 3 * x - y + noise}), "sum", ('task = "regression"', '("x", "y")')
        ),
        "categories": Shown(
            pandas.DataFrame(
                {"kind": kind, "is big": x > 0, "sold": np.where((kind == "red") ^ (noise > 1), "y", "n")}
            ),
            "sold",
            ('categories=("kind",)', 'numbers=("is big",)', 'labels = ("n", "y")'),
        ),
        "mixed": Shown(
            pandas.DataFrame(
                {
                    "row": np.arange(ROWS),
                    "gap": gap,
                    "kind": pandas.Series(kind).mask(rng.random(ROWS) < 0.1),
                    "land": "NZ",
                    "empty": np.nan,
                    "name": [f"n{i}" for i in range(ROWS)],
                    "bought": np.where(x + (kind == "red") + noise / 2 > 0, "yes", "no"),
                }
            ),
            "bought",
            (
                'left_out=("row", "land", "empty", "name")',
                "may be missing: gap",
                'categories=("kind",)',
            ),
        ),
        "times": Shown(
            pandas.DataFrame({"when": days, "x": x, "heat": 20 + 5 * x + noise}),
            "heat",
            ('time="when"', 'task = "regression"', "hold out the newest fifth"),
        ),
        "rare": Shown(
            pandas.DataFrame({"x": x, "y": y, "fraud": (x + noise / 2 > 1.9).astype(int)}),
            "fraud",
            ('labels = ("0", "1")', 'decides = Criterion("auc", "1")'),
        ),
        "three": Shown(
            pandas.DataFrame({"x": x, "band": bands[np.digitize(x + noise / 3, [-0.5, 0.5])]}),
            "band",
            ('labels = ("high", "low", "middle")', 'task = "classification"'),
        ),
        "negative": Shown(
            pandas.DataFrame({"kind": kind, "x": x, "gain": -1e4 * x - 5e4 * (kind == "red") - 1e5}),
            "gain",
            ('outputs = (TensorSpec("gain", "FP32"),)',),
        ),
    }


TABLES = tables()


def gain(result: Result) -> float:
    """The accuracy of a version over that of the commonest class."""
    evaluation = result.contract.evaluation
    assert evaluation.baselines
    accuracy, majority = evaluation.metrics["accuracy"], evaluation.baselines["majority class"]["accuracy"]
    assert accuracy is not None
    assert majority is not None
    return accuracy - majority


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the test's own recipes."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    monkeypatch.setenv("MARLOOP_RECIPES", str(folder))
    return folder


New = Callable[..., tuple[int, str]]


@pytest.fixture
def new(training: Commands, folder: Path, tmp_path: Path) -> New:
    """Writes bytes or a table to a file, and asks for a recipe of it; its options are `new`'s."""

    def run(content: bytes | pandas.DataFrame, target: str, *options: str, name: str = "mine") -> tuple[int, str]:
        path = tmp_path / f"{name}.csv"
        if isinstance(content, pandas.DataFrame):
            content.to_csv(path, index=False)
        else:
            path.write_bytes(content)
        return training("new", name, "--csv", str(path), "--target", target, *options)

    return run
