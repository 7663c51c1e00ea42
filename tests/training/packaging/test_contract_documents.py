"""Every contract that is packed can be read from its archive."""

import io
import math
import zipfile
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.contract import Example, ModelContract
from serving import documents
from tests.support.serving.stores import contract_of_doubling
from training.packaging.contents import pack

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


@given(evaluation=ANY, lineage=ANY, reference=ANY, request=ANY, labels=st.lists(st.text(), max_size=3))
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
    contract = packed(lineage={"history": [{"epoch": 1, "loss": math.nan}], "created": "now"})
    assert contract.lineage["history"] == [{"epoch": 1, "loss": None}]


def test_a_label_that_no_file_can_hold_is_refused_with_its_place() -> None:
    with pytest.raises(documents.DocumentError, match=r"labels\[0\] is '\\udc80', which has half of a surrogate pair"):
        packed(labels=("\udc80",))
