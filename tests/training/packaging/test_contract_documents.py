"""Every contract that is packed can be read from its archive."""

import io
import math
import zipfile
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.contract import Example, ModelContract
from handlers.contract.model_card import Evaluation, Lineage, Reference, Summary
from serving import documents
from tests.support.documents import FORMER
from tests.support.serving.stores import contract_of_doubling
from training.packaging.contents import pack
from training.packaging.registration import Result

ANY = st.dictionaries(
    st.text(),
    st.recursive(st.none() | st.floats() | st.integers() | st.text(), lambda inner: st.lists(inner)),
    max_size=4,
)


def packed(**changes: Any) -> ModelContract:
    contract = msgspec.structs.replace(contract_of_doubling(), **changes)
    content = pack(contract, "tabular", "doubles", {}, {"model.onnx": b""})
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return ModelContract.from_json(archive.read("contract.json"))


NUMBERS = st.dictionaries(st.text(), st.none() | st.floats() | st.integers(), max_size=4)
EVALUATIONS = st.builds(Evaluation, primary=st.text(), metrics=NUMBERS, baselines=st.dictionaries(st.text(), NUMBERS))
LINEAGES = st.builds(
    Lineage, preset=st.text(), hyperparameters=ANY, optimized=ANY, history=st.lists(NUMBERS, max_size=3)
)
SUMMARIES = st.builds(Summary, quantiles=st.lists(st.floats()), counts=st.dictionaries(st.text(), st.integers()))
REFERENCES = st.builds(Reference, inputs=st.dictionaries(st.text(), SUMMARIES, max_size=2), output=SUMMARIES)


@given(
    evaluation=EVALUATIONS, lineage=LINEAGES, reference=REFERENCES, request=ANY, labels=st.lists(st.text(), max_size=3)
)
def test_whatever_is_packed_is_read_again_or_refused(
    evaluation: Any, lineage: Any, reference: Any, request: Any, labels: list[str]
) -> None:
    changes = {"evaluation": evaluation, "lineage": lineage, "reference": reference, "labels": tuple(labels)}
    changes["example"] = Example(request, {"prediction": 1.0})
    try:
        contract = packed(**changes)
    except documents.DocumentError:
        return
    expected = msgspec.structs.replace(contract_of_doubling(), **changes)
    assert documents.finite(contract) == documents.finite(expected)


def test_a_learning_curve_that_went_astray_is_null() -> None:
    contract = packed(lineage=Lineage(history=[{"epoch": 1, "loss": math.nan}], created="now"))
    assert contract.lineage.history == [{"epoch": 1, "loss": None}]


def test_a_label_that_no_file_can_hold_is_refused_with_its_place() -> None:
    with pytest.raises(documents.DocumentError, match=r"labels\[0\] is '\\udc80', which has half of a surrogate pair"):
        packed(labels=("\udc80",))


def test_a_contract_of_today_has_the_keys_of_a_former_one(quadrants: Result) -> None:
    (former,) = (path for path in FORMER if path.stem == "quadrants")
    today = msgspec.json.decode(quadrants.contract.to_json())
    assert set(paths(today)) == set(paths(msgspec.json.decode(former.read_bytes())))


def paths(value: Any, place: str = "$") -> Iterator[str]:
    """The place of every value of a document, those of a list as one."""
    yield place
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, f"{place}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from paths(inner, f"{place}[]")
