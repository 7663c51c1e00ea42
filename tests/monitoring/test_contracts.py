"""What the contracts say of labels and outputs."""

from pathlib import Path

import pytest

from monitoring.contracts import Contracts, output_fault
from serving.registry import Registry
from tests.handlers.models import COLOURS, LINE
from tests.serving.stores import add, alter
from training.labels import label_fault


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
