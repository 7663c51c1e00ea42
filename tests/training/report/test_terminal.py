import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.support.documents import document, replaced
from training.packaging.registration import Result
from training.report.terminal import print_result


def report(result: Result, width: int = 120) -> str:
    file = io.StringIO()
    print_result(result, Console(file=file, width=width))
    return file.getvalue()


def row(text: str, name: str) -> list[str]:
    """The cells of the table's row that starts with a name."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"│ {name} ")]
    return [cell.strip() for cell in line.strip("│").split("│")][1:]


def test_the_model_stands_beside_its_baselines(flights: Result) -> None:
    text = report(flights)
    assert "10,806 held-out rows, in minutes" in text
    evaluation = document(flights.contract.evaluation)
    for name, metrics in {"flights 1.0": evaluation["metrics"], **evaluation["baselines"]}.items():
        assert row(text, name) == [f"{metrics[metric]:.4f}" for metric in ("rmse", "mae", "r2")]
    assert "per class" not in text


def test_a_classification_has_a_row_for_each_class(quadrants: Result) -> None:
    text = report(quadrants)
    assert "200 held-out rows" in text
    assert ", in " not in text  # a class has no unit
    per_class = document(quadrants.contract.evaluation)["per_class"]
    assert [one["label"] for one in per_class] == ["NE", "NW", "SW", "SE"]
    for one in per_class:
        expected = [f"{one[name]:.4f}" for name in ("precision", "recall", "f1", "auc")]
        assert row(text, one["label"]) == [*expected, str(one["rows"])]


def test_a_sliced_evaluation_has_a_row_for_each_slice_and_model(quadrants: Result) -> None:
    whole = document(quadrants.contract.evaluation)
    assert "by slice" not in report(quadrants)
    half = {"rows": 1_500, "metrics": dict.fromkeys(whole["metrics"], 0.25), "baselines": whole["baselines"]}
    contract = replaced(quadrants.contract, evaluation=whole | {"slices": {"upper": half, "lower": half}})
    text = report(Result(contract, quadrants.archive, "champion", "as asked"))
    assert "by slice" in text
    for part in ("upper", "lower"):
        lines = [line for line in text.splitlines() if line.startswith(f"│ {part} ")]
        names = [line.split("│")[3].strip() for line in lines]
        assert names == ["quadrants 1.0", "always NE"]
        assert "1,500" in lines[0]
        assert "0.2500" in lines[0]


def test_it_ends_with_parity_the_page_and_what_became_of_the_version(linear: Result) -> None:
    *_, parity, page, last = report(linear).splitlines()
    assert parity.startswith("parity with the module on 1,001 rows, largest difference: onnxruntime 0.0e+00, torch ")
    assert page == f"{linear.report}: how good it is, and where it errs"
    assert last == f"{linear.archive}: champion (the first version)"


@pytest.mark.parametrize("folder", ["/a/[b]", "/" + "long/" * 50])
def test_the_archives_path_is_printed_as_it_is(linear: Result, folder: str) -> None:
    path = Path(folder) / "linear-1.0.mar"
    text = report(Result(linear.contract, path, "challenger", "as asked"), width=40)
    assert text.endswith(f"\n{path}: challenger (as asked)\n")
