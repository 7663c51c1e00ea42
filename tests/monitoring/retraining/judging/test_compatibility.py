"""What a client of one version may expect of the next."""

from typing import Any

import msgspec
import pytest

from handlers.contract import ModelContract, TensorSpec, classification_outputs
from handlers.contract.pictures import Picture
from monitoring.retraining.judging.compatibility import violations
from tests.support.handlers.models import FLIGHTS, LINE, PICTURES
from training.statistics.pair import Pair

PHOTOS = msgspec.structs.replace(LINE, inputs=(TensorSpec("x", "UINT8", (-1, 4, 4), picture=Picture("shortest", 6)),))
WORDS = msgspec.structs.replace(LINE, inputs=(TensorSpec("x", "BYTES"),))


def changed(contract: ModelContract, name: str, /, **changes: Any) -> ModelContract:
    """A contract with one input changed."""
    inputs = tuple(msgspec.structs.replace(one, **changes) if one.name == name else one for one in contract.inputs)
    return msgspec.structs.replace(contract, inputs=inputs)


@pytest.mark.parametrize(
    "wider",
    [
        FLIGHTS,
        msgspec.structs.replace(FLIGHTS, inputs=FLIGHTS.inputs[::-1], version="9.9"),
        changed(FLIGHTS, "distance", range=(0, 5000), description="of the great circle"),
        changed(FLIGHTS, "distance", range=None),
        changed(FLIGHTS, "carrier", categories=("ZZ", "WN", "UA", "DL", "B6", "AA")),
        changed(FLIGHTS, "carrier", categories=()),
        changed(FLIGHTS, "distance", nullable=True),
        msgspec.structs.replace(FLIGHTS, inputs=(*FLIGHTS.inputs, TensorSpec("gate", "FP32", nullable=True))),
    ],
)
def test_a_client_goes_on_where_the_same_or_more_is_accepted(wider: ModelContract) -> None:
    assert violations(Pair(FLIGHTS, wider)) == []


def test_pictures_may_be_made_another_way() -> None:
    other = changed(PHOTOS, "x", picture=Picture("fit", resample="lanczos"), background="white")
    assert violations(Pair(PHOTOS, other)) == []
    refusing = changed(PHOTOS, "x", picture=Picture("none"), background="refuse")
    assert violations(Pair(refusing, refusing)) == []


@pytest.mark.parametrize(
    ("before", "after", "violation"),
    [
        (
            FLIGHTS,
            changed(FLIGHTS, "hour", name="minute"),
            "input hour is gone: requests that hold it would be refused",
        ),
        (FLIGHTS, changed(FLIGHTS, "hour", name="minute"), "input minute is new: requests without it would be refused"),
        (FLIGHTS, changed(FLIGHTS, "hour", datatype="FP32"), "input hour has datatype FP32, not INT64"),
        (FLIGHTS, changed(FLIGHTS, "hour", shape=(-1, 2)), "input hour has shape [-1, 2], not [-1]"),
        (FLIGHTS, changed(FLIGHTS, "distance", unit="km"), "input distance has unit km, not miles"),
        (
            FLIGHTS,
            changed(FLIGHTS, "distance", range=(20, 5000)),
            "input distance accepts 20 to 5000, not all of what the champion accepts, 17 to 4983",
        ),
        (
            changed(LINE, "x", nullable=True),
            LINE,
            "input x needs a value, which requests to the champion may lack",
        ),
        (
            changed(FLIGHTS, "hour", timestamp=True, range=None),
            FLIGHTS,
            "input hour takes no text, as the champion's times are",
        ),
        (
            LINE,
            changed(LINE, "x", range=(0, 1)),
            "input x accepts 0 to 1, not all of what the champion accepts, any value",
        ),
        (
            FLIGHTS,
            changed(FLIGHTS, "carrier", categories=("AA", "DL", "UA")),
            "input carrier lacks 2 of the champion's 5 categories: B6, WN",
        ),
        (
            PHOTOS,
            changed(PHOTOS, "x", picture=Picture("none")),
            "input x refuses pictures of other sizes, which the champion takes",
        ),
        (
            PHOTOS,
            changed(PHOTOS, "x", background="refuse"),
            "input x refuses transparent pictures, which the champion takes",
        ),
        (WORDS, changed(WORDS, "x", categories=("a", "b")), "input x accepts 2 categories, the champion any text"),
        (LINE, msgspec.structs.replace(LINE, outputs=(TensorSpec("z", "FP32"),)), "its outputs are z, not y"),
        (
            LINE,
            msgspec.structs.replace(LINE, outputs=(TensorSpec("y", "FP64"),)),
            "output y has datatype FP64, not FP32",
        ),
        (
            PICTURES,
            msgspec.structs.replace(PICTURES, labels=("boot", "bag", "coat", "shirt")),
            "its labels are boot, bag, coat, shirt, not bag, boot, coat, shirt, in this order",
        ),
        (LINE, msgspec.structs.replace(LINE, name="curve"), "it is a version of curve, not of line"),
        (
            LINE,
            msgspec.structs.replace(LINE, task="classification", labels=("a",), outputs=classification_outputs(1)),
            "its task is classification, not regression",
        ),
    ],
)
def test_what_a_client_could_not_go_on_with_is_named(
    before: ModelContract, after: ModelContract, violation: str
) -> None:
    assert violation in violations(Pair(before, after))


def test_every_violation_is_named_and_a_long_list_is_cut() -> None:
    many = changed(FLIGHTS, "carrier", categories=tuple(map(str, range(30))))
    found = violations(Pair(many, changed(changed(many, "hour", datatype="FP32"), "carrier", categories=("0",))))
    assert len(found) == 2
    assert found[1].endswith("categories: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 19 more")
