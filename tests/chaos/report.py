"""The table of a campaign: each test that is marked ``chaos`` is a row, with its promise and the figures of the run."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

KINDS = ("killed", "hung", "filled", "damaged", "flooded", "sent", "changed")  # in the order of the table
FIGURES, LATE = "figures", "late"  # properties of a test: what it measured, and that a promised time passed


@dataclass(frozen=True)
class Row:
    """One fault.

    Attributes:
        kind: one of ``KINDS``.
        fault: what is done.
        promise: what holds all the same.
        outcome: failed, late, passed or skipped, by the worst of the fault's tests. Late: all held but a promised
            time, which a busy machine may take.
        figures: what was measured; the reason where it was skipped.
        seconds: the tests took.
    """

    kind: str
    fault: str
    promise: str
    outcome: str
    figures: str
    seconds: float


class Report:
    """A plugin of pytest that collects the rows of a run.

    Attributes:
        rows: of the tests that ended so far.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._marks: dict[str, tuple[str, str, str]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note what the tests say of themselves."""
        for item in items:
            mark = item.get_closest_marker("chaos")
            if mark is not None:
                self._marks[item.nodeid] = (mark.kwargs["kind"], mark.kwargs["fault"], mark.kwargs["promise"])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add the row of a test that ran, was skipped, or could not be set up."""
        if report.nodeid not in self._marks or (report.when != "call" and report.passed):
            return
        figures = "; ".join(str(value) for name, value in report.user_properties if name == FIGURES)
        if report.skipped and isinstance(report.longrepr, tuple):
            figures = report.longrepr[2].removeprefix("Skipped: ")
        late = report.passed and any(name == LATE for name, _ in report.user_properties)
        outcome = "late" if late else report.outcome
        self.rows.append(Row(*self._marks[report.nodeid], outcome, figures, report.duration))

    def merged(self) -> list[Row]:
        """Rows of the same fault and promise as one, in the order of the kinds."""
        groups: dict[tuple[str, str, str], list[Row]] = {}
        for row in self.rows:
            groups.setdefault((row.kind, row.fault, row.promise), []).append(row)
        merged = [_merge(rows) for rows in groups.values()]
        return sorted(merged, key=lambda row: KINDS.index(row.kind))


def _merge(rows: Sequence[Row]) -> Row:
    first = rows[0]
    outcomes = {row.outcome for row in rows}
    outcome = next(name for name in ("failed", "late", "passed", "skipped") if name in outcomes)
    tried = [row for row in rows if row.outcome != "skipped"] or rows
    figures = "; ".join(dict.fromkeys(row.figures for row in tried if row.figures))
    return Row(first.kind, first.fault, first.promise, outcome, figures, sum(row.seconds for row in rows))


def markdown(rows: Sequence[Row]) -> str:
    """The table in Markdown."""
    verdicts = {"passed": "yes", "late": "**late**", "failed": "**no**", "skipped": "not tried"}
    lines = ["| | fault | promised | held | figures of the run | s |", "| --- | --- | --- | --- | --- | --- |"]
    kind = ""
    for row in rows:
        cells = ("" if row.kind == kind else row.kind, row.fault, row.promise, verdicts[row.outcome], row.figures)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + f" | {row.seconds:.0f} |")
        kind = row.kind
    return "\n".join(lines)
