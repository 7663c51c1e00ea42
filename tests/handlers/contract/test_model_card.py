"""Contracts that former versions wrote are read whole, and written again with the same keys and values."""

import json
from pathlib import Path

import msgspec
import pytest

from handlers.contract import ModelContract
from handlers.contract.model_card import Evaluation, Optimized
from tests.support.documents import FORMER


@pytest.mark.parametrize("path", FORMER, ids=lambda path: path.stem)
def test_a_former_contract_keeps_every_key_and_value(path: Path) -> None:
    contract = ModelContract.from_json(path.read_bytes())
    assert json.loads(contract.to_json()) == json.loads(path.read_bytes())


def test_what_is_absent_stays_absent_and_what_is_empty_stays_empty() -> None:
    for document in (b"{}", b'{"metrics":{"rmse":null},"baselines":{},"intervals":{},"gains":{}}'):
        assert msgspec.json.encode(msgspec.json.decode(document, type=Evaluation)) == document


def test_a_key_of_a_version_to_come_is_no_fault() -> None:
    assert msgspec.json.decode(b'{"rows":3,"fairness":{}}', type=Evaluation) == Evaluation(rows=3)


def test_a_variant_says_of_which_version_it_is() -> None:
    (optimized,) = (path for path in FORMER if path.stem == "quadrants-optimized")
    lineage = ModelContract.from_json(optimized.read_bytes()).lineage
    variant = json.loads(optimized.read_bytes())["lineage"]["optimized"]
    assert lineage.variant == Optimized(variant["variant"], variant["of"], variant["converted"])
    assert lineage.differences.keys() == {"onnxruntime", "torch"}
