"""Rows of features become the same tensors together as alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.contract import TensorSpec
from handlers.features import FeatureRows, Features, stack
from handlers.formats.codec import Codec
from tests.support.handlers import wire
from tests.support.handlers.models import FLIGHTS, LINE, MAX_ROWS, MIXED
from tests.support.handlers.strategies import arrays


@given(st.data())
def test_requests_of_every_format_are_stacked_as_their_tensors_alone(data: st.DataObject) -> None:
    codec, requests = Codec(FLIGHTS, MAX_ROWS), []
    for write in data.draw(st.lists(st.sampled_from([*wire.WRITERS.values(), wire.native]), min_size=1, max_size=5)):
        rows = 1 if write is wire.native else data.draw(st.integers(1, 3))
        bounded = {
            "distance": np.array(data.draw(st.lists(st.integers(17, 4983), min_size=rows, max_size=rows)), "f4"),
            "hour": np.array(data.draw(st.lists(st.integers(0, 23), min_size=rows, max_size=rows))),
            "carrier": data.draw(arrays(FLIGHTS.inputs[2], rows)),
        }
        requests.append(codec.decode(write(FLIGHTS, bounded)))
    stacked = stack([request.data for request in requests])
    assert list(stacked) == ["distance", "hour", "carrier"]
    for name, tensor in stacked.items():
        assert wire.same(tensor, np.concatenate([request.tensors[name] for request in requests]))


def test_rows_of_features_stay_rows_until_they_are_stacked() -> None:
    for model, row in ((LINE, {"x": 1}), (FLIGHTS, {"distance": 1400, "hour": 5, "carrier": "UA"})):
        assert isinstance(Codec(model, MAX_ROWS).decode(wire.request(row)).data, FeatureRows)


@pytest.mark.parametrize(
    ("spec", "fits"),
    [
        (TensorSpec("x", "FP32"), True),
        (TensorSpec("x", "BOOL"), True),
        (TensorSpec("x", "BYTES"), True),
        (TensorSpec("x", "UINT64"), False),
        (TensorSpec("x", "FP32", (-1, 1)), False),
    ],
)
def test_only_scalars_that_decoding_has_checked_wait_as_rows(spec: TensorSpec, fits: bool) -> None:
    assert Features.fit([spec]) == fits
    assert not Features.fit([spec, *MIXED.inputs])
