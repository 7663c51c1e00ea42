"""The table of a campaign: what came of the tests of each fault, with the figures of the run."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from tests.chaos.faults import Fault

FIGURES, LATE = "figures", "late"  # properties of a test: what it measured, and that a promised time passed


@dataclass(frozen=True)
class Outcome:
    """What came of one test.

    Attributes:
        outcome: passed, failed or skipped.
        late: whether a promised time passed.
        figures: what was measured; the reason where it was skipped.
        seconds: it took.
    """

    outcome: str
    late: bool
    figures: str
    seconds: float


@dataclass(frozen=True)
class Row:
    """One fault.

    Attributes:
        fault: what was done.
        outcome: failed, late, passed or skipped, by the worst of its tests. Late: all held but a promised time, which
            a busy machine may take.
        figures: of all its tests.
        seconds: they took.
    """

    fault: Fault
    outcome: str
    figures: str
    seconds: float


class Report:
    """A plugin of pytest that runs the tests of faults only, and collects what came of them.

    Args:
        faults: of the campaign.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._faults = faults
        self._outcomes: dict[str, list[Outcome]] = {}

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out what belongs to no fault."""
        wanted = set().union(*(fault.ids for fault in self._faults))
        others = [item for item in items if _id(item.nodeid) not in wanted]
        items[:] = [item for item in items if _id(item.nodeid) in wanted]
        config.hook.pytest_deselected(items=others)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what came of a test that ran, was skipped, or could not be set up."""
        if report.when != "call" and report.passed:
            return
        figures = "; ".join(str(value) for name, value in report.user_properties if name == FIGURES)
        if report.skipped and isinstance(report.longrepr, tuple):
            figures = report.longrepr[2].removeprefix("Skipped: ")
        late = any(name == LATE for name, _ in report.user_properties)
        outcome = Outcome(report.outcome, late, figures, report.duration)
        self._outcomes.setdefault(_id(report.nodeid), []).append(outcome)

    def rows(self) -> list[Row]:
        """The faults of which a test ran, or was skipped."""
        rows = []
        for fault in self._faults:
            outcomes = [outcome for test in sorted(fault.ids) for outcome in self._outcomes.get(test, [])]
            if outcomes:
                rows.append(_row(fault, outcomes))
        return rows


def _id(node: str) -> str:
    """A test's folder, file and name without parameters: ``serving/test_watcher.py::test_any_answer_will_do``."""
    return node.partition("[")[0].rpartition("tests/")[2]


def _row(fault: Fault, outcomes: Sequence[Outcome]) -> Row:
    tried = [outcome for outcome in outcomes if outcome.outcome != "skipped"] or outcomes
    names = {"late" if outcome.late and outcome.outcome == "passed" else outcome.outcome for outcome in tried}
    worst = next(name for name in ("failed", "late", "passed", "skipped") if name in names)
    figures = "; ".join(dict.fromkeys(outcome.figures for outcome in tried if outcome.figures))
    return Row(fault, worst, figures, sum(outcome.seconds for outcome in outcomes))


def markdown(rows: Sequence[Row]) -> str:
    """The table in Markdown."""
    verdicts = {"passed": "yes", "late": "**late**", "failed": "**no**", "skipped": "not tried"}
    lines = ["| | fault | promised | held | figures of the run | s |", "| --- | --- | --- | --- | --- | --- |"]
    kind = ""
    for row in rows:
        fault = row.fault
        cells = (
            "" if fault.kind == kind else fault.kind,
            fault.fault,
            fault.promise,
            verdicts[row.outcome],
            row.figures,
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + f" | {row.seconds:.0f} |")
        kind = fault.kind
    return "\n".join(lines)
