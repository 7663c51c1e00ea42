"""The gate: at the end of a run its objectives are judged, printed and stored, and give the exit code."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from loadtests.profiles import RECOVERY, Stage
from loadtests.results import tally
from loadtests.slo import Measured, Objectives, Verdict, failed, judge

if TYPE_CHECKING:
    from locust.stats import RequestStats

INTERRUPTED = 130  # the exit code of a program that Ctrl-C ended


class Gate:
    """The judge of one run.

    Args:
        stats: returns the current statistics: Locust replaces them when a run begins.
        report: folder of the table; None for none.
    """

    def __init__(
        self,
        objectives: Mapping[str, Objectives],
        stats: "Callable[[], RequestStats]",
        console: Console,
        report: Path | None = None,
    ) -> None:
        self._objectives, self._stats, self._console, self._report = objectives, stats, console, report
        self._recovery: dict[str, Measured | None] = {}
        self.verdicts: list[Verdict] = []

    def begin(self, stage: Stage) -> None:
        """Print that a stage begins."""
        if stage.name == RECOVERY:
            self._recovery = dict.fromkeys(self._objectives)
        self._console.print(f"{time.strftime('%H:%M:%S')} {stage.name}: {stage.users} users, {stage.seconds:.0f} s")

    def begin_recovery(self) -> None:
        """Judge the requests from now on also alone."""
        self._recovery = {model: tally.measured(self._stats(), model) for model in self._objectives}

    def judge(self, finished: bool, exceptions: int) -> int:
        """Return the exit code: 0 if all objectives are met, 1 if not, 130 for an interrupted run.

        Args:
            finished: whether the profile ran to its end.
            exceptions: number of failures of the load test itself.
        """
        for model, objectives in self._objectives.items():
            measured = tally.measured(self._stats(), model)
            before = self._recovery.get(model)
            # A run that ended before anything could be judged has not shown that the service recovers.
            recovery = measured.since(before) if before else Measured() if self._recovery else None
            self.verdicts += judge(model, objectives, measured, recovery)
        if exceptions:
            self.verdicts.append(Verdict("load test", "exceptions of its own", 0, exceptions))
        if not finished:
            return INTERRUPTED
        return 1 if failed(self.verdicts) else 0

    def show(self, code: int) -> None:
        """Print the table and the verdict of a code of ``judge``, and store them in the report."""
        table = Table("model", "objective", "limit", "measured", "")
        for verdict in self.verdicts:
            sign = "≥" if verdict.at_least else "≤"
            mark = "met" if verdict.met else "MISSED"
            table.add_row(
                verdict.model, verdict.objective, f"{sign} {verdict.limit:g}", f"{verdict.measured:.4g}", mark
            )
        lines = {
            0: ["every objective is met"],
            1: ["objectives missed:", *(f"  {verdict}" for verdict in failed(self.verdicts))],
            INTERRUPTED: ["interrupted: measured until then, not judged"],
        }[code]
        consoles = [self._console]
        if self._report:
            self._report.mkdir(parents=True, exist_ok=True)
            file = (self._report / "slo.txt").open("w", encoding="utf-8")
            consoles.append(Console(file=file, width=100))
        for console in consoles:
            console.print(table)
            console.print("\n".join(lines), markup=False)
        if self._report:
            file.close()
            self._console.print(f"report: {self._report / 'report.html'}", markup=False)
