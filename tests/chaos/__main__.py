"""``python -m tests.chaos``: make every fault for which there is a test, and print what held."""

import subprocess
import time
from datetime import date
from pathlib import Path
from typing import Annotated

import pytest
import typer
from rich.console import Console
from rich.table import Table

from serving.settings import ROOT
from tests.chaos.faults import FAULTS, RAY_FAULTS
from tests.chaos.report import Report, Row, markdown
from training.figures.machine import machine
from training.figures.text import Marks, put

MARKS = Marks("<!-- chaos: from here written by `make chaos` -->", "<!-- chaos: until here -->", "Reliability")
RAY_MARKS = MARKS._replace(begin="<!-- chaos: from here written by `make chaos-ray` -->")
console = Console(highlight=False, soft_wrap=True)


def main(
    page: Annotated[Path | None, typer.Option(help="Page to write the table into, as docs/reliability.md.")] = None,
    ray: Annotated[bool, typer.Option("--ray", help="Those of a cluster of Ray on three nodes, instead.")] = False,
    chosen: Annotated[str, typer.Option("--only", help="Part of the names of tests: only those.")] = "",
) -> None:
    """Make every fault, one after the other, and print what was promised, what held and the figures; 20 minutes."""
    campaign = RAY_FAULTS if ray else FAULTS
    report, started = Report(campaign), time.monotonic()
    files = sorted({str(ROOT / "tests" / test.partition("::")[0]) for fault in campaign for test in fault.ids})
    # All markers: those of the campaign that take minutes are no part of `make test`.
    code = pytest.main(["-m", "", "-q", *(["-k", chosen] if chosen else []), *files], plugins=[report])
    rows, minutes = report.rows(), (time.monotonic() - started) / 60
    _print(rows)
    summary = (
        f"{len(rows)} of {len(campaign)} faults in {minutes:.0f} min, commit {_commit()}, {date.today()}, {machine()}."
    )
    console.print(summary)
    if page is not None:
        put(f"{summary}\n\n{markdown(rows)}", page, RAY_MARKS if ray else MARKS)
    raise typer.Exit(int(code))


def _print(rows: list[Row]) -> None:
    table = Table("", "fault", "promised", "held", "figures")
    for row in rows:
        table.add_row(row.fault.kind, row.fault.fault, row.fault.promise, row.outcome, row.figures)
    console.print(table)


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    typer.run(main)
