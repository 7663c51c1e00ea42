"""``docs/practices.md``: what each practice of applied deep learning is worth here, from the figures of its command.

Every number is read from ``docs/practices/COMMAND-MODEL.json``, which the command wrote; each of these files is an
object with ``command``, ``model``, ``seconds``, ``machine`` and ``rows``, a list of flat objects; ``run`` is the
command line where it is not that of ``training``.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from serving import documents
from serving.documents import write_atomically
from training.figures.text import table
from training.improve import ablate, learning_curve, search_report
from training.improve.formats.result import markdown as export_markdown
from training.improve.optimize.result import markdown as optimize_markdown
from training.improve.practices.effects import EFFECTS
from training.improve.practices.monitored import drift_markdown, replay_markdown
from training.report import champion

RESULTS = "practices"  # folder beside the page
# What renders a command's result, and under which heading.
SECTIONS: dict[str, tuple[Callable[[Mapping[str, Any]], str], str]] = {
    "report": (champion.markdown, "Evaluation and calibration"),
    "ablate": (ablate.markdown, "Training practices, one at a time"),
    "search": (search_report.markdown, "Hyperparameter search"),
    "learning-curve": (learning_curve.markdown, "What pretraining is worth"),
    "optimize": (optimize_markdown, "Compression"),
    "export": (export_markdown, "Export"),
    "drift": (drift_markdown, "Alarms of drift"),
    "replay": (replay_markdown, "The closed loop"),
}
Results = Mapping[str, Mapping[str, Any]]  # by the file's name without suffix
HEAD = Path(__file__).with_name("head.md")  # of the page, before the figures


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
        """The cells of the row."""
        effect = EFFECTS[self.effect](results[self.result], *self.of) if self.effect else self.note
        return [self.name, self.command, ", ".join(f"[{Path(path).name}](../{path})" for path in self.code), effect]


PRACTICES = msgspec.yaml.decode(Path(__file__).with_name("practices.yaml").read_bytes(), type=list[Practice])


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """The results in a folder, by file name without suffix.

    Raises:
        ValueError: a file is no result, or of a command that has no section here; names it.
    """
    results = {}
    for path in sorted(folder.glob("*.json")):
        try:
            result = msgspec.json.decode(path.read_bytes())
            has_section = result["command"] in SECTIONS and isinstance(result["model"], str)
        except (msgspec.DecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no result of a command: {error!r}") from error
        if not has_section:
            raise ValueError(f"{path}: the command {result['command']!r} has no section in {Path(__file__).name}")
        results[path.stem] = result
    return results


def write_result(result: Mapping[str, Any], folder: Path, name: str = "") -> Path:
    """Write a command's result where this page finds it, by default as COMMAND-MODEL.json; returns the path."""
    path = folder / f"{name or '{command}-{model}'.format_map(result)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    documents.write(path, result, dict[str, Any], private=False)
    return path


def write(docs: Path) -> Path:
    """Write the page of a folder of documentation; returns its path.

    Raises:
        ValueError: a file among the results is none.
    """
    page = docs / "practices.md"
    write_atomically(page, rendered(docs / RESULTS).encode())
    return page


def rendered(folder: Path) -> str:
    """The page from a folder of results.

    Raises:
        ValueError: a file in it is no result.
    """
    return render(read(folder), [path.name for path in folder.glob("*.png")])


def render(results: Results, pictures: Sequence[str] = (), practices: Sequence[Practice] = tuple(PRACTICES)) -> str:
    """The page.

    Args:
        pictures: file names in the folder of the results; each is shown in the section of its result.
        practices: rows of the table at the top; one whose result is not there yet is left out.
    """
    rows = [row.cells(results) for row in practices if not row.result or row.result in results]
    sections = [_section(command, results, pictures) for command in SECTIONS]
    shown = table(["practice", "command", "code", "effect here"], rows)
    return "\n".join([HEAD.read_text(), shown, *filter(None, sections)])


def _section(command: str, results: Results, pictures: Sequence[str]) -> str:
    markdown, heading = SECTIONS[command]
    parts = []
    for stem, result in results.items():
        if result["command"] != command:
            continue
        name = f"{stem}.png"
        shown = f"\n![{heading}: {result['model']}]({RESULTS}/{name})\n" if name in pictures else ""
        run = result.get("run", f"python -m training {command} {result['model']}")
        took = f"`{run}`, {_duration(result['seconds'])} on {result['machine']}."
        parts.append(f"### `{result['model']}`\n\n{took}\n\n{markdown(result).strip()}\n{shown}")
    return f"## {heading}\n\n" + "\n".join(parts) if parts else ""


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
