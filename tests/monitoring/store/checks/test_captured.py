"""What a captured row may hold."""

from typing import Any

import pytest

from handlers.contract import TensorSpec
from monitoring.store.checks.captured import RowCheck, usable
from monitoring.store.records import Prediction
from tests.support.handlers.models import contract
from tests.support.monitoring.drifting import NOW

CITY = TensorSpec("city", "BYTES", categories=("Bonn", "Ulm"), nullable=True, default="Ulm")
NOTE = TensorSpec("note", "BYTES", nullable=True, default="")
MODEL = contract(TensorSpec("age", "FP32", range=(0, 99), nullable=True), CITY, NOTE, TensorSpec("n", "INT64"))


@pytest.mark.parametrize(
    ("features", "fault"),
    [
        ({"age": None, "city": None, "n": 1}, None),
        ({"n": 1}, None),
        ({"note": None, "n": 1}, None),
        ({"note": "any text", "n": 1}, None),
        ({"note": 3, "n": 1}, "Expected string, or null, got 3 - at `features.note`"),
        ({"age": 30, "city": "Ulm", "n": 1}, None),
        ({"age": 100, "city": None, "n": 1}, "Expected number from 0 to 99, or null, got 100 - at `features.age`"),
        ({"age": None, "city": "Rome", "n": 1}, "Expected one of 2 categories, or null, got 'Rome' - at `features.cit"),
        ({"age": None, "city": None, "n": None}, "Expected integer, got None - at `features.n`"),
        ({"age": None, "city": None}, "Expected integer, got nothing - at `features.n`"),
    ],
)
def test_only_a_nullable_input_may_be_missing(features: dict[str, Any], fault: str | None) -> None:
    told = RowCheck(MODEL).fault(features, 0.5)
    assert told is None if fault is None else (told or "").startswith(fault)
    row = Prediction("r", 0, MODEL.name, MODEL.version, NOW, features, 0.5)
    if "n" in features:
        assert bool(usable(MODEL, [row])) == (fault is None)
