"""The gate adds up Locust's statistics, judges them, and says the verdict."""

import io
from pathlib import Path

from rich.console import Console

from loadtests.profiles import Stage
from loadtests.results import tally
from loadtests.results.gate import INTERRUPTED, Gate
from loadtests.slo import Measured, Objectives
from tests.support.loadtests.statistics import Entry, statistics

OBJECTIVES = {"flights": Objectives(p95_ms=100, p99_ms=200, error_ratio=0, throughput=10, recovery_p95_ms=20)}


def test_the_kinds_of_a_model_are_added_up_and_what_was_shed_is_kept_apart() -> None:
    found = statistics(
        flights_native=(100, 1, {5: 100}),
        flights_invalid=(10, 2, {5: 4, 7: 6}),
        flights_shed=(50, 50, {1: 50}),
        linear_native=(9, 9, {1: 9}),
    )
    assert tally.measured(found, "flights") == Measured(160, 3, 50, 10, {5: 104, 7: 6})
    assert tally.measured(found, "nobody") == Measured(0, 0, 0, 10, {})


def test_the_first_tokens_of_streams_are_kept_beside_their_requests() -> None:
    found = statistics(chat_stream=(4, 0, {900: 4}))
    found.entries["chat time to first token", "ms"] = Entry(3, 0, 190, {50: 2, 90: 1}, total_content_length=60)
    assert tally.measured(found, "chat") == Measured(4, 0, 0, 10, {900: 4}, {50: 2, 90: 1}, 60)


def judged(
    report: Path | None = None, finished: bool = True, exceptions: int = 0, slow: bool = False
) -> tuple[int, str]:
    console = Console(file=io.StringIO(), record=True, width=100)
    found = statistics(flights_native=(1000, 0, {300 if slow else 5: 1000}))
    gate = Gate(OBJECTIVES, lambda: found, console, report)
    code = gate.judge(finished, exceptions)
    gate.show(code)
    return code, console.export_text()


def test_a_run_that_meets_all_exits_with_0() -> None:
    code, text = judged()
    assert code == 0
    assert "every objective is met" in text


def test_a_missed_objective_exits_with_1_and_is_named_and_kept(tmp_path: Path) -> None:
    code, text = judged(tmp_path / "report", slow=True)
    assert code == 1
    assert "flights: p99_ms is 300, but must be at most 200" in text
    kept = (tmp_path / "report" / "slo.txt").read_text()
    assert "flights: p99_ms is 300, but must be at most 200" in kept
    assert "MISSED" in kept


def test_an_interrupted_run_is_shown_but_not_judged() -> None:
    code, text = judged(finished=False, slow=True)
    assert code == INTERRUPTED
    assert "interrupted" in text
    assert "p99_ms" in text


def test_a_fault_of_the_load_test_itself_fails_the_run() -> None:
    code, text = judged(exceptions=3)
    assert code == 1
    assert "exceptions of its own is 3" in text


def test_recovery_is_what_came_after_it_began() -> None:
    found = statistics(flights_native=(1000, 0, {50: 1000}))
    gate = Gate(OBJECTIVES, lambda: found, Console(file=io.StringIO()))
    gate.begin(Stage("recovery", 19, 8))
    gate.begin_recovery()
    found = statistics(flights_native=(1100, 0, {50: 1000, 5: 100}), seconds=20)
    assert gate.judge(finished=True, exceptions=0) == 0
    recovery = next(verdict for verdict in gate.verdicts if verdict.objective == "recovery_p95_ms")
    assert recovery.measured == 5


def test_a_run_that_ended_before_recovery_could_be_judged_has_missed_it() -> None:
    found = statistics(flights_native=(1000, 0, {5: 1000}))
    gate = Gate(OBJECTIVES, lambda: found, Console(file=io.StringIO()))
    gate.begin(Stage("recovery", 19, 8))
    assert gate.judge(finished=True, exceptions=0) == 1
    assert [verdict.objective for verdict in gate.verdicts if not verdict.met] == ["recovery_p95_ms"]
