"""What the contracts say of labels and outputs."""

from pathlib import Path

import msgspec
import pytest

from monitoring.store.contracts import Contracts, output_fault
from serving.registry import Registry
from tests.support.documents import replaced
from tests.support.handlers.models import COLOURS, LINE
from tests.support.serving.stores import add, alter
from training.statistics.labels import label_fault, label_range, widened


def test_the_champions_contract_is_taken_unless_a_version_is_named(tmp_path: Path) -> None:
    models = Registry(tmp_path)
    contracts = Contracts(models)
    assert contracts.of("doubling") is None
    add(models, number="1.0", state="challenger")
    add(models, number="1.1", state="challenger")

    def number(version: str | None = None) -> str | None:
        contract = contracts.of("doubling", version)
        return contract.version if contract else None

    assert number() == "1.1"
    models.promote("doubling", "1.0")
    assert number() == "1.0"
    assert number("1.1") == "1.1"
    assert number("1.2") is None


def test_an_archive_that_cannot_be_read_has_no_contract(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    models = Registry(tmp_path)
    alter(add(models))
    assert Contracts(models).of("doubling") is None
    assert "no contract of doubling" in caplog.text


def test_labels_are_class_names_or_finite_numbers() -> None:
    assert label_fault(COLOURS, "day") is None
    assert label_fault(COLOURS, "Day") == "one of 2 class names, closest: day, night"
    assert label_fault(COLOURS, 1.0) is not None
    assert label_fault(LINE, 12.5) is None
    assert label_fault(LINE, float("inf")) == "a finite number"
    assert label_fault(LINE, "12.5") == "a finite number"


@pytest.mark.parametrize(
    "output",
    [
        "day",
        {"label": "dusk", "probabilities": [0.5, 0.5]},
        {"label": "day", "probabilities": [1.0]},
        {"label": "day", "probabilities": [1.0, None]},
        {"label": "day"},
    ],
)
def test_the_output_of_a_classification_is_a_label_with_all_probabilities(output: object) -> None:
    assert output_fault(COLOURS, {"label": "day", "probabilities": [0.75, 0.25]}) is None
    assert output_fault(COLOURS, output) == "a label of the contract and 2 probabilities"


def test_a_label_far_outside_of_what_was_known_is_none() -> None:
    known = msgspec.structs.replace(LINE, label_range=(-10.0, 20.0))
    assert label_fault(known, 20) is None
    assert label_fault(known, 20.5) == "a number from -10 to 20"
    assert label_fault(known, -1e300) == "a number from -10 to 20"
    assert label_fault(known, float("nan")) == "a number from -10 to 20"


def test_an_archive_of_a_former_version_tells_by_its_answers_and_errors_where_labels_were() -> None:
    reference = {"output": {"quantiles": [0.0, 5.0, 10.0]}, "errors": {"quantiles": [-1.0, 0.0, 1.0]}}
    former = replaced(LINE, reference=reference)
    assert label_range(former) == (-121.0, 131.0)  # labels from -1 to 11, and ten times their span on both sides
    assert label_fault(former, 1e300) is not None


def test_labels_that_are_all_alike_tell_nothing_of_those_to_come() -> None:
    assert widened(3.0, 3.0) is None
    assert widened(-1e308, 1e308) is None


def test_a_range_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="label_range"):
        msgspec.structs.replace(LINE, label_range=(1.0, float("inf")))
