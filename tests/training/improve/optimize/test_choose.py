import pytest

from tests.support.training.variants import variant_row
from training.improve.optimize.choose import choose, objection
from training.improve.optimize.result import VariantRow


def row(
    name: str, drop_high: float | None, speedup: float, low: float | None = None, effect: float = 0.0
) -> VariantRow:
    low = speedup - 0.05 if low is None else low
    return variant_row(name, drop_high=drop_high, batch_effect=effect, speedup=speedup, speedup_low=low)


REFERENCE = row("float32", 0.0, 1.0, 1.0)


def test_the_fastest_within_the_drop_is_chosen() -> None:
    rows = [REFERENCE, row("good", 0.2, 1.3), row("better", 0.4, 1.8), row("too far off", 0.6, 3.0)]
    assert choose(rows, 0.5, batched=True) == "better"
    assert choose(rows, 1.0, batched=True) == "too far off"


def test_a_bound_of_zero_refuses_whatever_may_be_worse() -> None:
    assert choose([REFERENCE, row("a", 0.01, 2.0), row("b", 0.3, 4.0)], 0, batched=True) is None
    assert choose([REFERENCE, row("the same", 0.0, 2.0)], 0, batched=True) == "the same"


def test_no_variant_is_chosen_where_none_is_surely_faster() -> None:
    assert choose([REFERENCE, row("slower", 0.0, 0.8), row("maybe", 0.0, 1.1, low=0.95)], 0.5, batched=True) is None


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (row("x", 0.6, 2.0), "loses too much"),
        (row("x", float("nan"), 2.0), "loses too much"),
        (row("x", None, 2.0), "computes NaN or infinity"),
        (row("x", 0.1, 2.0, effect=0.02), "varies by batch"),
        (row("x", 0.1, 1.0), "not faster"),
        (REFERENCE, "the champion"),
        (row("x", 0.1, 2.0), ""),
    ],
)
def test_every_refusal_says_why(one: VariantRow, why: str) -> None:
    assert objection(one, 0.5, batched=True) == why


def test_answers_may_depend_on_the_batch_where_every_request_is_alone() -> None:
    assert choose([REFERENCE, row("dynamic", 0.1, 2.0, effect=0.02)], 0.5, batched=False) == "dynamic"
