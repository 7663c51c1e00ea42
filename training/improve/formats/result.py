"""An export's figures, for the terminal and for the documentation."""

from msgspec import UNSET, UnsetType
from rich.console import Console

from training.figures.result import Result
from training.figures.text import table, terminal_table
from training.improve.formats.parity import Difference

HEADINGS = ("format", "kB", "runs on", "batch", "difference", "ms, 1 row", "ms, 64 rows")


class ExportRow(Difference, frozen=True, kw_only=True):
    """A format: its file, how far its answers are from the program's, and the median time of a call on one thread.

    Attributes:
        file: the model's, where there are several.
        bytes: size of all its files.
        batch: rows of a call.
    """

    format: str
    file: str
    bytes: int
    runtime: str
    batch: str
    p50_ms: float = 0.0
    p50_64_ms: float = 0.0

    def cells(self) -> list[str]:
        """Return the row of the table."""
        relative = self.max_relative_difference
        return [
            self.format,
            f"{self.bytes / 1000:,.1f}",
            self.runtime,
            self.batch,
            f"{self.max_abs_difference:.1e}",
            f"{self.label_agreement:.2%}" if relative is UNSET else f"{relative:.1e}",
            f"{self.p50_ms:.3f}",
            f"{self.p50_64_ms:.3f}" if self.p50_64_ms else "–",
        ]


class Export(Result, frozen=True, kw_only=True, tag="export"):
    """A champion in other formats.

    Attributes:
        compared_rows: held-out rows whose answers were compared.
        failed: reasons by format.
        graph: what the files are compared with; unset for a program of ``torch.export``.
    """

    heading = "Export"

    version: str
    compared_rows: int
    rows: list[ExportRow]
    failed: dict[str, str]
    graph: str | UnsetType = UNSET

    @property
    def title(self) -> str:
        """Title of the table."""
        graph = "program" if self.graph is UNSET else self.graph
        against = f"{self.model} {self.version} against its {graph} on {self.compared_rows:,} rows"
        return f"{against}: largest difference, median times on one thread"

    @property
    def headings(self) -> list[str]:
        """Head of the table."""
        classifies = any(row.label_agreement is not UNSET for row in self.rows)
        return [*HEADINGS[:5], "same label" if classifies else "relative", *HEADINGS[5:]]

    def markdown(self) -> str:
        """Return the table, and why formats failed."""
        failed = [f"- {name}: {why}\n" for name, why in self.failed.items()]
        shown = table(self.headings, (row.cells() for row in self.rows))
        return "".join([f"{self.title}.\n\n{shown}", *(["\n", *failed] if failed else [])])


def print_export(result: Export, console: Console) -> None:
    """Print the table of an export, and why formats failed."""
    if result.rows:
        rows = (row.cells() for row in result.rows)
        console.print(terminal_table(result.title, result.headings, rows, left=(0, 2), overflow="fold"))
    for why in result.failed.values():
        console.print("[red]error:[/red]", end=" ")
        console.print(why, markup=False)
