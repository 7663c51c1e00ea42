"""Two sides in turn: what their rounds come to, and that both are really served."""

import pytest

from loadtests.tune.versus import summary
from loadtests.wrk import Load


def load(rate: float, p50: float = 1.0, p99: float = 2.0) -> Load:
    return Load(int(rate * 10), 10.0, 0, 0, p50, p50, p99, p99)


def test_ratios_are_taken_round_by_round_so_that_the_machines_speed_falls_out() -> None:
    found = summary([(load(100), load(90)), (load(1000), load(900)), (load(10), load(9))])
    assert list(found.throughput) == pytest.approx([0.9, 0.9, 0.9])


def test_latencies_are_of_the_other_side_against_this_one() -> None:
    found = summary([(load(100, 1, 2), load(100, 2, 8)), (load(100, 1, 2), load(100, 2, 8))])
    assert (found.p50, found.p99) == (2, 4)
