"""``docs/practices.md``: the worth of each practice of applied deep learning here, from its command's figures.

Every number is read from ``docs/practices/COMMAND-MODEL.json``, the ``Result`` that the command wrote.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from serving import documents
from serving.documents import write_atomically
from training.figures.result import Result
from training.figures.text import table
from training.improve.ablate import Ablation
from training.improve.formats.result import Export
from training.improve.learning_curve import LearningCurve
from training.improve.optimize.result import Optimization
from training.improve.practices.effects import EFFECTS
from training.improve.practices.monitored import DriftAlarms, Replay
from training.improve.search_report import Search
from training.report.champion import Report

RESULTS = "practices"  # folder beside the page
KINDS: tuple[type[Result], ...] = (  # one section each, in this order
    Report,
    Ablation,
    Search,
    LearningCurve,
    Optimization,
    Export,
    DriftAlarms,
    Replay,
)
Results = Mapping[str, Result]  # by the file's name without suffix
HEAD = Path(__file__).with_name("head.md")  # text of the page before the figures


class Practice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row of the table at the top; ``practices.yaml`` explains its fields."""

    name: str
    command: str
    code: list[str]
    result: str = ""
    effect: str = ""
    of: list[str] = []
    note: str = ""

    def cells(self, results: Results) -> list[str]:
        """Return the cells of the row."""
        effect = EFFECTS[self.effect](results[self.result], *self.of) if self.effect else self.note
        return [self.name, self.command, ", ".join(f"[{Path(path).name}](../{path})" for path in self.code), effect]


PRACTICES = msgspec.yaml.decode(Path(__file__).with_name("practices.yaml").read_bytes(), type=list[Practice])


def read_results(folder: Path) -> dict[str, Result]:
    """Return the results in a folder, by file name without suffix.

    Raises:
        ValueError: a file is no result, or its command has no section here; names the file.
    """
    return {path.stem: _read(path) for path in sorted(folder.glob("*.json"))}


def _read(path: Path) -> Result:
    kinds = {kind.__struct_config__.tag: kind for kind in KINDS}
    try:
        document = documents.read_json(path, dict[str, Any])
        command = document["command"]
        if command in kinds:
            return kinds[command].from_document(document)
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path} is no result of a command: {error!r}") from error
    raise ValueError(f"{path}: the command {command!r} has no section in {Path(__file__).name}")


def write_result(result: Result, folder: Path, name: str = "") -> Path:
    """Write a command's result into the folder of results, by default as COMMAND-MODEL.json, and return the path."""
    path = folder / f"{name or f'{result.command}-{result.model}'}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    documents.write_json(path, result.to_document(), dict[str, Any], private=False)
    return path


def write_page(docs: Path) -> Path:
    """Write the page into a folder of documentation, and return its path.

    Raises:
        ValueError: a file among the results is none.
    """
    page = docs / "practices.md"
    write_atomically(page, render_folder(docs / RESULTS).encode())
    return page


def render_folder(folder: Path) -> str:
    """Render the page from a folder of results.

    Raises:
        ValueError: a file in it is no result.
    """
    return render(read_results(folder), [path.name for path in folder.glob("pictures/*.png")])


def render(results: Results, pictures: Sequence[str] = (), practices: Sequence[Practice] = tuple(PRACTICES)) -> str:
    """Render the page.

    Args:
        pictures: file names in the results' folder of pictures; each is shown in the section of its result.
        practices: rows of the table at the top; one whose result is not there yet is left out.
    """
    rows = [row.cells(results) for row in practices if not row.result or row.result in results]
    sections = [_section(kind, results, pictures) for kind in KINDS]
    shown = table(["practice", "command", "code", "effect here"], rows)
    return "\n".join([HEAD.read_text("utf-8"), shown, *filter(None, sections)])


def _section(kind: type[Result], results: Results, pictures: Sequence[str]) -> str:
    parts = []
    for stem, result in results.items():
        if not isinstance(result, kind):
            continue
        name = f"{stem}.png"
        shown = f"\n![{kind.heading}: {result.model}]({RESULTS}/pictures/{name})\n" if name in pictures else ""
        duration = f"`{result.command_line}`, {_duration(result.seconds)} on {result.machine}."
        parts.append(f"### `{result.model}`\n\n{duration}\n\n{result.markdown().strip()}\n{shown}")
    return f"## {kind.heading}\n\n" + "\n".join(parts) if parts else ""


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
